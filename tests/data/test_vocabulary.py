import math

import pytest
import torch

from ddl.data.vocabulary import LEVELS, Vocabulary

TEXT = "the cat sat.\nThe dog, it's 12 years old;  it sat -- na\u00efve!\n" * 20
OTHER = "The bird\tsat\u2026 \u96ea 7!\r\n"


@pytest.mark.parametrize("level", LEVELS)
def test_the_tokens_of_a_text_are_that_text(level):
    vocabulary = Vocabulary.learn(TEXT, level, 60)
    ids, characters, spelling = vocabulary.encode(TEXT)
    assert vocabulary.decode(ids.tolist()) == TEXT
    assert characters.sum().item() == len(TEXT)
    assert not spelling.any()
    assert ids.min() > 0
    assert ids.max() < len(vocabulary)


@pytest.mark.parametrize("level", LEVELS)
def test_no_character_of_an_unknown_text_is_lost(level):
    _, characters, _ = Vocabulary.learn(TEXT, level, 60).encode(OTHER)
    assert characters.sum().item() == len(OTHER)


def test_levels_differ_in_how_much_a_token_holds():
    tokens = {level: len(Vocabulary.learn(TEXT, level, 45).encode(TEXT)[0]) for level in LEVELS}
    assert tokens["character"] == len(TEXT)
    assert tokens["word"] < tokens["subword"] < tokens["character"]


def test_a_vocabulary_of_words_has_its_size_and_keeps_the_frequent():
    vocabulary = Vocabulary.learn("a a a b b c\n", "word", 3)
    assert len(vocabulary) == 3
    ids, _, _ = vocabulary.encode(" a b c")
    assert ids.tolist().count(0) == 1


def test_what_is_unknown_costs_what_its_letters_do():
    text = "ab ab ab ba\n"
    vocabulary = Vocabulary.learn(text, "word", 3)  # " ab" and one more
    ids, _, spelling = vocabulary.encode(" bb")
    assert ids.tolist() == [0]
    counts, tokens = {" ": 3, "b": 4}, 5
    total = len(text) + tokens + 1
    expected = math.log2(total / counts[" "]) + 2 * math.log2(total / counts["b"]) + math.log2(total / tokens)
    assert spelling.item() == pytest.approx(expected, rel=1e-6)
    _, _, never_seen = vocabulary.encode("\u96ea")
    assert never_seen.item() == pytest.approx(math.log2(total) + math.log2(0x110000) + math.log2(total / tokens), rel=1e-6)


@pytest.mark.parametrize(("level", "named"), [("character", "'x'"), ("word", "'xx'"), ("subword", "'x'")])
def test_a_prompt_with_something_never_seen_is_refused(level, named):
    vocabulary = Vocabulary.learn("abc abc\n", level, 20)
    assert vocabulary.decode(vocabulary.prompt("abc").tolist()) == "abc"
    with pytest.raises(ValueError, match=rf"task\.prompt: {named} not in the vocabulary"):
        vocabulary.prompt("xx")
    with pytest.raises(ValueError, match=r"task\.prompt: empty"):
        vocabulary.prompt("")


def test_an_empty_text_and_an_unknown_level_are_refused():
    with pytest.raises(ValueError, match="empty"):
        Vocabulary.learn("", "word", 10)
    with pytest.raises(ValueError, match="'words': unknown"):
        Vocabulary.learn("a", "words", 10)


def test_the_same_text_gives_the_same_numbers():
    first, again = (Vocabulary.learn(TEXT, "subword", 60).encode(TEXT)[0] for _ in range(2))
    assert torch.equal(first, again)
