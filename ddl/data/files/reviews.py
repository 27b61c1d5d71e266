"""10,605 sentences of film reviews (Pang and Lee, Seeing Stars, 2005), each rated from -4 to 4 by ten people (Hutto and Gilbert,
VADER, 2014), all of them bundled. A line: number, mean rating, sentence, separated by tabs, in Latin-1."""

from pathlib import Path

from ddl.data.archives import extract
from ddl.data.packages import Package
from ddl.data.recipe import FileRecipe

FILE = "movieReviewSnippets_GroundTruth.txt"
CHECKSUM = "sha256:c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"
INNER = "hutto_ICWSM_2014.tar.gz"
"""The authors' data in the sdist: an archive in the archive."""


def _rebuild(work: Path, content: Path) -> None:
    extract(work / INNER, content, {f"hutto_ICWSM_2014/{FILE}": FILE})


REVIEWS = FileRecipe(
    name="reviews",
    file=FILE,
    checksum=CHECKSUM,
    package=Package(
        kind="sdist",
        requirement="vaderSentiment==0.5",
        sha256="5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
        members={f"vaderSentiment-0.5/additional_resources/{INNER}": INNER},
        rebuild=_rebuild,
    ),
    sample=CHECKSUM,
)
