"""What the table knows of each run, and of the experiments that they make. No Streamlit here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from covseg_core.config import METRICS, RunConfig
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation.stored_scores import stored_pooled
from covseg_core.runs import Run, State, Status
from covseg_core.runs.history import best_epoch
from covseg_core.runs.labels import Labels, read_labels
from dashboard.services import model_catalog, run_history
from dashboard.services.model_catalog import ListedRun


@dataclass(frozen=True)
class RunRow:
    """A run as it stands, with its scores."""

    listed: ListedRun
    status: Status
    labels: Labels
    test: float | None
    """Dice over all voxels of the test part; None where there are no current scores."""
    validation: float | None
    """Dice of the kept epoch on the validation slices."""

    @property
    def id(self) -> str:
        return self.listed.id

    @property
    def run(self) -> Run:
        return self.listed.run

    @property
    def config(self) -> RunConfig:
        return self.listed.config

    @property
    def text(self) -> str:
        """What a search looks through."""
        said = (self.labels.name, self.labels.note, *self.labels.tags)
        config = self.config
        return " ".join((self.id, *said, config.dataset, METRICS[config.metric].label, config.preset)).lower()

    @property
    def stamp(self) -> tuple[object, ...]:
        """Changes when the table has to be drawn again; epochs are followed on Live curves."""
        return self.id, self.status.state, self.labels, self.test


def run_rows() -> tuple[list[RunRow], list[str]]:
    """All runs, newest first, then the shipped models; and one line for each that cannot be read."""
    listed, problems = model_catalog.listed_runs()
    found = []
    for item in [*listed, *model_catalog.shipped_runs()]:
        try:
            found.append(RunRow(item, item.run.status, _labels(item, problems), _test(item.run), _validation(item)))
        except CovsegError as error:
            problems.append(str(error))
    return found, problems


def experiments(rows: Sequence[RunRow]) -> list[list[RunRow]]:
    """Runs that were started together, in the order in which they come; a shipped model stands alone."""
    found: dict[tuple[str, str], list[RunRow]] = {}
    for row in rows:
        key = ("shipped", row.id) if row.listed.shipped else ("own", row.config.experiment)
        found.setdefault(key, []).append(row)
    return list(found.values())


def states(rows: Sequence[RunRow]) -> str:
    """`Finished` where all are; else how many are what."""
    counts: Counter[State] = Counter(row.status.state for row in rows)
    if len(counts) == 1:
        return next(iter(counts)).capitalize()
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _labels(item: ListedRun, problems: list[str]) -> Labels:
    """Labels that cannot be read cost themselves, not the run."""
    try:
        return read_labels(item.run)
    except CovsegError as error:
        problems.append(str(error))
        return Labels()


def _test(run: Run) -> float | None:
    try:
        return stored_pooled(run).get("dice")
    except RunError:
        return None


def _validation(item: ListedRun) -> float | None:
    history = run_history.history(item.run)
    best = best_epoch(list(history.get(f"val_{METRICS[item.config.metric].score}", ())))
    scores = history.get("val_dice_foreground", ())
    return float(scores[best - 1]) if best and len(scores) else None
