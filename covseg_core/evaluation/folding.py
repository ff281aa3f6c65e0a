"""The folds of a cross-validation as one model for each metric: every patient tested once, all of them in one table.

Each fold's models are scored on the fold's own test part, as any run's; then the rows of all folds are put together,
and pooled values and means are taken over all of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from covseg_core.data.split import Selection
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation import tables
from covseg_core.evaluation.evaluate import NO_SURFACES, UNKNOWN_SIZE, Progress, evaluate_runs, few_patients
from covseg_core.evaluation.measures import Counts, EmptyPolicy, overlap
from covseg_core.evaluation.policies import with_policy
from covseg_core.evaluation.result import VERSION, Comparison, Evaluation, OwnScore
from covseg_core.evaluation.scores import ScanScore, Scores, SliceScore, defined, join_scans, summarise
from covseg_core.files import read_json, sha256_file
from covseg_core.runs import Run, read_status


@dataclass(frozen=True)
class Folds:
    """The folds of one metric of an experiment."""

    runs: tuple[Run, ...]
    """Finished ones, by fold."""

    @property
    def id(self) -> str:
        """`<experiment>-<metric>`."""
        config = self.runs[0].config
        return f"{config.experiment}-{config.metric}"

    @property
    def numbers(self) -> tuple[int, ...]:
        """Which folds they are, from 1."""
        return tuple(run.config.split.fold for run in self.runs)

    @property
    def test(self) -> Selection:
        """What they test together."""
        rows: dict[str, list[int]] = {}
        for run in self.runs:
            for id, chosen in run.split.test.items():
                rows.setdefault(id, []).extend(chosen)
        return {id: tuple(sorted(chosen)) for id, chosen in sorted(rows.items())}


def of_several_folds(runs: Sequence[Run]) -> bool:
    """Whether runs test different parts of a cross-validation, so that `evaluate_folds` is the way to compare them."""
    splits = [run.config.split for run in runs]
    return all(split.folds for split in splits) and len({split.fold for split in splits}) > 1


def finished_folds(runs: Sequence[Run]) -> list[Folds]:
    """Runs of folds by experiment and metric, in the order in which these come; empty if no fold is there for all.

    Of each experiment those folds that are finished for each of its metrics; metrics without a finished fold are left
    out.
    """
    found: dict[str, dict[str, dict[int, Run]]] = {}
    for run in runs:
        status, config = read_status(run), run.config
        if config.split.folds and status is not None and status.state == "finished":
            found.setdefault(config.experiment, {}).setdefault(config.metric, {})[config.split.fold] = run
    models = []
    for metrics in found.values():
        common = sorted(set.intersection(*(set(folds) for folds in metrics.values())))
        models += [Folds(tuple(folds[fold] for fold in common)) for folds in metrics.values() if common]
    return models


def evaluate_folds(runs: Sequence[Run], policy: EmptyPolicy = "nan", progress: Progress | None = None) -> Comparison:
    """Compare the models of a cross-validation, one evaluation for each metric (and experiment) over all folds.

    Folds that are scored already are not scored again; the others write their files as by `evaluate_run`. If folds are
    not finished, those count that are finished for all metrics, and the notes say so.

    Raises
    ------
    RunError : not all are folds of one deal, or no fold is finished for all metrics
    RunError, DatasetError : as `evaluate_run`
    """
    overlap(Counts(), policy)  # an unknown policy ends here
    _check_deal(runs)
    models = finished_folds(runs)
    if not models or len({model.numbers for model in models}) > 1:
        names = ", ".join(dict.fromkeys(run.config.experiment for run in runs)) or "evaluate"
        raise RunError(names, "no fold is finished for all models", "at least one: `covseg runs list`")
    folds = [list(fold) for fold in zip(*(model.runs for model in models), strict=True)]
    stored = [stored_comparison(fold) for fold in folds]
    sizes = [
        0 if known else sum(map(len, fold[0].split.test.values())) for fold, known in zip(folds, stored, strict=True)
    ]
    comparisons = []
    for number, fold in enumerate(folds):
        advance = _share(progress, sum(sizes[:number]), sizes[number], sum(sizes))
        known = stored[number]
        comparisons.append(with_policy(known, policy) if known else evaluate_runs(fold, None, policy, advance))
    return merge(models, comparisons)


def stored_comparison(runs: Sequence[Run], read: Callable[[Run], Evaluation | None] | None = None) -> Comparison | None:
    """What the folders of the runs of one fold hold, if it belongs to their present models; else None.

    Parameters
    ----------
    read : how to get at a run's evaluation, if not from its file; may raise `CovsegError`
    """
    try:
        evaluations = [read(run) if read else read_json(run.evaluation, Evaluation) for run in runs]
    except CovsegError:
        return None
    found = [evaluation for evaluation in evaluations if evaluation is not None]
    if len(found) < len(runs) or any(not _current(run, one) for run, one in zip(runs, found, strict=True)):
        return None
    slices = [[(score.case, score.z) for score in one.model.slices] for one in found]
    if any(one.policy != found[0].policy or rows != slices[0] for one, rows in zip(found, slices, strict=True)):
        return None
    return Comparison(found[0].dataset, found[0].part, any(one.leaky for one in found), tuple(found))


def merge(models: Sequence[Folds], comparisons: Sequence[Comparison]) -> Comparison:
    """Put the comparisons of all folds together.

    Parameters
    ----------
    models : with the same folds
    comparisons : one for each fold, with an evaluation for each model, all under one policy
    """
    first = comparisons[0].evaluations[0]
    joined = _Joined([comparison.evaluations[0] for comparison in comparisons])
    baselines = tuple(
        joined.scores([comparison.baselines[number] for comparison in comparisons])
        for number in range(len(comparisons[0].baselines))
    )
    evaluations = []
    for number, model in enumerate(models):
        parts = [comparison.evaluations[number] for comparison in comparisons]
        evaluations.append(_evaluation(model, parts, joined.scores([part.model for part in parts]), baselines, joined))
    return Comparison(first.dataset, first.part, any(one.leaky for one in evaluations), tuple(evaluations))


class _Joined:
    """How rows of several folds become one table's."""

    def __init__(self, parts: Sequence[Evaluation]) -> None:
        self.policy = parts[0].policy
        self.same_units = all(part.units == parts[0].units for part in parts)
        self.spacing_known = all(part.spacing_known for part in parts)
        self.units = parts[0].units if self.same_units else {"distance": "px", "volume": "voxels"}

    def scores(self, parts: Sequence[Scores]) -> Scores:
        """Rows of all parts by case and slice, and their means."""
        slices = sorted((score for part in parts for score in part.slices), key=lambda score: (score.case, score.z))
        if not self.same_units:
            slices = [_in_voxels(score) for score in slices]
        rows: dict[str, list[SliceScore]] = {}
        for score in slices:
            rows.setdefault(score.case, []).append(score)
        scans: dict[str, list[ScanScore]] = {}
        for scan in (scan for part in parts for scan in part.scans):
            scans.setdefault(scan.case, []).append(scan)
        joined = [
            scans[case][0]
            if len(scans[case]) == 1 and self.same_units
            else join_scans(scans[case], rows[case], self.policy)
            for case in sorted(scans)
        ]
        return summarise(parts[0].name, parts[0].description, joined, slices, self.policy)


def _evaluation(
    model: Folds, parts: Sequence[Evaluation], scores: Scores, baselines: tuple[Scores, ...], joined: _Joined
) -> Evaluation:
    patients = len({score.patient for score in scores.slices})
    shas = "".join(part.model_sha256 for part in parts)
    return dataclasses.replace(
        parts[0],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        run=model.id,
        model_sha256=hashlib.sha256(shas.encode()).hexdigest(),
        leaky=any(part.leaky for part in parts),
        seen_patients=tuple(sorted({patient for part in parts for patient in part.seen_patients})),
        slices=len(scores.slices),
        positive_slices=sum(score.counts.truth > 0 for score in scores.slices),
        scans=len(scores.scans),
        patients=patients,
        spacing_known=joined.spacing_known,
        units=joined.units,
        own=_own(parts),
        training_seconds=sum(part.training_seconds for part in parts),
        epochs=sum(part.epochs for part in parts),
        model=scores,
        baselines=baselines,
        predictions=None,
        notes=tuple(_notes(model, parts, patients, scores.scans, joined)),
        folds=len(parts),
    )


def _own(parts: Sequence[Evaluation]) -> OwnScore:
    """Pooled over all folds: the test over each slice once, training and validation over each as often as learned."""
    metric, own = parts[0].metric, [part.own for part in parts]

    def pooled(counts: Sequence[Counts | None]) -> tuple[float | None, Counts | None]:
        known = [one for one in counts if one is not None]
        total = sum(known, Counts())
        return (overlap(total, "one")[metric], total) if len(known) == len(counts) else (None, None)

    learned, test = pooled([one.train_validation_counts for one in own]), pooled([one.test_counts for one in own])
    return OwnScore(own[0].metric, learned[0], test[0] or 0.0, learned[1], test[1])


def _notes(
    model: Folds, parts: Sequence[Evaluation], patients: int, scans: Sequence[ScanScore], joined: _Joined
) -> list[str]:
    """What is true of all folds together, in place of what each says of its few scans."""
    split = model.runs[0].config.split
    unseen = "that has not seen them" if split.kind == "patient" else "that has not seen it"
    notes = [f"Every {split.kind} is tested once, by the model of the fold {unseen} ({len(parts)} folds)."]
    if len(parts) < split.folds:
        listed = ", ".join(map(str, model.numbers))
        notes = [
            f"Only {len(parts)} of {split.folds} folds are finished for all models ({listed}): the rest is not tested."
        ]
    if not joined.same_units:
        notes.append("Voxel size is unknown in some folds: distances are left out, volumes are in voxels.")
    elif not joined.spacing_known:
        notes.append(f"{UNKNOWN_SIZE} scans of each fold: distances in px, volumes in voxels.")
    partial = sum(not scan.whole for scan in scans) if joined.same_units else 0
    if partial:
        why = "unrelated slices, or in several folds"
        notes.append(f"{NO_SURFACES} {partial} of {tables.plural(len(scans), 'scan')}: {why}.")
    few = [note for part in parts for note in few_patients(part.patients)]
    for note in dict.fromkeys(note for part in parts for note in part.notes):
        if not note.startswith((UNKNOWN_SIZE, NO_SURFACES)) and note not in few:
            notes.append(note)
    return notes + few_patients(patients)


def _in_voxels(score: SliceScore) -> SliceScore:
    """Without what needs the voxel size."""
    counts = score.counts
    volumes = {"volume_difference": float(counts.fp - counts.fn)}
    if not counts.truth:
        volumes["false_positive_volume"] = float(counts.fp)
    kept = {name: value for name, value in score.values.items() if value is not None}
    kept = {name: value for name, value in kept.items() if name not in ("hd95", "nsd", "false_positive_volume")}
    return dataclasses.replace(score, values=defined(kept | volumes))


def _current(run: Run, evaluation: Evaluation) -> bool:
    try:
        sha256 = sha256_file(run.onnx)
    except OSError:
        return False
    known = evaluation.own.test_counts is not None
    return known and evaluation.version == VERSION and evaluation.model_sha256 == sha256


def _check_deal(runs: Sequence[Run]) -> None:
    """Raise unless all runs are folds of one deal of one dataset."""
    configs = [run.config for run in runs]
    deals = [
        (one.dataset, one.fingerprint, one.target, dataclasses.replace(one.split, fold=1))
        for one in configs
        if one.split.folds
    ]
    if not runs or len(deals) < len(runs) or any(deal != deals[0] for deal in deals):
        names = ", ".join(dict.fromkeys(one.experiment for one in configs)) or "evaluate"
        raise RunError(names, "not folds of one cross-validation", "runs of one experiment with folds")


def _share(progress: Progress | None, before: int, size: int, total: int) -> Progress | None:
    """Progress of one fold as its part of the whole."""
    if progress is None or not total:
        return None
    return lambda done, of: progress(before + round(size * done / max(of, 1)), total)
