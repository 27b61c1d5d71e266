"""Shapes of images: those of the data sets, and the size that the user's own become."""

CIFAR10_SHAPE = (3, 32, 32)
"""Channels, height and width of CIFAR-10."""
MNIST_SHAPE = (1, 28, 28)
"""Channels, height and width of MNIST."""
DEFAULT_SIZE = 64
"""Side in pixels of the user's own images, after they are resized and cropped, unless a task sets another."""
