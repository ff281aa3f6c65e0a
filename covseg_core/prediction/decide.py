"""From what models say about a scan to masks: threshold, leave out, vote, measure, report, write."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from covseg_core.config import Target
from covseg_core.data.reading.volumes import Volume
from covseg_core.prediction.inference import Cancel, stop_if
from covseg_core.prediction.masks.lung_sides import LungReport, body_middle, clean_lungs, measure_lungs, split_lungs
from covseg_core.prediction.output.files import LUNG_MASK, MASK, Files, write_files
from covseg_core.prediction.output.report import (
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
from covseg_core.prediction.passport import make_passport, unlike
from covseg_core.prediction.probabilities import Probabilities
from covseg_core.prediction.scan import Scan
from covseg_core.prediction.voting import Kept, Rules, Votes, reaching
from covseg_core.runs.operating_point import Threshold, Thresholds

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
    scan: Scan,
    target: Target,
    answers: Sequence[Probabilities],
    lung: Probabilities | None,
    thresholds: Thresholds,
    keep_beyond: bool,
    started: float,
    files: Files | None,
    cancel: Cancel | None,
    sides: np.ndarray | None = None,
) -> Prediction:
    """Make the models' masks, let them vote, measure, report, and write if there are files to be written.

    Parameters
    ----------
    scan : the one that the models were asked about
    answers : of models of one target
    lung : the answer of a lung model, or None
    thresholds : thresholds and smallest sizes
    keep_beyond : leave nothing out that lies beyond the chest
    started : when, by `time.perf_counter` [s]
    files : to write; None for none
    sides : what `lung_sides` makes of `lung`, where that is there already
    """
    volume, number = scan.volume, len(answers)
    each = thresholds.each or (Threshold(thresholds.threshold, thresholds.minimum_mm3),) * number
    if lung is None:
        sides = None
    elif sides is None:
        sides = lung_sides(scan, lung)
    ml = voxel_ml(volume)
    spacing = None if ml is None else volume.spacing
    rules = Rules(None if keep_beyond else sides, spacing, None if ml is None else 1000 * ml)

    def measured(kept: Kept, file: str | None) -> MaskReport:
        size = report_mask(kept.mask, volume, file, kept.sizes)
        return size if sides is None else dataclasses.replace(size, lung_share=_share(kept.mask, sides))

    votes, packed = Votes(volume.voxels.shape, rules), dict[str, np.ndarray]()
    models: list[ModelReport] = []
    for answer, at in zip(answers, each, strict=True):
        stop_if(cancel)
        run, kept = answer.model.run, votes.add(answer, at)
        size = measured(kept, files.models.get(run) if files else None)
        packed[run] = np.packbits(kept.mask)
        models.append(dataclasses.replace(answer.model, mask=size, threshold=at.threshold, minimum_mm3=at.minimum_mm3))
    file, tied = MASK if files else None, votes.tied()
    if number > 1:
        kept = votes.decide(thresholds.minimum_mm3)
        size = measured(kept, file)
    mask, mask_report = kept.mask, dataclasses.replace(size, file=file)
    lungs: LungReport | None = None
    warnings = _warnings(scan, [*answers, lung] if lung else answers)
    if lung is not None and sides is not None:
        model = (lung.model.run, lung.model.sha256)
        lungs = measure_lungs(sides, mask, spacing, ml, model, LUNG_MASK if files else None, kept.beyond)
        warnings += lungs.warnings
    report = Report(
        notice=NOTICE,
        created=now(),
        seconds=round(time.perf_counter() - started, 3),
        target=target,
        threshold=None if thresholds.each else thresholds.threshold,
        vote="more than half of the models; a tie is left out" if number > 1 else "one model, no vote",
        tied_voxels=tied,
        scan=report_scan(volume, scan.scale, scan.sha256),
        mask=mask_report,
        models=tuple(models),
        warnings=warnings,
        versions=versions(),
        files={},
        minimum_mm3=thresholds.minimum_mm3,
        lungs=lungs,
        passport=make_passport(scan),
        operating=thresholds.words if thresholds.why else "",
    )
    prediction = Prediction(volume, mask, report, None, (), packed, sides)
    if files is None:
        return prediction
    report = write_files(files, scan, report, mask, prediction.mask_of, sides, answers, cancel)
    return dataclasses.replace(prediction, report=report, output=files.folder, replaced=files.replaced)


def lung_sides(scan: Scan, lung: Probabilities) -> np.ndarray:
    """Which lung each voxel is in, by the answer of a lung model: (Z, Y, X) uint8, as `lungs.split_lungs`."""
    mask = clean_lungs(reaching(lung, LUNG_THRESHOLD))
    return split_lungs(mask, body_middle(scan.volume.voxels, scan.scale, mask))


def _share(mask: np.ndarray, sides: np.ndarray) -> float | None:
    """Share of the lungs that is in a mask; None without lungs."""
    lung = sum(int(np.count_nonzero(plane)) for plane in sides)
    both = sum(int(np.count_nonzero(plane & (side > 0))) for plane, side in zip(mask, sides, strict=True))
    return both / lung if lung else None


def _warnings(scan: Scan, answers: Sequence[Probabilities]) -> tuple[str, ...]:
    odd = unlike({answer.model.run: answer.unusual for answer in answers})
    return (*scan.warnings, *(warning for answer in answers for warning in answer.warnings), *odd)
