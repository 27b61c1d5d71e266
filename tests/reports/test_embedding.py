"""Files written by trials: their order on the page, and which of them a page embeds."""

import re

import pytest

from ddl.reports import artefacts, embedding, html, model
from ddl.reports.embedding import EmbeddingBudget

from .synthetic import create_many, leave, png
from .test_html import HOSTILE

FINAL = {"none": 0.80, "light": 0.765}
NONE, LIGHT = ("0000-synthetic", "0001-synthetic"), ("0002-synthetic", "0003-synthetic")
"""Trial ids by seed."""

DRAWING = b'<svg xmlns="http://www.w3.org/2000/svg"><script>document.title = "owned"</script></svg>'


@pytest.fixture
def run(make_run):
    """Two configurations, two seeds; every trial wrote digits of three epochs."""
    folder = make_run(FINAL, seeds=[0, 1], epochs=2)
    for trial in (*NONE, *LIGHT):
        for epoch in (10, 9, 2):  # not in order, and out of order as text
            leave(folder, trial, f"digits-{epoch}.png", png(8, epoch))
    return folder


def listed(folder, find):
    return find(folder, model.build_report([folder]).runs[0].trials)


def images(folder, budget=None):
    return embedding.embed_images(listed(folder, artefacts.find_images), budget or EmbeddingBudget())


def test_strips_are_by_name_seed_configuration_and_number(run):
    leave(run, NONE[0], "confusion.png", png(8))
    confusion, digits = images(run)
    assert (confusion.name, confusion.numbered, digits.name, digits.numbered) == ("confusion", False, "digits", True)
    order = [
        [(f.image.configuration, f.image.seed, f.image.number) for f in frames] for trials in digits.seeds.values() for frames in trials
    ]
    assert order == [[(name, seed, n) for n in (2, 9, 10)] for seed in (0, 1) for name in FINAL]
    assert all(frame.uri.startswith("data:image/png;base64,") for trials in digits.seeds.values() for frames in trials for frame in frames)


def test_the_budget_goes_to_first_seeds_first_and_the_rest_is_named(run):
    each = len(png(8))
    (digits,) = images(run, EmbeddingBudget(images=7 * each + each // 2))
    assert [len(frames) for trials in digits.seeds.values() for frames in trials] == [3, 3, 1]
    assert "5 images of seed 1." in digits.left_out
    assert "figures" in digits.left_out
    (digits,) = images(run, EmbeddingBudget(images=0))
    assert digits.seeds == {}
    assert "12 images of seeds 0, 1." in digits.left_out


def test_files_that_cannot_be_shown_say_why(run):
    leave(run, NONE[0], "half.png", png(8)[:-20])
    leave(run, NONE[0], "huge.png", png(500))
    leave(run, NONE[0], "page.svg", b"<html></html>")
    leave(run, NONE[0], "notes.pdf", b"no figure")
    found = {group.name: group for group in images(run)}
    assert set(found) == {"digits", "half", "huge", "page"}
    problems = {name: found[name].seeds[0][0][0].problem for name in ("half", "huge", "page")}
    assert problems == {
        "half": "is not a complete PNG file",
        "huge": "too large to include (751.5 kB)",
        "page": "is not a complete SVG file",
    }
    assert not any(found[name].seeds[0][0][0].uri for name in problems)


def test_a_file_that_is_gone_again_does_not_stop_the_report(run):
    found = listed(run, artefacts.find_images)
    found[0].path.unlink()
    (digits,) = embedding.embed_images(found, EmbeddingBudget())
    assert digits.seeds[0][0][0].problem == "cannot be read (No such file or directory)"


def test_texts_show_their_opening_and_the_last_text_of_a_trial_first(make_run, tmp_path):
    folder = make_run(FINAL, seeds=[0, 1], epochs=2)
    leave(folder, NONE[0], "story-1.txt", b"early")
    leave(folder, NONE[0], "story-2.txt", b"w" * 700 + b"END")
    leave(folder, NONE[0], "story-3.txt", ("ü" * 30_000).encode() + b"\xff")
    (story,) = embedding.embed_texts(listed(folder, artefacts.find_texts), EmbeddingBudget())
    early, longer, longest = story.seeds[0][0]
    assert (early.opening, early.whole, early.problem) == ("early", "", "")
    assert (len(longer.opening), longer.whole[-3:]) == (600, "END")
    assert (len(longest.whole), longest.problem) == (20_000, "cut after 20,000 characters")
    (story,) = embedding.embed_texts(listed(folder, artefacts.find_texts), EmbeddingBudget(texts=100))
    assert [embedded.text.number for embedded in story.seeds[0][0]] == [3]
    assert "2 texts of seed 0." in story.left_out


def test_text_and_drawings_are_never_part_of_the_page(make_run, tmp_path):
    folder = make_run(FINAL, seeds=[0], epochs=2)
    leave(folder, "0000-synthetic", "story.txt", ("</pre>" + HOSTILE + "x" * 700).encode())
    leave(folder, "0000-synthetic", "drawing.svg", DRAWING)
    leave(folder, "0000-synthetic", "<img src=x onerror=alert(1)>.svg", DRAWING)
    written = html.render_html(model.build_report([folder]))
    assert written.count("&lt;/pre&gt;&lt;/script&gt;") == 2, "its beginning and the whole"
    assert "</pre></script>" not in written
    assert "<img src=x" not in written
    assert 'document.title = "owned"' not in written
    assert len(re.findall(r'<img src="data:image/svg\+xml;base64,', written)) == 2


def test_a_thousand_trials_with_images_stay_small(tmp_path):
    folder = create_many(tmp_path / "thousand", images=True)
    written = html.render_html(model.build_report([folder]))
    assert len(written.encode()) <= 15e6
    assert "Left out to limit the size of this page" in written
    assert written.count("<img ") > 1000


def test_runs_share_what_a_page_may_hold(run, monkeypatch):
    monkeypatch.setattr(embedding, "IMAGES_BYTES", 8 * len(png(8)))
    written = html.render_html(model.build_report([run, run]))
    assert written.count("<img ") == 8
    assert written.count("8 images of seeds 0, 1.") == 2


def test_names_without_a_separator_are_no_series(tmp_path):
    assert artefacts._NUMBERED.fullmatch("p50") is None
    assert artefacts._NUMBERED.fullmatch("digits_012").groups() == ("digits", "012")
