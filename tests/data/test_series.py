import pytest
import torch

from ddl.data import series, sources
from ddl.data.integrity import Damaged
from ddl.data.series import FORMS, Scaler

VALUES = torch.tensor([float(number) for number in range(1, 61)], dtype=torch.float64) ** 1.5
HELD_OUT = 20


def test_the_airline_series_is_box_and_jenkins_series_g():
    months, values = series.read_series(sources.load_file("airline").path)
    assert (len(values), values.sum().item(), months[0], months[-1]) == (144, 40363.0, "1949-01", "1960-12")
    assert (values.min().item(), values.max().item()) == (104.0, 622.0)


@pytest.mark.parametrize("content", ["a,b\n1949-01,many\n", "a,b\n1949-01\n", "a,b\n1949-01,1,2\n"])
def test_a_file_of_another_form_is_refused(tmp_path, content):
    (tmp_path / "series.csv").write_text(content)
    with pytest.raises(Damaged, match=r"series\.csv: a row is not a month and a number"):
        series.read_series(tmp_path / "series.csv")


def test_a_window_is_followed_by_its_target():
    train, val, scaler = series.split_series(VALUES, FORMS["level"], 3, HELD_OUT, repeats=1)
    assert (len(train), len(val)) == (60 - HELD_OUT - 3, HELD_OUT)
    torch.testing.assert_close(scaler.restore(train.inputs[4].double()), VALUES[4:7], rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(train.actual, VALUES[3 : 60 - HELD_OUT].float())
    torch.testing.assert_close(val.actual, VALUES[-HELD_OUT:].float())
    torch.testing.assert_close(val.before[0], VALUES[38:40].float())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("window", [1, 5])
def test_what_is_forecast_and_what_was_known_make_the_number_again(form, window):
    for part in series.split_series(VALUES, FORMS[form], window, HELD_OUT, repeats=1)[:2]:
        scaler = series.split_series(VALUES, FORMS[form], window, HELD_OUT, repeats=1)[2]
        again = FORMS[form].restored(part.known + scaler.restore(part.targets.double()))
        torch.testing.assert_close(again.float(), part.actual, rtol=1e-5, atol=1e-4)


def test_a_forecast_of_no_seasonal_change_is_last_years_month_times_growth():
    known = FORMS["seasonal_difference"].known(VALUES)
    torch.testing.assert_close(known.exp(), VALUES[1:-12] * VALUES[12:-1] / VALUES[:-13])


def sees_what_is_held_out(form: str, window: int) -> bool:
    """Whether anything that is trained on, or that the first forecast is made from, changes with the numbers held out."""
    later = VALUES.clone()
    later[-HELD_OUT:] *= torch.linspace(2, 9, HELD_OUT, dtype=torch.float64)
    (train, val, scaler), (other_train, other_val, other_scaler) = (
        series.split_series(values, FORMS[form], window, HELD_OUT, repeats=1) for values in (VALUES, later)
    )
    assert not torch.equal(val.actual, other_val.actual)
    pairs = [(getattr(train, name), getattr(other_train, name)) for name in ("inputs", "targets", "known", "actual")]
    pairs += [(getattr(val, name)[0], getattr(other_val, name)[0]) for name in ("inputs", "known", "before")]
    return scaler != other_scaler or not all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("window", [1, 6])
def test_nothing_that_is_held_out_is_seen_before_it_is_forecast(form, window):
    assert not sees_what_is_held_out(form, window)


@pytest.mark.parametrize("form", FORMS)
def test_a_scaler_fitted_on_all_of_the_series_would_be_found_out(form, monkeypatch):
    everything: list[torch.Tensor] = []
    scaled = series.SeriesForm.scaled

    def remember(self, values):
        everything.append(scaled(self, values))
        return everything[-1]

    monkeypatch.setattr(series.SeriesForm, "scaled", remember)
    monkeypatch.setattr(Scaler, "fit", classmethod(lambda cls, _: cls(everything[-1].mean().item(), everything[-1].std().item())))
    assert sees_what_is_held_out(form, 6)


@pytest.mark.parametrize(("form", "longest"), [("level", 38), ("seasonal_difference", 25)])
def test_a_window_longer_than_the_series_is_refused(form, longest):
    series.split_series(VALUES, FORMS[form], longest, HELD_OUT, repeats=1)
    for window in (longest + 1, 500):
        with pytest.raises(ValueError, match=rf"task\.window: {window} is too long: the series has 60 numbers.*at most {longest}"):
            series.split_series(VALUES, FORMS[form], window, HELD_OUT, repeats=1)


def test_an_epoch_of_several_passes_has_each_window_once_a_pass():
    train, _, _ = series.split_series(VALUES, FORMS["level"], 4, HELD_OUT, repeats=3)
    n = len(train.targets)
    order = train.order(torch.Generator().manual_seed(1), 8)
    assert order.unique().numel() == len(train) == 3 * n
    for number in range(3):
        assert (order[number * n : (number + 1) * n] % n).sort().values.tolist() == list(range(n))
    assert torch.equal(train.batch(order[:5])[1], train.batch(order[:5] % n)[1])
