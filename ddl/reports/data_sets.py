"""The data set of a trial, as the trial recorded it."""

from dataclasses import dataclass

from ddl.ledger_tables import TrialRow


@dataclass(frozen=True)
class DataDescription:
    """The data of a trial as it recorded them. `train` and `val` are numbers of examples, None if unknown."""

    name: str
    source: str
    complete: bool
    fallback_for: str
    sha256: str
    train: int | None
    val: int | None

    @property
    def label(self) -> str:
        """Name, kind and source."""
        kind = f" (fallback data set for {self.fallback_for})" if self.fallback_for else "" if self.complete else " (sample)"
        return f"{self.name}{kind}, {self.source}" if self.source else f"{self.name}{kind}"

    @property
    def genuine(self) -> bool:
        """True for the complete data set that was asked for."""
        return self.complete and not self.fallback_for


def describe_data(trial: TrialRow) -> DataDescription | None:
    """The data of a trial; None if it has not recorded them yet or reads no data set."""
    data = (trial.metadata or {}).get("data")
    if not data:
        return None
    return DataDescription(
        name=data.get("name", ""),
        source=data.get("source", ""),
        complete=bool(data.get("complete", False)),  # unless recorded as complete, data count as a sample
        fallback_for=data.get("fallback_for", ""),
        sha256=data.get("sha256", ""),
        train=data.get("train"),
        val=data.get("val"),
    )
