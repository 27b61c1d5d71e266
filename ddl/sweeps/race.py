"""A race: trains more seeds of the configurations whose comparison is not settled, until it is (`race_rules.py` decides)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self

from ddl.composed_sweep import Sweep
from ddl.ledger_tables import ENDED, TrialRow
from ddl.sweeps.race_rules import EQUIVALENT, WINNER, Drop, RaceRules
from ddl.sweeps.space import Trial, trial_identity
from ddl.sweeps.space_checks import MAX_TRIALS
from ddl.sweeps.trial_source import TrialSource
from ddl.tasks.loading import RecordedTasks


class Race(TrialSource):
    """The trials of a race, one group a seed, and the decisions on them.

    The first `at_least` seeds of every configuration are planned like those of any sweep. Then every further group has one trial of each
    configuration that is left. A group may start before the one before it has ended, so that no core is idle; its trials are then not
    lost, but a decision only depends on seeds that all configurations left have completed. So it does not depend on speed, and a resume
    takes the same decisions.
    """

    entry = "race"
    may_end_early = True

    def __init__(self, rules: RaceRules, trials: Mapping[str, Sequence[Trial]]):
        """`trials` are those of all `rules.at_most` seeds, in their order, by configuration."""
        self.rules = rules
        self._trials = trials
        self._values: dict[str, float | None] = {}
        self._drops: list[Drop] = []
        self._left = tuple(trials)
        self._seeds = 0
        self._taken = {trial.trial_id for trial in self.first_trials}
        self._outcome = ""
        self._news: list[str] = []

    @classmethod
    def of(cls, sweep: Sweep, trials: Sequence[Trial], problems: list[str]) -> Self | None:
        """The race of a sweep with these trials of all seeds. If it has mistakes, adds them to `problems` and returns None."""
        seeds = sweep.launch.race
        assert seeds is not None, "a sweep without a race"
        by_configuration: dict[str, list[Trial]] = {}
        for trial in trials:
            by_configuration.setdefault(trial.configuration, []).append(trial)
        where = sweep.where["seeds"]
        before = len(problems)
        if seeds.at_least < 2:
            problems.append(f"{where}: seeds.at_least: a race compares spreads, so it needs at least 2 seeds.")
        if seeds.at_least > seeds.at_most:
            problems.append(f"{where}: seeds: at_least is {seeds.at_least}, but at_most is {seeds.at_most}. Raise at_most.")
        if len(by_configuration) == 1:
            problems.append(
                f"{where}: until: settled compares configurations, but this sweep has one. Add some, or set until: all with a number of seeds."
            )
        if sweep.launch.search.algorithm != "random":
            problems.append(
                f"{where}: until: settled needs configurations that stay the same, but search.algorithm: {sweep.launch.search.algorithm} "
                "chooses them from results. Set one of the two."
            )
        if len(problems) > before:
            return None
        metric = sweep.file.metric
        rules = RaceRules(len(by_configuration), seeds.at_least, seeds.at_most, float(sweep.launch.margin), metric.mode)
        return cls(rules, by_configuration)

    @classmethod
    def resumed(
        cls, record: Mapping[str, Any], tasks: RecordedTasks, rows: Sequence[TrialRow], best: Mapping[str, float | None], first_seed: int
    ) -> Self:
        """Continue an interrupted race from what `record` returned; `rows` and `best` as in `TpeSearch.resumed`.

        Raises ValueError if the record has more trials than a sweep may have.
        """
        rules = RaceRules(**record["rules"])
        first: dict[str, TrialRow] = {}
        for row in rows:
            first.setdefault(row.configuration, row)
        if rules.at_most * len(first) > MAX_TRIALS:
            raise ValueError(f"a race of {rules.at_most} seeds of {len(first)} configurations has more than {MAX_TRIALS:,} trials")
        seeds = range(first_seed, first_seed + rules.at_most)
        known = {(row.configuration, row.seed): row.trial_id for row in rows}
        race = cls(rules, {name: [_trial(row, seed, tasks, known) for seed in seeds] for name, row in first.items()})
        race._drops = [Drop(**drop) for drop in record["drops"]]
        race._left, race._seeds, race._outcome = tuple(record["left"]), record["seeds"], record["outcome"]
        race._taken = {row.trial_id for row in rows}
        counted = {drop.configuration: first_seed + drop.seeds for drop in race._drops}
        for row in rows:
            if row.status in ENDED and row.status != "failed":  # failed trials are tried again
                race._values[row.trial_id] = best.get(row.trial_id)
            elif row.seed < counted.get(row.configuration, first_seed):  # a decision has been taken without its value
                race._values[row.trial_id] = None
        race._look()
        return race

    @property
    def first_trials(self) -> list[Trial]:
        """The trials that no decision can leave out."""
        first = [trial for trials in self._trials.values() for trial in trials[: self.rules.at_least]]
        return sorted(first, key=lambda trial: trial.position)

    @property
    def left(self) -> int:
        return 0 if self._outcome else sum(trial.trial_id not in self._taken for name in self._left for trial in self._trials[name])

    @property
    def described(self) -> str:
        return f"race: at most {self.left} trials follow, until the answer is settled or each configuration left has {self.rules.at_most} seeds"

    def record(self) -> dict[str, Any]:
        """The rules and the decisions so far. The report shows them."""
        return {
            "rules": asdict(self.rules),
            "seeds": self._seeds,
            "left": list(self._left),
            "outcome": self._outcome,
            "drops": [asdict(drop) for drop in self._drops],
        }

    def examples(self) -> list[Trial]:
        return [self._trials[name][-1] for name in self._left]

    def groups(self) -> Iterator[list[Trial]]:
        """The trials of one more seed of each configuration that is left when the iterator is advanced, until the race ends."""
        for index in range(self.rules.at_least, self.rules.at_most):
            if self._outcome:
                return
            if group := [trial for name in self._left if (trial := self._trials[name][index]).trial_id not in self._taken]:
                yield group

    def take(self, trial: Trial) -> bool:
        if self._outcome or trial.configuration not in self._left:
            return False
        self._taken.add(trial.trial_id)
        return True

    def ended(self, trial_id: str, value: float | None) -> None:
        self._values.setdefault(trial_id, value)
        self._look()

    def news(self) -> list[str]:
        news, self._news = self._news, []
        return news

    def _look(self) -> None:
        """Look at each seed that all configurations left have completed."""
        while not self._outcome:
            seeds = max(self.rules.at_least, self._seeds + 1)
            if seeds > self.rules.at_most or not all(
                trial.trial_id in self._values for name in self._left for trial in self._of(name, seeds)
            ):
                return
            until = {drop.configuration: drop.seeds for drop in self._drops}
            counted = [trial for name in self._trials for trial in self._of(name, min(seeds, until.get(name, seeds)))]
            measured = [value for trial in counted if (value := self._values[trial.trial_id]) is not None]
            worst = (min if self.rules.mode == "max" else max)(measured, default=None)
            look = self.rules.look({name: [self._values[t.trial_id] for t in self._of(name, seeds)] for name in self._left}, worst)
            self._seeds, self._left, self._outcome = seeds, look.left, look.outcome
            self._drops += look.drops
            self._news += [_drop_text(drop) for drop in look.drops]
            if look.outcome:
                self._news.append(_outcome_text(look.outcome, look.left, seeds, self.rules.margin))

    def _of(self, name: str, seeds: int) -> Sequence[Trial]:
        return self._trials[name][:seeds]


def _trial(row: TrialRow, seed: int, tasks: RecordedTasks, known: Mapping[tuple[str, int], str]) -> Trial:
    """The trial of a seed in the configuration of a ledger's row. `known` are the ids of the trials that the ledger has."""
    task = tasks.build({**row.task, "seed": seed})
    return Trial(known.get((row.configuration, seed)) or trial_identity(task), 0, row.configuration, row.swept, task)


def _drop_text(drop: Drop) -> str:
    if drop.difference is None:
        return f"race: “{drop.configuration}” leaves after {drop.seeds} seeds, of which none has a value"
    return (
        f"race: “{drop.configuration}” leaves after {drop.seeds} seeds: {drop.difference:+.4g} [{drop.low:+.4g}, {drop.high:+.4g}] "
        f"compared with “{drop.better}”"
    )


def _outcome_text(outcome: str, left: Sequence[str], seeds: int, margin: float) -> str:
    names = ", ".join(f"“{name}”" for name in left)
    if outcome == WINNER:
        return f"race: settled after {seeds} seeds: {names} is better than every other configuration"
    if outcome == EQUIVALENT:
        return f"race: settled after {seeds} seeds: {names} differ by at most {margin:g}"
    return f"race: not settled after {seeds} seeds: {names} cannot be distinguished"
