from pathlib import Path

import pytest

from ddl.tracking.privacy import Redactor

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
        ("official files, www.cs.toronto.edu", "official files, www.cs.toronto.edu"),
    ],
)
def test_secrets_and_places_go_and_the_rest_stays(redactor: Redactor, text: str, cleaned: str) -> None:
    assert redactor.text(text) == cleaned


def test_the_runs_own_folder_goes_even_with_a_blank_in_its_name(redactor: Redactor, tmp_path: Path) -> None:
    assert redactor.text(f"in {tmp_path}/a run/here/trials/t0 it failed") == "in (path) it failed"


def test_nested_values_are_cleaned_and_secret_fields_withheld(redactor: Redactor) -> None:
    value = {"task": {"api_key": "abc", "n_tokens": 12, "max_token": 5, "paths": ["/srv/x", 1, None, 2.5, True]}, SECRET: "x"}
    assert redactor.value(value) == {
        "task": {"api_key": "(withheld)", "n_tokens": 12, "max_token": 5, "paths": ["(path)", 1, None, 2.5, True]},
        "(withheld)": "x",
    }
