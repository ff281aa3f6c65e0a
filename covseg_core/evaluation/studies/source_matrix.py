"""Models by datasets: what is shown of each pair, folds and seeds of one metric as one model. `shift` fills it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from covseg_core.evaluation.measures import Counts, overlap
from covseg_core.evaluation.results import VERSION, Evaluation
from covseg_core.evaluation.scores import Summary, counts_by, summary_of
from covseg_core.evaluation.seen import SAME_NAME
from covseg_core.runs import Run


@dataclass(frozen=True)
class Cell:
    """A model on a dataset."""

    version: int
    run: str
    model_sha256: str
    dataset: str
    fingerprint: str
    part: str
    """`test`: the model's own test part. `all`: everything in another dataset."""
    leaky: bool
    """A patient was seen in training or validation."""
    doubts: tuple[str, ...]
    """Where that cannot be known, a sentence on who may have been seen."""
    slices: int
    patients: int
    dice: Summary | None
    """Over scans, and over the slices of stacks of unrelated slices; None if it is undefined everywhere."""
    pooled_dice: float | None
    """Over all voxels."""
    values: dict[str, float]
    """Dice of each scan, or slice of a stack, where it is defined."""
    counts: Counts
    """Of all voxels."""

    @property
    def marks(self) -> list[str]:
        """What has to stand beside the number."""
        leaky = "LEAKY" if self.leaky else "LEAKY?" if self.doubts else ""
        return [mark for mark in ("own" if self.part == "test" else "", leaky) if mark]


@dataclass(frozen=True)
class Shift:
    """Models by datasets."""

    runs: tuple[str, ...]
    datasets: tuple[str, ...]
    cells: tuple[Cell, ...]
    """Those there are, by dataset and run."""

    @property
    def doubts(self) -> list[str]:
        """Sentences on patients that may have been seen in training, each once."""
        return list(dict.fromkeys(f"{cell.dataset}: {doubt}" for cell in self.cells for doubt in cell.doubts))

    def cell(self, run: str, dataset: str) -> Cell | None:
        """Of a model on a dataset; None if it was not scored there."""
        return next((cell for cell in self.cells if (cell.run, cell.dataset) == (run, dataset)), None)


def cell_of(evaluation: Evaluation) -> Cell:
    """What the matrix shows of an evaluation."""
    # a scan, or of a stack, where every slice is another patient, a slice
    counts = counts_by(evaluation.model.slices, lambda score: (score.case, score.patient))
    dice = {f"{case} {patient}": overlap(one)["dice"] for (case, patient), one in counts.items()}
    values = {key: value for key, value in dice.items() if not math.isnan(value)}
    total = sum(counts.values(), Counts())
    pooled = overlap(total)["dice"]  # whatever the evaluation's policy is for empty masks
    return Cell(
        VERSION,
        evaluation.run,
        evaluation.model_sha256,
        evaluation.dataset,
        evaluation.fingerprint,
        evaluation.part,
        evaluation.leaky,
        tuple(note for note in evaluation.notes if SAME_NAME in note),
        evaluation.slices,
        evaluation.patients,
        _summary(values),
        None if math.isnan(pooled) else pooled,
        values,
        total,
    )


def by_model(found: Shift, models: Mapping[str, Sequence[Run]]) -> Shift:
    """The same with the folds and seeds of a model taken together, where all of them were scored.

    On their own tests every scan counts once for each seed. Elsewhere all folds have predicted every scan. A scan that
    several have predicted counts with the mean of their Dice.
    """
    cells = []
    for dataset in found.datasets:
        for name, runs in models.items():
            parts = [cell for run in runs if (cell := found.cell(run.id, dataset)) is not None]
            if len(parts) == len(runs):
                seeds = len({run.config.train.seed_number for run in runs})
                cells.append(parts[0] if len(parts) == 1 else _together(name, parts, seeds))
    return Shift(tuple(models), found.datasets, tuple(cells))


def _together(name: str, parts: Sequence[Cell], seeds: int) -> Cell:
    """`seeds`: how many of the parts are of the same slices, if these are of the own test."""
    gathered: dict[str, list[float]] = {}
    for cell in parts:
        for key, value in cell.values.items():
            gathered.setdefault(key, []).append(value)
    means = {key: float(np.mean(values)) for key, values in gathered.items()}
    counts = sum((cell.counts for cell in parts), Counts())
    pooled = overlap(counts)["dice"]
    own = parts[0].part == "test"
    return dataclasses.replace(
        parts[0],
        run=name,
        model_sha256="",
        leaky=any(cell.leaky for cell in parts),
        doubts=tuple(dict.fromkeys(doubt for cell in parts for doubt in cell.doubts)),
        slices=sum(cell.slices for cell in parts) // seeds if own else parts[0].slices,
        patients=sum(cell.patients for cell in parts) // seeds if own else parts[0].patients,
        dice=_summary(means),
        pooled_dice=None if math.isnan(pooled) else pooled,
        values=means,
        counts=counts,
    )


def _summary(values: Mapping[str, float]) -> Summary | None:
    return summary_of(list(values.values())) if values else None
