import pytest
import torch

from ddl.data import text_windows
from ddl.data.text_windows import TextWindows


def windows(n: int, first: int, length: int, context: int) -> TextWindows:
    return TextWindows(torch.arange(n), torch.ones(n), torch.zeros(n), first, length, context)


@pytest.mark.parametrize(("n", "first", "length", "context"), [(20, 1, 5, 0), (23, 11, 4, 3), (13, 12, 8, 8), (40, 1, 64, 0)])
def test_each_token_is_predicted_once_from_those_before_it(n, first, length, context):
    made = windows(n, first, length, context)
    inputs, targets, weights, characters, _ = made.batch(torch.arange(len(made)))
    assert inputs.shape == targets.shape == weights.shape == (len(made), context + length)
    counted = weights.bool()
    assert targets[counted].tolist() == list(range(first, n)), "one is missing, or counted twice"
    assert torch.equal(inputs[counted], targets[counted] - 1)
    assert characters.sum().item() == n - first


def test_a_context_is_the_very_text_before():
    made = windows(40, 20, 5, 6)
    inputs, _, weights, *_ = made.batch(torch.tensor([1]))
    assert inputs[0].tolist() == list(range(18, 29))
    assert weights[0].tolist() == [0.0] * 6 + [1.0] * 5


def test_an_order_has_every_window_once():
    made = windows(100, 1, 7, 0)
    assert made.order(torch.Generator().manual_seed(1), 4).sort().values.tolist() == list(range(len(made)))


def test_a_text_is_parted_at_the_end_of_a_line():
    first, last = text_windows.split_text("one two\nthree four\nfive\nsix\n", 0.3)
    assert first + last == "one two\nthree four\nfive\nsix\n"
    assert last == "six\n"
    assert text_windows.split_text("abcdefghij", 0.2) == ("abcdefgh", "ij")


def test_a_text_of_one_character_cannot_be_parted():
    with pytest.raises(ValueError, match="the script has 1 characters: too few"):
        text_windows.split_text("a", 0.1)


def test_a_text_is_read_without_its_byte_order_mark(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfab\r\nna\xc3\xafve\n")
    assert text_windows.read_text(tmp_path / "a.txt") == "ab\nna\u00efve\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"caf\xe9 au lait", r"a\.txt: not UTF-8: byte 0xe9 at 3\. Save it as UTF-8"),
        (b"", r"a\.txt: empty"),
        (b" \n\n", r"a\.txt: empty"),
        (None, r"a\.txt: cannot be read \(No such file or directory\)"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, content, said):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        text_windows.read_text(tmp_path / "a.txt")
