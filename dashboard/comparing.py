"""What the Compare page shows: which runs, their stored scores, and these as tables. Plain functions, no Streamlit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import folded
import pandas as pd
from folded import FoldedRun

from covseg_core import runs
from covseg_core.config import RunConfig
from covseg_core.data.datasets import load_dataset
from covseg_core.errors import CovsegError
from covseg_core.evaluation import tables
from covseg_core.evaluation.folding import finished_folds
from covseg_core.evaluation.measures import MEASURES
from covseg_core.evaluation.result import VERSION, Comparison, Evaluation
from covseg_core.evaluation.scores import Scores
from covseg_core.evaluation.tables import METRIC_NAMES, model_names, predictors
from covseg_core.files import sha256_file
from covseg_core.runs import Run

Level = Literal["pooled", "scans", "slices"]

NOT_A_RANKING = (
    "These scores are of **different metrics**, so they do not rank the models: 0.99 pixel accuracy and 0.75 Dice can "
    "be the same prediction. The next table can, since there every model has every metric."
)
UNDEFINED = "none"


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
        parts = [METRIC_NAMES[config.metric], config.dataset, config.preset, kind, self._folds, when(config.created)]
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
    order = list(METRIC_NAMES)
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
    if not finished:
        return []
    unfinished = set()
    for run in runs.list_runs():
        status = runs.read_status(run)
        if status is not None and status.state != "finished":
            try:
                unfinished.add(run.config.experiment)
            except CovsegError:
                continue
    whole = [one for one in finished if one.config.experiment not in unfinished] or list(finished)
    return [one.run.id for one in finished if one.config.experiment == whole[0].config.experiment]


def when(iso: str) -> str:
    """A stored time, to the minute; with its year if that is another one than now."""
    try:
        time = datetime.fromisoformat(iso).astimezone()
    except ValueError:
        return iso
    year = "" if time.year == datetime.now().year else f" {time.year}"
    return f"{time.day} {time:%b}{year}, {time:%H:%M}"


def stored_comparison(
    chosen: Sequence[Run], stored: Callable[[str], Evaluation | None]
) -> tuple[Comparison | None, str]:
    """The evaluations in the runs' folders, if they can stand side by side; else None and the reason, one sentence.

    They can if each belongs to the run's present model, and all were made on the same slices of the same dataset, with
    one policy and threshold.

    Parameters
    ----------
    stored : run id -> its evaluation, None if there is none; may raise `CovsegError`
    """
    if folded.any_in(chosen):
        return _stored_folds(chosen, stored)
    evaluations = []
    for run in chosen:
        try:
            evaluation = stored(run.id)
        except CovsegError:
            evaluation = None  # of another version, or damaged
        if evaluation is None:
            return None, f"{run.id} has not been scored yet."
        if evaluation.version != VERSION or evaluation.model_sha256 != model_sha256(run):
            return None, f"The scores of {run.id} belong to an earlier model of this run."
        evaluations.append(evaluation)
    first = evaluations[0]
    for other in evaluations[1:]:
        if _conditions(other) != _conditions(first):
            return None, f"{first.run} and {other.run} were not scored under the same conditions."
    leaky = any(evaluation.leaky for evaluation in evaluations)
    return Comparison(first.dataset, first.part, leaky, tuple(evaluations)), ""


def _stored_folds(chosen: Sequence[Run], stored: Callable[[str], Evaluation | None]) -> tuple[Comparison | None, str]:
    """As `stored_comparison`, of all folds together."""
    folds = folded.fold_by_fold(chosen)
    if not folds:
        return None, folded.APART
    comparisons = []
    for fold in folds:
        comparison, why = stored_comparison(fold, stored)
        if comparison is None:
            return None, why
        if any(one.own.test_counts is None for one in comparison.evaluations):
            return None, f"The scores of {fold[0].id} were made by an earlier version of covseg."
        comparisons.append(comparison)
    datasets = {(each.dataset, each.evaluations[0].fingerprint) for each in comparisons}
    return (folded.put_together(chosen, comparisons), "") if len(datasets) == 1 else (None, folded.APART)


def model_sha256(run: Run) -> str:
    """Of the run's `model.onnx`; empty if it has none."""
    try:
        stat = run.onnx.stat()
    except OSError:
        return ""
    return _sha256(run.onnx, stat.st_mtime_ns, stat.st_size)


def grounds(chosen: Sequence[Run], names: Sequence[str]) -> list[str]:
    """What the models can be scored on, the natural one first: "" for their common test part, or one of the datasets.

    Without a common test part, that is what none has learned from in their own dataset. Folds have no other than
    theirs: together they have learned from everybody.
    """
    if folded.any_in(chosen):
        return [""]
    configs = [run.config for run in chosen]
    own = configs[0].dataset
    tests = [{id: sorted(zs) for id, zs in run.split.test.items() if zs} for run in chosen]
    common = all(
        (config.dataset, config.fingerprint, config.target) == (own, configs[0].fingerprint, configs[0].target)
        and test == tests[0]
        for config, test in zip(configs, tests, strict=True)
    )
    found = []
    for name in sorted(names, key=lambda name: name != own):
        try:
            cases = load_dataset(name).cases
        except CovsegError:
            continue
        if all(any(config.target in case.files for case in cases) for config in configs):
            found.append(name)
    return ["", *(name for name in found if name != own)] if common else found or [""]


def leak(comparison: Comparison) -> str:
    """What LEAKY means here, as Markdown; empty if no patient of the test was seen before."""
    seen = {patient for evaluation in comparison.evaluations for patient in evaluation.seen_patients}
    if not comparison.leaky:
        return ""
    of = tables.plural(comparison.evaluations[0].patients, "test patient")
    return (
        f"**LEAKY**: training or validation has seen {len(seen)} of {of}, so these scores are too good. Split by "
        "patient to know how the models do on new people."
    )


def notes(comparison: Comparison) -> list[str]:
    """What has to be known before the numbers are believed, a sentence each."""
    same = tables.same_models(comparison.evaluations)
    found = [same] if same else []
    return found + list(dict.fromkeys(note for evaluation in comparison.evaluations for note in evaluation.notes))


def legend(comparison: Comparison, level: Level) -> list[str]:
    """How to read the table of scores, a sentence each, as Markdown."""
    baselines = "; ".join(f"*{scores.name.capitalize()}*, {scores.description}" for scores in comparison.baselines)
    found = [f"Baselines, which need no learning: {baselines}. *Best* counts them in, where n is the same."]
    found.append(tables.TWO_IOUS)
    if level == "pooled":
        return [*found, "All voxels of all slices count alike. HD95 and NSD have no pooled value."]
    empty = "undefined and left out" if comparison.evaluations[0].policy == "nan" else "counted as perfect"
    found.append(
        f"*n* is the number of values behind a mean. Where truth and prediction are both empty, Dice is {empty}."
    )
    if level == "slices":
        found.append("Slices of one scan are not independent: their n is not a sample size.")
    return found


def level_names(comparison: Comparison) -> dict[Level, str]:
    """How scores can be taken together, with n."""
    first = comparison.evaluations[0]
    scans, slices = tables.plural(first.scans, "scan"), tables.plural(first.slices, "slice")
    return {
        "pooled": f"Pooled over {slices}",
        "scans": f"Mean over {scans} ± SD",
        "slices": f"Mean over {slices} ± SD",
    }


def score_table(comparison: Comparison, level: Level) -> pd.DataFrame:
    """A row for each measure that has a value anywhere, a column for each model and baseline, as text.

    `n` is the number of values behind the models' means; a cell with another one says so. `Best` names who is best,
    baselines included, of those with this n: means over different n do not compare.
    """
    first, columns = comparison.evaluations[0], predictors(comparison)
    models, rows = model_names(comparison), []
    for measure in MEASURES:
        values = {name: _value(scores, measure, level) for name, scores in columns.items()}
        if not any(text for text, _, _ in values.values()):
            continue
        counts = [values[name][2] for name in models]
        n = max(counts, key=counts.count)
        cells = {
            name: (text or UNDEFINED) + ("" if own == n else f" (n {own})") for name, (text, _, own) in values.items()
        }
        best = "n differs"
        if len(set(counts)) == 1:
            best = _best(measure, {name: value for name, (_, value, own) in values.items() if own == n})
        rows.append({"Measure": tables.label(measure, first.units), "Best": best, "n": n, **cells})
    return pd.DataFrame(rows, columns=["Measure", "Best", "n", *columns])


def widths(table: pd.DataFrame) -> dict[str, int]:
    """Of the columns of a table of text [px]: the browser keeps those of the first text it has seen."""
    return {name: 24 + 7 * max(len(str(text)) for text in (name, *table[name])) for name in table.columns}


def _value(scores: Scores, measure: str, level: Level) -> tuple[str, float | None, int]:
    """Text, number and n of a cell; pooled values are over all slices."""
    if level == "pooled":
        value = scores.pooled[measure]
        return tables.number(value, measure, digits=4), value, len(scores.slices)
    summary = (scores.over_scans if level == "scans" else scores.over_slices).get(measure)
    return tables.spread(summary, measure), None if summary is None else summary.mean, summary.n if summary else 0


def _best(measure: str, values: dict[str, float | None]) -> str:
    """Short names of who is best; `all` if nobody differs."""
    key: dict[str, Callable[[float], float]] = {
        "higher": lambda value: -value,
        "lower": lambda value: value,
        "zero": abs,
    }
    costs = {name: key[MEASURES[measure].better](value) for name, value in values.items() if value is not None}
    best = [name.partition(" · ")[0] for name, cost in costs.items() if cost == min(costs.values())]
    return "all" if len(best) == len(costs) > 1 else ", ".join(best)


def _conditions(evaluation: Evaluation) -> tuple[object, ...]:
    """What has to be equal for two evaluations to stand in one table."""
    return (
        evaluation.dataset,
        evaluation.fingerprint,
        evaluation.part,
        evaluation.target,
        evaluation.policy,
        evaluation.threshold,
        evaluation.units,
        tuple((score.case, score.z) for score in evaluation.model.slices),
    )


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, changed: int, size: int) -> str:
    return sha256_file(path)
