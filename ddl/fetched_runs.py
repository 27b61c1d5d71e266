"""Runs by their place, a folder or a URL: what a command needs of them is downloaded, and checked."""

from pathlib import Path

from ddl.config import ConfigError
from ddl.run_folder import check_links, check_trial_id
from ddl.storage import urls
from ddl.storage.runs import RunStore
from ddl.storage.trials import TrialStore


def fetch_run(place: str, trust: bool = False) -> Path:
    """The local folder of the run at `place`, a folder or a URL. From a URL, ledgers, figures and texts are downloaded.

    Raises ConfigError for a URL that cannot be used, ValueError if there is no run, or without `trust` if links lead out of it.
    """
    if not trust:
        check_place(place)
    if not urls.is_url(place):
        return Path(place)
    if problem := urls.url_problem(place):
        raise ConfigError([problem])
    store = RunStore(urls.local_run(place), place)
    store.download_ledgers()
    store.download_figures()
    if store.not_uploaded:
        raise ValueError(store.not_uploaded)
    return urls.local_run(place)


def check_place(place: str) -> None:
    """Raise ValueError if symbolic links lead out of the run at `place`, a folder or a URL of this machine's files."""
    if folder := urls.folder_of(place) if urls.is_url(place) else Path(place):
        check_links(folder)


def fetch_trial(place: str, trial_id: str, trust: bool = False) -> Path:
    """Like `fetch_run`, and also downloads the trial's newest checkpoint."""
    folder = fetch_run(place, trust)
    if urls.is_url(place):
        check_trial_id(trial_id)
        TrialStore(folder / "trials" / trial_id, trial_id, f"{place.rstrip('/')}/trials/{trial_id}").newest()
    return folder
