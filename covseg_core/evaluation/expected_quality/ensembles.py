"""Which runs are an ensemble: the seeds of one metric, fold by fold, or any that a user names."""

from __future__ import annotations

from collections.abc import Sequence

from covseg_core.errors import RunError
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.wording import plural
from covseg_core.runs import Run

FEWEST_MEMBERS = 5
"""Of an ensemble: ten pairs. With three models there are three, and one odd model moves two of them."""
Ensemble = tuple[Run, ...]


def ensembles_of(model: Model) -> list[Ensemble]:
    """The seeds of a model, for each of its folds; itself if it was trained once."""
    each = [seed.runs for seed in model.seeds or (model,)]
    return [tuple(members) for members in zip(*each, strict=True)]


def check_ensembles(ensembles: Sequence[Ensemble]) -> None:
    """Raise `RunError` unless these are ensembles of one kind: enough members each, alike in target and dataset."""
    runs = [run for members in ensembles for run in members]
    if not runs:
        raise RunError("quality", "no runs", f"at least {FEWEST_MEMBERS}")
    for members in ensembles:
        names = names_of(members)
        if len({run.id for run in members}) < len(members):
            raise RunError(names, "one run twice", "each run once")
        if len(members) < FEWEST_MEMBERS:
            found = f"an ensemble of {plural(len(members), 'member')}"
            raise RunError(names, found, f"at least {FEWEST_MEMBERS}, as by `covseg train --seeds {FEWEST_MEMBERS}`")
        if len(targets := {run.config.target for run in members}) > 1:
            raise RunError(names, f"models of {' and '.join(sorted(targets))}", "models of one target")
        if len(datasets := {run.config.dataset for run in members}) > 1:
            raise RunError(names, f"made from the datasets {' and '.join(sorted(datasets))}", "runs of one dataset")
        for run in members:
            if run.status.state != "finished":
                raise RunError(run.id, f"is {run.status.state}", "a finished run")


def names_of(runs: Sequence[Run]) -> str:
    """`a and b`, or `a and 4 others`."""
    ids = [run.id for run in runs]
    return " and ".join(ids) if len(ids) < 3 else f"{ids[0]} and {len(ids) - 1} others"
