"""Data sets of images, by name."""

from ddl.data.sets.cifar10 import CIFAR10
from ddl.data.sets.mnist import MNIST
from ddl.data.sets.tinyimagenet import TINYIMAGENET

DATA_SETS = {recipe.name: recipe for recipe in (CIFAR10, MNIST, TINYIMAGENET)}
