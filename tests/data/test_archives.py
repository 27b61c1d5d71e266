import contextlib
import gzip
import io
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from ddl.data import archives
from ddl.data.archives import extract, gunzip
from ddl.data.integrity import Damaged


def tar(path: Path, *members: tuple[str, bytes, bytes], mode: str = "w:gz") -> Path:
    """Members are name, tarfile type, content (or link target)."""
    with tarfile.open(path, mode) as made:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(content)
            else:
                member.linkname = content.decode()
            made.addfile(member, io.BytesIO(content))
    return path


def zipped(path: Path, *members: tuple[str, int, bytes]) -> Path:
    """Members are name, Unix mode, content."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, mode, content in members:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(member, content)
    return path


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "box" / "into"


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_a_good_tar_file(tmp_path, into, mode):
    members = [("d", tarfile.DIRTYPE, b""), ("./d/x", tarfile.REGTYPE, b"1"), ("y", tarfile.REGTYPE, b"2")]
    made = tar(tmp_path / "a.tar", *members, mode=mode)
    extract(made, into)
    assert {str(p.relative_to(into)): p.read_bytes() for p in into.rglob("*") if p.is_file()} == {"d/x": b"1", "y": b"2"}


def test_a_good_zip_file(tmp_path, into):
    made = zipped(tmp_path / "a.whl", ("d/", stat.S_IFDIR, b""), ("d/x", stat.S_IFREG, b"1"), ("y", 0, b"2"))
    extract(made, into)
    assert {str(p.relative_to(into)): p.read_bytes() for p in into.rglob("*") if p.is_file()} == {"d/x": b"1", "y": b"2"}


def test_only_the_members_asked_for_under_their_new_names(tmp_path, into):
    made = tar(tmp_path / "a.tgz", ("p/x", tarfile.REGTYPE, b"1"), ("p/y", tarfile.REGTYPE, b"2"))
    extract(made, into, {"p/y": "z"})
    assert [p.name for p in into.iterdir()] == ["z"]
    with pytest.raises(Damaged, match="lacks p/q"):
        extract(made, into.parent / "2", {"p/q": "z"})


@pytest.mark.parametrize(
    ("name", "kind", "content"),
    [
        ("../x", tarfile.REGTYPE, b"1"),
        ("a/../../x", tarfile.REGTYPE, b"1"),
        ("/tmp/x", tarfile.REGTYPE, b"1"),
        ("..\\x", tarfile.REGTYPE, b"1"),
        ("C:x", tarfile.REGTYPE, b"1"),
        ("../d", tarfile.DIRTYPE, b""),
        ("link", tarfile.SYMTYPE, b"/etc/passwd"),
        ("link", tarfile.LNKTYPE, b"good"),
        ("device", tarfile.CHRTYPE, b""),
        ("device", tarfile.BLKTYPE, b""),
        ("pipe", tarfile.FIFOTYPE, b""),
    ],
)
@pytest.mark.parametrize("chosen", [None, {"good": "good"}])
def test_a_bad_member_of_a_tar_file_is_refused(tmp_path, into, name, kind, content, chosen):
    made = tar(tmp_path / "a.tgz", ("good", tarfile.REGTYPE, b"1"), (name, kind, content))
    with pytest.raises(Damaged, match="not unpacked"):
        extract(made, into, chosen)
    assert {p.name for p in into.parent.rglob("*")} == {"into", "good"}


def test_writing_through_a_link_is_refused(tmp_path, into):
    made = tar(tmp_path / "a.tgz", ("d", tarfile.SYMTYPE, str(tmp_path).encode()), ("d/x", tarfile.REGTYPE, b"1"))
    with pytest.raises(Damaged):
        extract(made, into)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("name", "mode"), [("../x", stat.S_IFREG), ("/x", stat.S_IFREG), ("link", stat.S_IFLNK), ("pipe", stat.S_IFIFO)])
def test_a_bad_member_of_a_zip_file_is_refused(tmp_path, into, name, mode):
    with pytest.raises(Damaged, match="not unpacked"):
        extract(zipped(tmp_path / "a.zip", (name, mode, b"target")), into)
    assert not list(into.parent.rglob("*"))


def test_a_bomb_is_refused_before_it_is_large(tmp_path, into):
    bombs = [
        tar(tmp_path / "a.tgz", ("x", tarfile.REGTYPE, bytes(20 << 20))),
        zipped(tmp_path / "a.zip", ("x", stat.S_IFREG, bytes(20 << 20))),
    ]
    for bomb in bombs:
        with pytest.raises(Damaged, match="more than 200 times its size"):
            extract(bomb, into / bomb.suffix)
    packed = tmp_path / "a.gz"
    packed.write_bytes(gzip.compress(bytes(20 << 20)))
    with pytest.raises(Damaged, match="more than 200 times its size"):
        gunzip(packed, into / "x")
    assert sum(p.stat().st_size for p in into.rglob("*") if p.is_file()) < 16 << 20


def test_a_bomb_in_a_header_is_refused(tmp_path, into):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", format=tarfile.PAX_FORMAT) as packed:
        member = tarfile.TarInfo("x")
        member.pax_headers = {"comment": "0" * (20 << 20)}
        packed.addfile(member)
    (tmp_path / "a.tgz").write_bytes(made.getvalue())
    with pytest.raises(Damaged, match="more than 200 times its size"):
        extract(tmp_path / "a.tgz", into)


def test_a_sparse_file_is_refused(tmp_path, into):
    made = tar(tmp_path / "a.tar", ("x", tarfile.REGTYPE, b""), mode="w")
    header = bytearray(made.read_bytes())
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[483:495] = b"%011o\0" % (8 << 30)
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header[:512])
    made.write_bytes(header)
    with pytest.raises(Damaged, match="neither a file nor a folder"):
        extract(made, into)


def test_too_many_files_are_refused(tmp_path, into, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILES", 3)
    made = tar(tmp_path / "a.tgz", *((str(number), tarfile.REGTYPE, b"") for number in range(5)))
    with pytest.raises(Damaged, match="more than 3 files"):
        extract(made, into)


def test_a_name_twice_is_refused(tmp_path, into):
    extract(tar(tmp_path / "c.tgz", ("x", tarfile.REGTYPE, b"1"), ("x", tarfile.REGTYPE, b"1")), into.parent / "same")
    assert (into.parent / "same" / "x").read_bytes() == b"1", "the same file twice is no contradiction"
    with pytest.raises(Damaged, match="contains x twice"):
        extract(tar(tmp_path / "a.tgz", ("x", tarfile.REGTYPE, b"1"), ("x", tarfile.REGTYPE, b"2")), into)
    with pytest.raises(Damaged, match="two of its names collide"):
        extract(tar(tmp_path / "b.tgz", ("y", tarfile.REGTYPE, b"1"), ("y/z", tarfile.REGTYPE, b"2")), into)


def test_a_truncated_or_foreign_file_is_refused(tmp_path, into):
    whole = tar(tmp_path / "a.tgz", ("x", tarfile.REGTYPE, bytes(range(256)) * 100)).read_bytes()
    for number, content in enumerate([whole[:-20], whole[: len(whole) // 2], b"", b"no archive at all" * 100, b"\x1f\x8bjunk"]):
        path = tmp_path / f"{number}.tgz"
        path.write_bytes(content)
        with pytest.raises(Damaged, match=r"cut off or not an archive|lacks x"):
            extract(path, into / str(number), {"x": "x"})
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"1" * 1000)[:-9])
    with pytest.raises(Damaged, match="cut off or not gzip"):
        gunzip(tmp_path / "x.gz", into / "x")


def test_gunzip(tmp_path, into):
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"1234"))
    gunzip(tmp_path / "x.gz", into / "x")
    assert (into / "x").read_bytes() == b"1234"


def zip_with(path: Path, **changes: int) -> Path:
    """A zip file with one file, and other values in the central directory: offsets by name."""
    made = bytearray(zipped(path, ("x", stat.S_IFREG, b"content of x")).read_bytes())
    central, local = made.index(b"PK\x01\x02"), made.index(b"PK\x03\x04")
    offsets = {"flags": (central + 8, local + 6), "method": (central + 10, local + 8), "version": (central + 6,), "offset": (central + 42,)}
    for name, value in changes.items():
        for offset in offsets[name]:
            made[offset : offset + 2] = value.to_bytes(2, "little")
    path.write_bytes(made)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"method": 99},
        {"method": 12},
        {"method": 14},
        {"method": 9},
        {"flags": 1},
        {"flags": 0x20},
        {"flags": 0x40},
        {"version": 200},
        {"offset": 60000},
    ],
)
def test_an_unknown_method_or_flag_of_a_zip_file_is_damage(tmp_path, into, changes):
    with pytest.raises(Damaged, match=r"a\.zip"):
        extract(zip_with(tmp_path / "a.zip", **changes), into)


@pytest.mark.parametrize("name", ["x" * 300, "d/" * 600 + "x", "."])
def test_a_name_that_no_file_can_have_is_damage(tmp_path, into, name):
    for made in (tar(tmp_path / "a.tgz", (name, tarfile.REGTYPE, b"1")), zipped(tmp_path / "a.zip", (name, stat.S_IFREG, b"1"))):
        with pytest.raises(Damaged):
            extract(made, into)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["zip", "tgz", "tar"])
def test_an_altered_archive_is_unpacked_or_damaged(tmp_path, into, seed, kind):
    random_ = random.Random(seed)
    members = [(name, tarfile.REGTYPE, b"some text " * 50) for name in ("a", "d/b", "c" * 120)]
    if kind == "zip":
        whole = zipped(tmp_path / "a", *((name, stat.S_IFREG, content) for name, _, content in members)).read_bytes()
    else:
        whole = tar(tmp_path / "a", *members, mode="w" if kind == "tar" else "w:gz").read_bytes()
    for attempt in range(60):
        altered = bytearray(whole)
        for _ in range(random_.choice([1, 1, 4])):
            altered[random_.randrange(len(altered))] = random_.randrange(256)
        path = tmp_path / "altered"
        path.write_bytes(altered[: random_.choice([None, random_.randrange(len(altered))])])
        with contextlib.suppress(Damaged):
            extract(path, into / str(attempt))
    assert {place.name for place in tmp_path.iterdir()} <= {"a", "altered", "bin", into.parent.name}
