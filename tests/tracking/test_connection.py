from pathlib import Path

import pytest

from ddl.tracking import connection


@pytest.mark.parametrize(
    ("settings", "environment", "outcome"),
    [
        ("auto", {}, "offline"),
        ("auto", {"WANDB_API_KEY": "k" * 40}, "online"),
        ("auto", {"WANDB_API_KEY": "k" * 40, "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_MODE": "disabled"}, "disabled"),
        ("offline", {"WANDB_API_KEY": "k" * 40}, "offline"),
        ("disabled", {"WANDB_API_KEY": "k" * 40}, "disabled"),
        ("online", {}, "online needs a key and there is none. Set WANDB_API_KEY"),
        ("auto", {"WANDB_API_KEY": "canary"}, "the key for http://127.0.0.1:9 cannot be used"),
        ("loud", {}, "mode 'loud' is unknown. Choose one of auto, online"),
    ],
)
def test_the_mode_follows_from_settings_and_key(
    settings: str, environment: dict[str, str], outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run = {"launch": {"wandb": {"mode": settings, "project": "p"}}}
    with connection.WandbClient():
        if outcome in connection.MODES:
            assert connection.resolve_mode(run) == outcome
        else:
            with pytest.raises(ValueError, match=outcome) as raised:
                connection.resolve_mode(run)
            assert "canary" not in str(raised.value)


def test_a_netrc_entry_is_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1:9 login user password {'k' * 40}\n")
    with connection.WandbClient():
        assert connection.resolve_mode({}) == "online"


@pytest.mark.parametrize("value", ["", "canary"])
def test_a_setting_that_wandb_refuses_is_named_in_one_line(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", value)
    with pytest.raises(ValueError, match=r"^W&B: cannot use WANDB_MODE \(Input should be 'online', .*\)\. Correct or unset it") as raised:
        connection.WandbClient().__enter__()
    assert "\n" not in str(raised.value)
    assert "canary" not in str(raised.value)
