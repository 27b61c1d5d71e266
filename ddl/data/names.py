"""Names of data sets and file items. They can be checked before anything is imported that reads data."""

from collections.abc import Collection

from ddl.hints import did_you_mean

NAMES = ("cifar10", "mnist", "tinyimagenet", "airline", "efficientnet_b0", "glove", "imdb", "lite0", "plays", "reviews", "vgg16")
"""The data sets of images, then the items that stay files."""
CONTENTS = ("full", "sample")


def check_name(name: str, content: str = "full", known: Collection[str] = NAMES) -> None:
    """Raises ValueError if there is no data set or item `name`, or no such content of it. Reads no data."""
    if name not in known:
        raise ValueError(f"data set {name!r}: unknown.{did_you_mean(str(name), known)} There are: {', '.join(known)}.")
    if content not in CONTENTS:
        raise ValueError(f"content {content!r} of data set {name}: unknown. There are: {', '.join(CONTENTS)}.")
