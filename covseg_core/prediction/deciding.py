"""From what models say about a scan to masks: threshold, vote, leave out, measure, report, write.

Several models vote, voxel by voxel: a voxel is in the mask when more than half of the models have it in theirs. A tie,
which an even number of models can have, is left out; the report says how many voxels that are.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from covseg_core.config import Target
from covseg_core.data.volumes import Volume
from covseg_core.operating_point import Cut, Setting
from covseg_core.prediction.checking import CheckedScan
from covseg_core.prediction.chest import leave_out_beyond
from covseg_core.prediction.components import large_parts, smallest_voxels
from covseg_core.prediction.inference import Cancel, stop_if
from covseg_core.prediction.lungs import LungReport, body_middle, clean_lungs, measure_lungs, split_lungs
from covseg_core.prediction.passport import make_passport, unlike
from covseg_core.prediction.probabilities import Probabilities
from covseg_core.prediction.report import (
    NOTICE,
    MaskReport,
    ModelReport,
    Report,
    now,
    report_mask,
    report_scan,
    versions,
    voxel_ml,
)
from covseg_core.prediction.writing import LUNG_MASK, MASK, Files, write_files

LUNG_THRESHOLD = 0.5
"""Probability from which a voxel is lung, whatever the threshold of the infection."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """A scan, its mask, and the masks of the models that voted."""

    scan: Volume
    mask: np.ndarray
    """(Z, Y, X) uint8 0/1, RAS+, as `scan.voxels`."""
    report: Report
    output: Path | None
    replaced: tuple[str, ...]
    """Files of an earlier prediction that were in the output folder and are gone or new now."""
    packed: dict[str, np.ndarray] = field(repr=False)
    """Masks of the single models by run id, one bit a voxel; `mask_of` unpacks them."""
    lungs: np.ndarray | None = None
    """(Z, Y, X) uint8: 0 no lung, 1 the patient's right, 2 the left; None where no lung model was asked."""

    def mask_of(self, run: str) -> np.ndarray:
        """(Z, Y, X) uint8 0/1: the mask of one model."""
        return np.unpackbits(self.packed[run], count=self.mask.size).reshape(self.mask.shape)


def decide(
    scan: CheckedScan,
    target: Target,
    answers: Sequence[Probabilities],
    lung: Probabilities | None,
    setting: Setting,
    keep_beyond: bool,
    started: float,
    files: Files | None,
    cancel: Cancel | None,
    sides: np.ndarray | None = None,
) -> Prediction:
    """Threshold the answers, let them vote, measure, report, and write if there are files to be written.

    Parameters
    ----------
    scan : the one that the models were asked about
    answers : of models of one target
    lung : the answer of a lung model, or None
    setting : thresholds and smallest sizes
    keep_beyond : leave nothing out that lies beyond the chest
    started : when, by `time.perf_counter` [s]
    files : to write; None for none
    sides : what `lung_sides` makes of `lung`, where that is there already
    """
    volume, number = scan.volume, len(answers)
    cuts = setting.each or (Cut(setting.threshold, setting.minimum_mm3),) * number
    mask, tied, packed = _vote(answers, volume.voxels.shape, [cut.threshold for cut in cuts])
    if lung is None:
        sides = None
    elif sides is None:
        sides = lung_sides(scan, lung)
    ml = voxel_ml(volume)
    spacing = None if ml is None else volume.spacing
    beyond = 0
    """Voxels of the last mask measured, which is the vote's."""

    def measured(mask: np.ndarray, file: str | None, minimum_mm3: float) -> tuple[np.ndarray, MaskReport]:
        nonlocal beyond
        if sides is not None and not keep_beyond:
            mask, beyond = leave_out_beyond(mask, sides, spacing)
        least = smallest_voxels(minimum_mm3, 1000 * ml) if ml is not None else 1
        mask, sizes = large_parts(mask, least)
        size = report_mask(mask, volume, file, sizes)
        return mask, size if sides is None else dataclasses.replace(size, lung_share=_share(mask, sides))

    models: list[ModelReport] = []
    for answer, cut in zip(answers, cuts, strict=True):
        stop_if(cancel)
        run = answer.model.run
        own = np.unpackbits(packed[run], count=mask.size).reshape(mask.shape)
        own, size = measured(own, files.models.get(run) if files else None, cut.minimum_mm3)
        packed[run] = np.packbits(own)
        models.append(
            dataclasses.replace(answer.model, mask=size, threshold=cut.threshold, minimum_mm3=cut.minimum_mm3)
        )
    if number > 1:
        mask, mask_report = measured(mask, MASK if files else None, setting.minimum_mm3)
    else:  # measured already
        mask, mask_report = own, dataclasses.replace(models[0].mask, file=MASK if files else None)
    lungs: LungReport | None = None
    warnings = _warnings(scan, [*answers, lung] if lung else answers)
    if lung is not None and sides is not None:
        model = (lung.model.run, lung.model.sha256)
        lungs = measure_lungs(sides, mask, spacing, ml, model, LUNG_MASK if files else None, beyond)
        warnings += lungs.warnings
    report = Report(
        notice=NOTICE,
        created=now(),
        seconds=round(time.perf_counter() - started, 3),
        target=target,
        threshold=None if setting.each else setting.threshold,
        vote="more than half of the models; a tie is left out" if number > 1 else "one model, no vote",
        tied_voxels=tied,
        scan=report_scan(volume, scan.scale, scan.sha256),
        mask=mask_report,
        models=tuple(models),
        warnings=warnings,
        versions=versions(),
        files={},
        minimum_mm3=setting.minimum_mm3,
        lungs=lungs,
        passport=make_passport(scan),
        operating=setting.words if setting.why else "",
    )
    prediction = Prediction(volume, mask, report, None, (), packed, sides)
    if files is None:
        return prediction
    report = write_files(files, scan, report, mask, prediction.mask_of, sides, answers, cancel)
    return dataclasses.replace(prediction, report=report, output=files.folder, replaced=files.replaced)


def lung_sides(scan: CheckedScan, lung: Probabilities) -> np.ndarray:
    """Which lung each voxel is in, by the answer of a lung model: (Z, Y, X) uint8, as `lungs.split_lungs`."""
    mask = np.empty(scan.volume.voxels.shape, np.uint8)
    for part, probabilities in lung.planes():
        np.greater_equal(probabilities, LUNG_THRESHOLD, out=mask[part].view(bool))
    mask = clean_lungs(mask)
    return split_lungs(mask, body_middle(scan.volume.voxels, scan.scale, mask))


def _vote(
    answers: Sequence[Probabilities], shape: tuple[int, ...], thresholds: Sequence[float]
) -> tuple[np.ndarray, int, dict[str, np.ndarray]]:
    """The vote's mask (Z, Y, X) uint8 0/1, the voxels that are tied, and the models' masks, one bit a voxel."""
    votes, number = np.zeros(shape, np.uint8), len(answers)
    packed = {}
    for answer, threshold in zip(answers, thresholds, strict=True):
        own = np.empty(shape, np.uint8)
        for part, probabilities in answer.planes():
            np.greater_equal(probabilities, threshold, out=own[part].view(bool))
        votes += own
        packed[answer.model.run] = np.packbits(own)
        del own
    tied = sum(int(np.count_nonzero(plane == number / 2)) for plane in votes)
    return np.greater(votes, number // 2, out=votes.view(bool)).view(np.uint8), tied, packed


def _share(mask: np.ndarray, sides: np.ndarray) -> float | None:
    """Share of the lungs that is in a mask; None without lungs."""
    lung = sum(int(np.count_nonzero(plane)) for plane in sides)
    both = sum(int(np.count_nonzero(plane & (side > 0))) for plane, side in zip(mask, sides, strict=True))
    return both / lung if lung else None


def _warnings(scan: CheckedScan, answers: Sequence[Probabilities]) -> tuple[str, ...]:
    odd = unlike({answer.model.run: answer.unusual for answer in answers})
    return (*scan.warnings, *(warning for answer in answers for warning in answer.warnings), *odd)
