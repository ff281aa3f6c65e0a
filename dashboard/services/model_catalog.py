"""Which runs there are, which models can be chosen from them, and what they are called. No Streamlit here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from covseg_core import runs
from covseg_core.config import METRICS, RunConfig
from covseg_core.errors import CovsegError
from covseg_core.evaluation.grouping import finished_models as models_of
from covseg_core.evaluation.model import Model, SingleRun
from covseg_core.paths import pretrained_root
from covseg_core.runs import Run, Status
from dashboard.formatting import when


class _Configured(Protocol):
    @property
    def config(self) -> RunConfig: ...


T = TypeVar("T", bound=_Configured)


@dataclass(frozen=True)
class ListedRun:
    """A run whose configuration could be read."""

    run: Run
    config: RunConfig

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def shipped(self) -> bool:
        """Whether it came with covseg."""
        return _came_with_covseg(self.run)

    @property
    def label(self) -> str:
        """As lists of models show it: a shipped one by its name."""
        return self.id if self.shipped else label(SingleRun(self.run))


def listed_runs() -> tuple[list[ListedRun], list[str]]:
    """All runs, newest first and within an experiment by seed, fold and metric, and one line for each that cannot be
    read."""
    found, problems = [], []
    for run in runs.list_runs():
        try:
            found.append(ListedRun(run, run.config))
        except CovsegError as error:
            problems.append(str(error))
    order = list(METRICS)
    found.sort(key=lambda one: (one.config.train.seed_number, one.config.split.fold, order.index(one.config.metric)))
    found.sort(key=lambda one: one.config.created, reverse=True)
    return found, problems


def active_runs() -> list[tuple[Run, Status]]:
    """Runs that train, wait or are about to stop, whoever started them."""
    found = [(run, runs.read_status(run)) for run in runs.list_runs()]
    return [(run, status) for run, status in found if status is not None and status.state in runs.ACTIVE]


def finished_runs() -> list[ListedRun]:
    """Finished runs, newest first; within an experiment in the order accuracy, IoU, Dice."""
    found = [one for one in listed_runs()[0] if _state(one.run) == "finished"]
    newest = {one.config.experiment: one.config.created for one in sorted(found, key=lambda one: one.config.created)}
    order = list(METRICS)
    found.sort(key=lambda one: (order.index(one.config.metric), one.config.created))
    return sorted(found, key=lambda one: (newest[one.config.experiment], one.config.experiment), reverse=True)


def shipped_runs() -> list[ListedRun]:
    """The models that come with covseg, in the order accuracy, IoU, Dice."""
    found = []
    for run in runs.list_runs(pretrained=True):
        try:
            found.append(ListedRun(run, run.config))
        except CovsegError:
            continue
    return sorted(found, key=lambda one: list(METRICS).index(one.config.metric))


def finished_models() -> list[Model]:
    """What can be compared: runs, and in place of folds and seeds one model for each metric."""
    return models_of([one.run for one in finished_runs()])


def shipped_models() -> list[Model]:
    """Those that come with covseg and outline infections."""
    return models_of([one.run for one in shipped_runs() if one.config.target == "infection"])


def is_shipped(model: Model) -> bool:
    """Whether it came with covseg."""
    return any(map(_came_with_covseg, model.runs))


def compared(ids: Collection[str]) -> list[str]:
    """Ids of the models that Compare shows for these runs: folds and seeds of a metric are one."""
    return [model.id for model in finished_models() if any(run.id in ids for run in model.runs)]


def label(model: Model) -> str:
    """As lists of models show it: a shipped one by its name."""
    if is_shipped(model):
        return f"{model.id} · comes with covseg"
    config = model.config
    kind = "by slice" if config.split.kind == "slice" else ""
    parts = [METRICS[config.metric].label, config.dataset, config.preset, kind, _folds(model), _seeds(model)]
    return " · ".join(filter(None, [*parts, when(config.created)]))


def newest(finished: Sequence[T]) -> list[T]:
    """Those of the newest experiment that is finished whole; if none is, what there is of the newest."""
    unfinished = {one.config.experiment for one in listed_runs()[0] if _state(one.run) not in ("", "finished")}
    whole = [one for one in finished if one.config.experiment not in unfinished] or list(finished)
    return [one for one in whole if one.config.experiment == whole[0].config.experiment]


def _came_with_covseg(run: Run) -> bool:
    return run.folder.parent == pretrained_root()


def _state(run: Run) -> str:
    status = runs.read_status(run)
    return status.state if status else ""


def _folds(model: Model) -> str:
    split = model.config.split
    return _counted("fold", len(model.folds), split.fold, split.folds)


def _seeds(model: Model) -> str:
    train = model.config.train
    return _counted("seed", len(model.seeds), train.seed_number, train.seeds)


def _counted(word: str, together: int, number: int, all: int) -> str:
    """`5 folds`, `4 of 5 folds` for a model of several runs; `fold 2 of 5` for one of them; else empty."""
    if together:
        return f"{all} {word}s" if together == all else f"{together} of {all} {word}s"
    return f"{word} {number} of {all}" if all else ""
