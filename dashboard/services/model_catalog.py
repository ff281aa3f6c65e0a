"""Finished runs: which there are, what they are called, and the folds of one metric as one. No Streamlit here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from covseg_core import runs
from covseg_core.config import METRICS, RunConfig
from covseg_core.errors import CovsegError
from covseg_core.evaluation.cross_validation.folded_run import FoldedRun
from covseg_core.evaluation.cross_validation.folds import finished_folds
from covseg_core.runs import Run


@dataclass(frozen=True)
class Finished:
    """A run that can be compared."""

    run: Run
    config: RunConfig

    @property
    def label(self) -> str:
        """As the list of models shows it."""
        config = self.config
        kind = "by slice" if config.split.kind == "slice" else ""
        parts = [METRICS[config.metric].label, config.dataset, config.preset, kind, self._folds, when(config.created)]
        return " · ".join(filter(None, parts))

    @property
    def _folds(self) -> str:
        split = self.config.split
        if isinstance(self.run, FoldedRun):
            done = len(self.run.folds.numbers)
            return f"{split.folds} folds" if done == split.folds else f"{done} of {split.folds} folds"
        return f"fold {split.fold} of {split.folds}" if split.folds else ""


def finished_runs() -> list[Finished]:
    """Finished runs, newest first; within an experiment in the order accuracy, IoU, Dice."""
    found = []
    for run in runs.list_runs():
        status = runs.read_status(run)
        if status is None or status.state != "finished":
            continue
        try:
            found.append(Finished(run, run.config))
        except CovsegError:
            continue  # the first page tells of broken runs
    newest = {one.config.experiment: one.config.created for one in sorted(found, key=lambda one: one.config.created)}
    order = list(METRICS)
    found.sort(key=lambda one: (order.index(one.config.metric), one.config.created))
    return sorted(found, key=lambda one: (newest[one.config.experiment], one.config.experiment), reverse=True)


def models(finished: Sequence[Finished]) -> list[Finished]:
    """What can be chosen: runs, and in place of the folds of a cross-validation one model for each metric."""
    folds = [one for one in finished if one.config.split.folds]
    found = {}
    for model in finished_folds([one.run for one in folds]):
        run = FoldedRun(model.runs[0].folder, model)
        found[model.runs[0].id] = Finished(run, run.config)
    return [found.get(one.run.id, one) for one in finished if not one.config.split.folds or one.run.id in found]


def preselected(finished: Sequence[Finished]) -> list[str]:
    """Ids of the models of the newest experiment that is finished whole; if none is, of what there is of the newest."""
    return [one.run.id for one in newest(finished)]


def newest(finished: Sequence[Finished]) -> list[Finished]:
    """The models of the newest experiment that is finished whole; if none is, what there is of the newest."""
    unfinished = set()
    for run in runs.list_runs():
        status = runs.read_status(run)
        if status is not None and status.state != "finished":
            try:
                unfinished.add(run.config.experiment)
            except CovsegError:
                continue
    whole = [one for one in finished if one.config.experiment not in unfinished] or list(finished)
    return [one for one in whole if one.config.experiment == whole[0].config.experiment]


def when(iso: str) -> str:
    """A stored time, to the minute; with its year if that is another one than now."""
    try:
        time = datetime.fromisoformat(iso).astimezone()
    except ValueError:
        return iso
    year = "" if time.year == datetime.now().year else f" {time.year}"
    return f"{time.day} {time:%b}{year}, {time:%H:%M}"
