import pytest
import torch

from ddl.data.tokenised_texts import TokenisedTexts, WordVocabulary, read_vectors

TEXTS = ["The film isn't good.", "It's GOOD, good -- and the best!", "a bad, bad film"]


@pytest.fixture
def words() -> WordVocabulary:
    return WordVocabulary(TEXTS, size=100, min_count=1)


def test_words_are_split_as_glove_does_and_known_in_any_case(words):
    (ids,) = words.encode(["The FILM isn't good; it's unheard of."], longest=50)
    assert [words.words[number] for number in ids] == ["the", "film", "is", "n't", "good", "[UNK]", "it", "'s", "[UNK]", "[UNK]", "."]
    assert words.token_id("film") == words.encode(["Film"], 5)[0][0]
    assert words.token_id("Film") is None


def test_the_most_frequent_words_are_kept():
    few = WordVocabulary(TEXTS, size=4, min_count=1)
    assert few.words[:2] == ["[PAD]", "[UNK]"]
    assert len(few) == 4
    assert "good" in few.words
    assert set(WordVocabulary(TEXTS, size=100, min_count=2).words) == {"[PAD]", "[UNK]", "good", "film", "the", "bad", ",", "-"}


def test_of_a_long_text_the_end_is_read(words):
    whole, end = (words.encode(TEXTS[1:2], longest)[0] for longest in (50, 3))
    assert end == whole[-3:]


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_text_without_a_word_is_named(words, text):
    with pytest.raises(ValueError, match="a text is empty, or holds no word"):
        words.encode(["good", text], 10)


@pytest.fixture
def texts() -> TokenisedTexts:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 40, (103,), generator=generator).tolist()
    return TokenisedTexts.of([[place + 2] * length for place, length in enumerate(lengths)], [place % 2 for place in range(103)])


def test_a_batch_holds_each_text_padded_at_its_end(texts):
    tokens, targets, known = texts.batch(torch.tensor([5, 102, 0]))
    lengths = texts.lengths[[5, 102, 0]]
    assert known == lengths.tolist()
    assert tokens.shape == (3, lengths.max())
    assert targets.tolist() == [1, 0, 0]
    for row, length, value in zip(tokens.tolist(), lengths.tolist(), (7, 104, 2), strict=True):
        assert row == [value] * length + [0] * (len(row) - length)


def test_a_batch_is_the_same_if_its_indices_are_known_on_the_host(texts):
    for part in (texts, texts.by_length()):
        indices = torch.tensor([5, 102, 0])
        (tokens, targets, lengths), (expected, *others) = part.batch(indices, indices.numpy()), part.batch(indices)
        assert torch.equal(tokens, expected)
        assert [targets.tolist(), lengths] == [others[0].tolist(), others[1]]


def test_an_order_has_every_text_once_and_batches_of_like_length(texts):
    order = texts.order(torch.Generator().manual_seed(2), 10)
    assert order.sort().values.tolist() == list(range(103))
    padded = sum(len(part) * int(texts.lengths[part].max()) for part in order.split(10))
    at_random = sum(len(part) * int(texts.lengths[part].max()) for part in torch.randperm(103).split(10))
    assert padded < 1.25 * texts.lengths.sum() < at_random
    assert len(order.split(10)[-1]) == 3
    assert not torch.equal(order, texts.order(torch.Generator().manual_seed(3), 10))


def test_sorted_by_length_it_is_the_same_texts(texts):
    made = texts.by_length()
    assert made.lengths.tolist() == sorted(texts.lengths.tolist())
    assert sorted(row[0] for row in made.batch(torch.arange(103))[0].tolist()) == [place + 2 for place in range(103)]


def test_vectors_of_the_words_that_a_file_has(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("the 0.5 -1 2\nfilm 1e-3 0 1\n\u2028 1 1 1\n", encoding="utf-8")
    found, has = read_vectors(path, ["[PAD]", "film", "the", "bad"], 3)
    assert has.tolist() == [False, True, True, False]
    torch.testing.assert_close(found[1:3], torch.tensor([[1e-3, 0.0, 1.0], [0.5, -1.0, 2.0]]))
    assert not found[[0, 3]].any()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"the 1 2 3 4\n", r"vectors\.txt: line 1 has 4 numbers, not 3\. Give vectors of that width, or set task\.width"),
        (b"the 1 2 3\nfilm 1 2\n", r"vectors\.txt:2: the vector of 'film' is not 3 wide"),
        (b"the 1 2 3\nfilm 1 2 x\n", r"vectors\.txt:2: the vector of 'film'"),
        (b"the 1 2 3\nfilm\n", r"vectors\.txt:2: the vector of 'film'"),
        (b"the 1 2 3\nfilm 7\n", r"vectors\.txt:2: the vector of 'film' is not 3 wide"),
        (b"", r"vectors\.txt: empty"),
        (b"caf\xe9 1 2 3\n", r"vectors\.txt: not UTF-8"),
        (None, r"vectors\.txt: cannot be read"),
    ],
)
def test_a_file_of_another_form_is_named(tmp_path, content, said):
    if content is not None:
        (tmp_path / "vectors.txt").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_vectors(tmp_path / "vectors.txt", ["the", "film"], 3)
