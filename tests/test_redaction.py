import json
from pathlib import Path
from urllib.parse import quote

import pytest

from ddl.redaction import Redactor, printable

SECRET = "canary-5f0e93c1d2"


@pytest.fixture
def redactor(tmp_path: Path) -> Redactor:
    return Redactor(tmp_path / "a run" / "here", {"SOME_API_KEY": SECRET, "LOGIN_TOKEN": "true", "HOSTNAME": "worker-node-17"})


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (f"refused {SECRET}!", "refused (withheld)!"),
        ("it is true of worker-node-17", "it is true of worker-node-17"),  # no secrets: one too short, one not named so
        ("password=hunter2, user=me", "password=(withheld), user=me"),
        ("hf_abcdefghijklmnopqrst and ghp_0123456789abcdefghij", "(withheld) and (withheld)"),
        ("No such file: '/srv/my data/x y.bin'", "No such file: '(path)'"),
        ("cannot read /srv/data/x.bin (worker.py:12)", "cannot read (path) (worker.py:12)"),
        ("at:/srv/data", "at:(path)"),
        ("~/data and C:\\Users\\me\\x and D:/x and \\\\host\\share", "(path) and (path) and (path) and (path)"),
        ("file:///srv/data/x", "(path)"),
        ("mirror https://me:pass@mirror.example/cifar/?sig=abc", "mirror https://mirror.example/cifar/"),
        ("val/accuracy 3 / 4, and/or 5 images/s, ./here, </b>", "val/accuracy 3 / 4, and/or 5 images/s, ./here, </b>"),
        ("[https://data.example.com]", "[(path)"),  # no valid URL
        ("http://[foo and http://a[0]/b", "(path) and (path)"),
        ("g++ -I/opt/project/include -L/data/lib -Wall -O2", "g++ -I(path) -L(path) -Wall -O2"),
        ("official files, www.cs.toronto.edu", "official files, www.cs.toronto.edu"),
    ],
)
def test_secrets_and_places_go_and_the_rest_stays(redactor: Redactor, text: str, cleaned: str) -> None:
    assert redactor.text(text) == cleaned


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("key AKIAABCDEFGHIJKLMNOP, sk-proj-0123456789abcdef", "key (withheld), (withheld)"),
        ("wandb_v1_0123456789abcdefghij and github_pat_0123456789abcdefghij", "(withheld) and (withheld)"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "(withheld)"),
        ("-----BEGIN EC PRIVATE KEY----- MHcCAQ -----END EC PRIVATE KEY----- after", "(withheld) after"),
        ("cannot clone https://me:hunter2@host.example/x.git", "cannot clone https://(withheld)@host.example/x.git"),
        ("{'password': 'hunter2', 'api_key': 'x'}", "{'password': '(withheld)', 'api_key': '(withheld)'}"),
        (
            "--api-key=0123abcd x-api-key: 0123abcd {'private-key': 'z'}",
            "--api-key=(withheld) x-api-key: (withheld) {'private-key': '(withheld)'}",
        ),
        ("Authorization: Bearer abcdefgh1234", "Authorization: Bearer (withheld)"),
        ("https://host/x?sig=ab12cd34ef&n=1", "https://host/x?sig=(withheld)&n=1"),
        ("/srv/data/x.bin: no such file", "/srv/data/x.bin: no such file"),  # a path is kept in what is not published
        ("loss per token: 3.214567e-05, task.token: unknown key", "loss per token: 3.214567e-05, task.token: unknown key"),
        (
            "a basic understanding of sk-learn, hf_hub, mask-rcnn_x101_64x4d",
            "a basic understanding of sk-learn, hf_hub, mask-rcnn_x101_64x4d",
        ),
    ],
)
def test_known_formats_go_from_what_is_not_published_too(text: str, cleaned: str) -> None:
    assert Redactor(environment={}).text(text) == cleaned


def test_the_value_of_a_variable_goes_however_it_is_quoted() -> None:
    value = 'line one of the key 0123\nline two\'s "key" 4567'
    redactor = Redactor(
        environment={
            "DEPLOY_KEY": value,
            "KEYBOARD_LAYOUT": "international",
            "TOKENIZERS_PARALLELISM": "somewhere",
            "SSH_KEY_PATH": "/srv/key",
        }
    )
    for text in (value, repr(value), f"{value!r:.200}", value.splitlines()[1], json.dumps(value), quote(value, safe="")):
        left = redactor.text(text)
        assert "0123" not in left
        assert "4567" not in left
    assert redactor.text("international, somewhere, /srv/key") == "international, somewhere, /srv/key"


@pytest.mark.parametrize(
    ("piece", "cleaned"),
    [
        *((piece, piece) for piece in ("a.", "a-", "key", "a=", "://", "a:b@", "ey", "bearer ")),
        ("https://a:b@c ", "https://(withheld)@c "),
        ("-----BEGIN PRIVATE KEY", None),
    ],
)
def test_a_long_text_takes_no_time_to_speak_of(piece: str, cleaned: str | None) -> None:
    """`cleaned` is what is left of each `piece`; None: the whole text is withheld. In a time that grows with the square this would exceed the
    time limit of a test."""
    repeats = 200_000
    text = Redactor(environment={}).text(piece * repeats)
    assert text == ("(withheld)" if cleaned is None else cleaned * repeats)


def test_what_a_terminal_obeys_is_shown_as_text() -> None:
    assert printable("a\x1b[31m\n\u202eb é 日") == "a\\x1b[31m\\n\\u202eb é 日"


def test_the_runs_own_folder_goes_even_with_a_blank_in_its_name(redactor: Redactor, tmp_path: Path) -> None:
    assert redactor.text(f"in {tmp_path}/a run/here/trials/t0 it failed") == "in (path) it failed"


def test_nested_values_are_cleaned_and_secret_fields_withheld(redactor: Redactor) -> None:
    value = {"task": {"api_key": "abc", "n_tokens": 12, "max_token": 5, "paths": ["/srv/x", 1, None, 2.5, True]}, SECRET: "x"}
    assert redactor.value(value) == {
        "task": {"api_key": "(withheld)", "n_tokens": 12, "max_token": 5, "paths": ["(path)", 1, None, 2.5, True]},
        "(withheld)": "x",
    }
