import math

import pytest

from ddl.metrics.bleu import corpus_bleu, passages

TEXT = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer."


def test_the_same_text_has_all_of_it():
    assert corpus_bleu([TEXT, TEXT], [TEXT]) == pytest.approx(1.0)
    assert corpus_bleu([TEXT], ["nothing of it here at all", TEXT]) == pytest.approx(1.0)


def test_by_hand():
    """Of 6 words 5 are found, of 5 pairs 3, of 4 triples 2, of 3 fours 1; and it is as long as its reference."""
    expected = math.exp(sum(map(math.log, (5 / 6, 3 / 5, 2 / 4, 1 / 3))) / 4)
    assert corpus_bleu(["a b c d x e"], ["a b c d e f"]) == pytest.approx(expected)


def test_it_is_the_corpus_that_is_counted_and_not_each_text():
    """The second text has no four words in common, which would make a mean of texts' own BLEU 0.5."""
    both = corpus_bleu(["a b c d e", "a x c y e"], ["a b c d e"])
    assert 0.5 < both < 1
    assert corpus_bleu(["a x c y e"], ["a b c d e"]) == 0.0


def test_marks_are_words_wherever_they_stand():
    assert corpus_bleu(["to be , or not to be"], ["to be, or not to be"]) == pytest.approx(1.0)


def test_no_text_at_all_has_none():
    assert corpus_bleu([""], [TEXT]) == 0.0


def test_passages_are_spaced_over_the_text():
    text = " ".join(f"w{number}" for number in range(100))
    found = passages(text, 4, 10)
    assert [passage.split()[0] for passage in found] == ["w0", "w30", "w60", "w90"]
    assert {len(passage.split()) for passage in found} == {10}
    assert found[-1].endswith("w99")
    assert passages("a b c", 5, 10) == ["a b c"]
    assert passages("", 5, 10) == []
