"""10,605 sentences of film reviews (Pang and Lee, Seeing Stars, 2005), each rated from -4 to 4 by ten people (Hutto and Gilbert,
VADER, 2014), all of them bundled. A line: number, mean rating, sentence, with tabs between them, in Latin-1."""

from collections.abc import Sequence
from pathlib import Path

from ddl.data import bundled_files
from ddl.data.archives import extract
from ddl.data.packages import pip_download
from ddl.data.recipe import Archive

FILE = "movieReviewSnippets_GroundTruth.txt"
CONTENT = {FILE: "sha256:c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"}
ARCHIVES = (Archive(FILE, CONTENT[FILE], ()),)
PACKAGE = "vaderSentiment==0.5"
PACKAGE_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
INNER = "hutto_ICWSM_2014.tar.gz"
SAMPLE = CONTENT
FALLBACK = ""


def unpack(archives: Sequence[Path], content: Path) -> None:
    (content / FILE).write_bytes(archives[0].read_bytes())


def from_package(work: Path, content: Path) -> str:
    """The sdist holds the authors' data as an archive in the archive."""
    packed = pip_download(PACKAGE, PACKAGE_SHA256, work, sdist=True)
    extract(packed, work, {f"vaderSentiment-0.5/additional_resources/{INNER}": INNER})
    extract(work / INNER, content, {f"hutto_ICWSM_2014/{FILE}": FILE})
    return f"PyPI package {PACKAGE}"


def sample(into: Path) -> None:
    bundled_files.unpack_bundled(FILE, into)
