"""Rows of several folds as one table: pooled values and means over all of them, and what is true of all together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime

from covseg_core.config import METRICS
from covseg_core.evaluation import wording
from covseg_core.evaluation.cross_validation.folded_run import joined_sha256
from covseg_core.evaluation.evaluate import NO_SURFACES, UNKNOWN_SIZE, few_patients
from covseg_core.evaluation.measures import Counts, overlap
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison, Evaluation, OwnScore
from covseg_core.evaluation.scores import ScanScore, Scores, SliceScore, defined, join_scans, summarise


def merge(models: Sequence[Model], comparisons: Sequence[Comparison]) -> Comparison:
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
    model: Model, parts: Sequence[Evaluation], scores: Scores, baselines: tuple[Scores, ...], joined: _Joined
) -> Evaluation:
    patients = len({score.patient for score in scores.slices})
    return dataclasses.replace(
        parts[0],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        run=model.id,
        model_sha256=joined_sha256([part.model_sha256 for part in parts]),
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
    measure, own = METRICS[parts[0].metric].measure, [part.own for part in parts]

    def pooled(counts: Sequence[Counts | None]) -> tuple[float | None, Counts | None]:
        known = [one for one in counts if one is not None]
        total = sum(known, Counts())
        return (overlap(total, "one")[measure], total) if len(known) == len(counts) else (None, None)

    learned, test = pooled([one.train_validation_counts for one in own]), pooled([one.test_counts for one in own])
    return OwnScore(own[0].metric, learned[0], test[0] or 0.0, learned[1], test[1])


def _notes(
    model: Model, parts: Sequence[Evaluation], patients: int, scans: Sequence[ScanScore], joined: _Joined
) -> list[str]:
    """What is true of all folds together, in place of what each says of its few scans."""
    split = model.runs[0].config.split
    unseen = "that has not seen them" if split.kind == "patient" else "that has not seen it"
    notes = [f"Every {split.kind} is tested once, by the model of the fold {unseen} ({len(parts)} folds)."]
    if len(parts) < split.folds:
        listed = ", ".join(map(str, model.folds))
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
        notes.append(f"{NO_SURFACES} {partial} of {wording.plural(len(scans), 'scan')}: {why}.")
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
