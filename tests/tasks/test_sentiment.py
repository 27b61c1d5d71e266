"""Tests that every hyperparameter of the sentiment task has its effect, and which phrases the three models can separate."""

import dataclasses
from dataclasses import replace

import pytest
import torch

from ddl.data import reviews, sources
from ddl.data.reviews import Reviews
from ddl.tasks import sentiment
from ddl.tasks.sentiment import Sentiment

from .steps import CPU, make_task, without_times

TINY = {
    "seed": 3,
    "content": "sample",
    "train_limit": 80,
    "val_limit": 40,
    "words": 300,
    "min_count": 1,
    "longest": 15,
    "model": "lstm",
    "hidden": 6,
    "dropout": 0.1,
    "batch_size": 16,
    "epochs": 1,
}


def task(**changed) -> Sentiment:
    return make_task("sentiment", **TINY | changed)


def last(**changed):
    *_, progress = task(**changed).run(CPU)
    return progress


def outcome(**changed) -> tuple[dict[str, float], str]:
    progress = last(**changed)
    return without_times(progress.metrics), progress.texts["words.txt"]


CHANGES = {
    "seed": 4,
    "train_limit": 100,
    "val_limit": 30,
    "words": 200,
    "min_count": 2,
    "longest": 10,
    "model": "lstm_frozen",
    "hidden": 8,
    "dropout": 0.3,
    "pooling": "max",
    "bidirectional": True,
    "lr": 0.01,
    "batch_size": 8,
    "epochs": 2,
    "phrases": ["good"],
    "word": "film",
    "holdout": 0.2,
    "precision": "bf16",
}


@pytest.fixture(scope="module")
def unchanged():
    torch.set_num_threads(1)
    return outcome()


@pytest.mark.parametrize("name", CHANGES)
def test_every_hyperparameter_makes_a_difference(name, unchanged):
    assert outcome(**{name: CHANGES[name]}) != unchanged


def test_no_hyperparameter_is_left_out():
    elsewhere = {"content", "embedding", "vectors", "width", "selected_by"}  # separate tests below
    assert {item.name for item in dataclasses.fields(Sentiment)} == CHANGES.keys() | elsewhere


def test_an_lstm_is_stacked_in_fp32_alone():
    stackable = {
        (model, precision)
        for model in ("average", "lstm")
        for precision in ("fp32", "bf16")
        if task(model=model, precision=precision).can_stack()
    }
    assert stackable == {("average", "fp32"), ("average", "bf16"), ("lstm", "fp32")}


def test_the_width_of_averaged_embeddings():
    sizes = [next(task(model="average", embedding=width).run(CPU)).metadata for width in (1, 3)]
    assert [metadata["parameters"] for metadata in sizes] == [
        metadata["vocabulary"] * width + 2 * width + 2 for metadata, width in zip(sizes, (1, 3), strict=True)
    ]


def test_metadata_has_the_fallback_and_the_vectors():
    metadata = next(task().run(CPU)).metadata
    assert (metadata["data"]["name"], metadata["data"]["fallback_for"]) == ("reviews", "imdb")
    assert (metadata["data"]["train"], metadata["data"]["val"]) == (80, 40)
    assert (metadata["vectors"]["name"], metadata["vectors"]["source"]) == ("glove", "bundled sample")
    assert 0.8 < metadata["words_with_vectors"] < 1
    trained, frozen = (next(task(model=model).run(CPU)).metadata["parameters"] for model in ("lstm", "lstm_frozen"))
    assert trained - frozen == metadata["vocabulary"] * 50


def test_a_fallback_for_the_vectors_is_one_for_the_data(monkeypatch):
    load_file = sources.load_file

    def unreachable(name, content):
        item = load_file(name, content)
        return replace(item, origin=replace(item.origin, fallback_for=f"the whole of {name}"))

    monkeypatch.setattr(sources, "load_file", unreachable)
    assert next(task().run(CPU)).metadata["data"]["fallback_for"] == "the whole of imdb; the whole of glove"
    assert next(task(model="average").run(CPU)).metadata["data"]["fallback_for"] == "the whole of imdb"


def test_phrases_are_optional():
    metrics, text = outcome(phrases=[])
    assert "val/accuracy" in metrics
    assert not any("phrase" in name for name in metrics)
    assert "probability" not in text.lower()


def test_frozen_vectors_put_numbers_beside_8_as_in_the_studys_table_8():
    _, text = outcome(model="lstm_frozen", train_limit=0, words=20000)
    near = text.split("nearest first:\n  ")[1].strip().split(", ")
    assert len(near) == 10
    assert {"9", "7", "6", "5", "4", "3", "12", "10"} <= set(near)


@pytest.fixture
def negations(monkeypatch) -> None:
    """Texts whose label depends on the word order alone."""
    texts = [("it is good and not bad", 1), ("it is bad and not good", 0), ("not bad , it is good", 1), ("not good , it is bad", 0)] * 40
    part = Reviews([text for text, _ in texts], [label for _, label in texts])
    monkeypatch.setattr(reviews, "read_reviews", lambda _: (part, part))
    sentiment._encoded.cache_clear()
    yield
    sentiment._encoded.cache_clear()


PHRASES = ["it is bad and not good", "it is good and not bad"]


@pytest.mark.parametrize("model", ["lstm", "lstm_frozen"])
def test_an_lstm_tells_phrases_apart_that_differ_in_their_order(negations, model):
    found, _ = outcome(model=model, phrases=PHRASES, train_limit=0, val_limit=0, hidden=16, lr=0.02, epochs=15, dropout=0.0, word="good")
    assert found["val/accuracy"] == 1.0
    assert found["val/phrase_1_probability"] < 0.1
    assert found["val/phrase_2_probability"] > 0.9


def test_averaged_embeddings_cannot(negations):
    found, text = outcome(model="average", phrases=PHRASES, train_limit=0, val_limit=0, lr=0.02, epochs=5, word="8")
    assert found["val/accuracy"] == pytest.approx(0.5)
    assert found["val/phrase_1_probability"] == pytest.approx(found["val/phrase_2_probability"])
    assert "“8” is not in the vocabulary" in text


def test_vectors_of_the_users_own(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("the 1 0 1\nfilm 0 1 1\n")
    assert next(task(vectors=str(path), width=3).run(CPU)).metadata["vectors"] == {"source": f"file {path}"}
    with pytest.raises(ValueError, match=r"mine\.txt: line 1 has 3 numbers, not 50"):
        next(task(vectors=str(path)).run(CPU))
    path.write_text("FILM 0 1 1\n")
    with pytest.raises(ValueError, match=r"mine\.txt: has no vector for any of the .* words"):
        next(task(vectors=str(path), width=3).run(CPU))
    with pytest.raises(ValueError, match=r"none\.txt: cannot be read"):
        next(task(vectors=str(tmp_path / "none.txt")).run(CPU))


def test_an_empty_phrase_is_named():
    with pytest.raises(ValueError, match="a text is empty"):
        next(task(phrases=[" "]).run(CPU))


@pytest.mark.filterwarnings("ignore:The tensor attributes .* were assigned during export")  # of PyTorch's LSTM
@pytest.mark.parametrize("model", ["average", "lstm"])
def test_a_typical_text_is_timed_and_exported(model, tmp_path):
    """Half of the validation texts are shorter. The exported program takes batches of any size."""
    progress = last(model=model, pooling="last")
    predictor = progress.predictor()
    data = task().load_data(CPU)
    assert predictor.example.shape[1] == int(data.val.lengths.median())
    exported = torch.export.export(
        predictor.module.eval(), (predictor.example.repeat(2, 1),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    for n in (1, 3):
        texts = predictor.example.repeat(n, 1)
        assert torch.allclose(exported.module()(texts), predictor.module(texts), atol=1e-6)
