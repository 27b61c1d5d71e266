"""Tests that every hyperparameter of text generation has its effect, and that bits per character compare the levels."""

import dataclasses
import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from ddl.data import sources
from ddl.tasks.text_generation import TextGeneration

from .steps import CPU, make_task, without_times

TINY = {
    "seed": 3,
    "content": "sample",
    "limit": 6000,
    "words": 200,
    "subwords": 150,
    "embedding": 8,
    "hidden": 16,
    "layers": 1,
    "dropout": 0.1,
    "length": 20,
    "context": 10,
    "lr": 0.02,
    "batch_size": 16,
    "epochs": 1,
    "temperatures": [0.5, 1.0],
    "texts": 3,
    "text_length": 60,
    "references": 3,
}


def task(**changed) -> TextGeneration:
    return make_task("text_generation", **TINY | changed)


def outcome(**changed) -> tuple[dict[str, float], str]:
    *_, progress = task(**changed).run(CPU)
    return without_times(progress.metrics), progress.texts["texts.txt"]


CHANGES = {
    "seed": 4,
    "limit": 7000,
    "held_out": 0.2,
    "level": "word",
    "embedding": 10,
    "hidden": 20,
    "layers": 2,
    "dropout": 0.3,
    "length": 30,
    "context": 2,
    "lr": 0.01,
    "clip": 0.1,
    "batch_size": 8,
    "epochs": 2,
    "temperatures": [0.5, 2.0],
    "prompt": "HAMLET",
    "texts": 4,
    "text_length": 80,
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
    elsewhere = {"script", "content", "words", "subwords", "references", "selected_by"}  # separate tests below
    assert {item.name for item in dataclasses.fields(TextGeneration)} == CHANGES.keys() | elsewhere


@pytest.mark.parametrize(("level", "size"), [("word", "words"), ("subword", "subwords")])
def test_the_size_of_a_vocabulary(level, size):
    assert next(task(level=level, **{size: 120}).run(CPU)).metadata["vocabulary"] == 120


@pytest.fixture
def script(tmp_path):
    """A user's text that can be memorised."""
    path = tmp_path / "script.txt"
    path.write_text("ARYA. Valar morghulis.\nJAQEN. Valar dohaeris, girl.\n" * 60)
    return path


def test_a_script_of_the_user_is_not_a_fallback(script):
    data = next(task(script=str(script)).run(CPU)).metadata["data"]
    assert (data["name"], data["source"], data["complete"], data["fallback_for"]) == ("script.txt", f"file {script}", True, "")


def test_a_sample_of_the_plays_is_recorded_as_a_fallback_too(monkeypatch):
    item = sources.load_file("plays", "sample")
    item = replace(item, origin=replace(item.origin, fallback_for="the whole of plays"))
    monkeypatch.setattr(sources, "load_file", lambda *arguments: item)
    data = next(task().run(CPU)).metadata["data"]
    assert data["fallback_for"] == "the Game of Thrones script of the study, and the whole of plays"


def test_the_plays_are_recorded_as_a_fallback():
    data = next(task().run(CPU)).metadata["data"]
    assert (data["name"], data["fallback_for"]) == ("plays", "the Game of Thrones script of the study")


@pytest.mark.parametrize("level", ["character", "subword"])
def test_what_can_be_learnt_by_heart_is(script, level):
    changed = {"epochs": 6, "batch_size": 2, "hidden": 32, "dropout": 0.0, "subwords": 40, "text_length": 150}
    metrics, texts = outcome(script=str(script), level=level, temperatures=[0.1], prompt="ARYA", **changed)
    assert metrics["val/bits_per_character"] < 0.3
    assert metrics["val/bleu4_temperature_0_1"] > 0.8
    assert "ARYA. Valar morghulis.\nJAQEN. Valar dohaeris, girl.\n" in texts


def test_bits_per_character_are_the_loss_over_characters_where_nothing_is_unknown(script):
    for level in ("character", "subword"):
        run = task(script=str(script), level=level).run(CPU)
        first = next(run)
        assert first.metadata["unknown_tokens"] == 0.0
        *_, last = run
        bits = last.metrics["val/loss"] / math.log(2) / first.metadata["characters_per_token"]
        assert last.metrics["val/bits_per_character"] == pytest.approx(bits, rel=0.02)


def test_a_small_vocabulary_does_not_look_better_for_what_it_leaves_out():
    """With ten words nearly every token is unknown, and so easily foreseen; spelling them costs."""
    few, many = (outcome(level="word", words=size, limit=20000, epochs=2)[0] for size in (10, 1000))
    assert few["val/perplexity"] < 0.2 * many["val/perplexity"]
    assert few["val/bits_per_character"] > many["val/bits_per_character"]


@pytest.mark.parametrize("temperature", [0.0, -0.5])
def test_a_temperature_that_is_not_above_0_is_refused(temperature):
    with pytest.raises(ValidationError, match=r"temperatures\.0\s+Input should be greater than 0"):
        task(temperatures=[temperature])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"script\.txt: empty"),
        ("Käse".encode("latin-1"), r"script\.txt: not UTF-8: byte 0xe4 at 1"),
        (None, r"script\.txt: cannot be read"),
    ],
)
def test_a_script_that_is_none_is_named(tmp_path, content, said):
    if content is not None:
        (tmp_path / "script.txt").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        next(task(script=str(tmp_path / "script.txt")).run(CPU))


def test_a_character_never_seen_is_named():
    with pytest.raises(ValueError, match=r"task\.prompt: '\u96ea' not in the vocabulary"):
        next(task(prompt="A \u96ea").run(CPU))
