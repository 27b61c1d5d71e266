import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from ddl.data import reviews, sources
from ddl.data.files import FILE_ITEMS
from ddl.data.files.imdb import IMDB
from ddl.data.files.reviews import REVIEWS
from ddl.data.integrity import Damaged
from ddl.data.sources import FileItem
from ddl.data.splits import Origin


def test_the_bundled_sentences_have_labels_of_both_kinds_and_none_twice():
    train, val = reviews.read_reviews(sources.load_file("reviews"))
    assert (len(train.texts), len(val.texts)) == (8_058, 2_012)
    assert not set(train.texts) & set(val.texts)
    assert len(set(train.texts)) == len(train.texts)
    for part in (train, val):
        assert 0.45 < sum(part.labels) / len(part.labels) < 0.55
    place = next(place for place, text in enumerate(train.texts) if text.startswith("The Rock is destined"))
    assert train.labels[place] == 1


def item(path: Path, name: str) -> FileItem:
    return FileItem(path, Origin(name, "", complete=True, fallback_for="", sha256=""))


def test_ratings_become_labels_and_neutral_ones_are_left_out(tmp_path):
    lines = ["1\t2.5\tgood", "2\t-0.5\tbad", "3\t0.49\tso", "4\t-0.49\tso so", "5\t0.5\tfair", "6\t-3\tcaf\xe9", "7\t1\tgood", ""]
    (tmp_path / REVIEWS.file).write_text("\n".join(lines), encoding="latin-1")
    train, val = reviews.read_reviews(item(tmp_path / REVIEWS.file, "reviews"))
    assert list(zip(train.texts, train.labels, strict=True)) == [("good", 1), ("bad", 0), ("caf\xe9", 0)]
    assert (val.texts, val.labels) == (["fair"], [1])


@pytest.mark.parametrize("line", ["1\tgood", "1\tmuch\tgood", "one\t1\tgood"])
def test_sentences_of_another_form_are_refused(tmp_path, line):
    (tmp_path / REVIEWS.file).write_text(line)
    with pytest.raises(Damaged, match="is not a number, rating and sentence"):
        reviews.read_reviews(item(tmp_path / REVIEWS.file, "reviews"))


def archive(files: dict[str, str]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"aclImdb/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()


OFFICIAL = {
    "README": "read me",
    "train/pos/0_9.txt": "Great!<br /><br />See it.",
    "train/neg/0_1.txt": "Na\u00efve.",
    "train/unsup/0_0.txt": "of no label",
    "test/neg/7_3.txt": "Dull.",
    "test/pos/3_10.txt": "Superb.",
    "train/urls_pos.txt": "http://",
}


def test_imdb_comes_from_its_official_archive_with_its_official_splits(tmp_path, monkeypatch):
    packed = archive(OFFICIAL)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / IMDB.file).write_bytes(packed)
    monkeypatch.setitem(FILE_ITEMS, "imdb", replace(IMDB, checksum=f"md5:{hashlib.md5(packed).hexdigest()}"))
    monkeypatch.setenv("DDL_DATA_MIRROR", str(tmp_path / "mirror"))
    found = sources.load_file("imdb")
    assert (found.origin.name, found.origin.complete, found.origin.fallback_for) == ("imdb", True, "")
    train, val = reviews.read_reviews(found)
    assert list(zip(train.texts, train.labels, strict=True)) == [("Na\u00efve.", 0), ("Great!  See it.", 1)]
    assert list(zip(val.texts, val.labels, strict=True)) == [("Dull.", 0), ("Superb.", 1)]


def test_an_archive_without_reviews_is_refused(tmp_path):
    (tmp_path / IMDB.file).write_bytes(archive({"README": "read me"}))
    with pytest.raises(Damaged, match="contains no reviews"):
        reviews.read_reviews(item(tmp_path / IMDB.file, "imdb"))
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / IMDB.file).write_bytes(archive(OFFICIAL)[:-40])
    with pytest.raises(Damaged, match="cut off or not an archive"):
        reviews.read_reviews(item(tmp_path / "cut" / IMDB.file, "imdb"))
