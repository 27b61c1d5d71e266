"""Endings of the user's files that are read."""

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
"""Images, in upper or lower case."""
TABLE_ENDINGS = (".npz", ".parquet")
"""Tables."""
WEIGHTS_ENDINGS = (".safetensors", ".pth", ".pt")
"""Weights of a network."""
