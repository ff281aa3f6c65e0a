"""From what models say about a scan to masks: threshold, leave out, combine, measure, report, write."""

from __future__ import annotations

import dataclasses
import functools
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from covseg_core.data.reading.volumes import Volume
from covseg_core.prediction.ask import Answers
from covseg_core.prediction.combination import WORDS, Combine, combination
from covseg_core.prediction.expected_dice import expected_dice
from covseg_core.prediction.inference import Cancel, stop_if
from covseg_core.prediction.masks.kept import Kept, Rules
from covseg_core.prediction.masks.lung_sides import LungReport, measure_lungs
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
)
from covseg_core.prediction.passport import unlike
from covseg_core.prediction.scan import Scan
from covseg_core.runs.operating_point import Thresholds

COMBINED = ""
"""Key of the mask of all models together, or of the only model's, beside those of the models by run id."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """A scan, its mask, and the masks of the models that were combined."""

    scan: Volume
    report: Report
    output: Path | None
    replaced: tuple[str, ...]
    """Files of an earlier prediction that were in the output folder and are gone or new now."""
    packed: dict[str, np.ndarray] = field(repr=False)
    """Masks by run id and under `COMBINED`, one bit a voxel; `mask_of` and `plane_of` unpack them."""
    lungs: np.ndarray | None = None
    """(Z, Y, X) uint8: 0 no lung, 1 the patient's right, 2 the left; None where no lung model was asked."""

    @functools.cached_property
    def mask(self) -> np.ndarray:
        """(Z, Y, X) uint8 0/1, RAS+, as `scan.voxels`: of all models together, or of the only one."""
        return self.mask_of(COMBINED)

    def mask_of(self, run: str) -> np.ndarray:
        """(Z, Y, X) uint8 0/1: the mask of one model."""
        return np.unpackbits(self.packed[run], count=self.scan.voxels.size).reshape(self.scan.voxels.shape)

    def plane_of(self, run: str, z: int) -> np.ndarray:
        """(Y, X) bool: one plane of it, without unpacking the others."""
        shape = self.scan.voxels.shape[1:]
        area = shape[0] * shape[1]
        first, behind = divmod(z * area, 8)
        bits = np.unpackbits(self.packed[run][first : first + area // 8 + 2])
        return bits[behind : behind + area].reshape(shape).astype(bool)


def decide(
    scan: Scan,
    answers: Answers,
    thresholds: Thresholds,
    files: Files | None = None,
    keep_beyond: bool = False,
    cancel: Cancel | None = None,
    combine: Combine = "mean",
) -> Prediction:
    """Make the models' masks, combine them, measure, report, and write if there are files to be written.

    Parameters
    ----------
    scan : the one that the models were asked about
    thresholds : of all models, or of each in their order
    files : to write; None for none
    keep_beyond : leave nothing out that lies beyond the chest
    combine : how several models become one mask; see `combination`
    """
    started = time.perf_counter() - scan.seconds - answers.seconds
    masks = _masks(scan, answers, thresholds, files, keep_beyond, cancel, combine)
    report = _report(scan, answers, thresholds, masks, files, combine)
    own = [masks.packed[run] for run in answers.runs]
    known = scan.voxel_ml is not None
    expected = expected_dice(answers, thresholds, combine, keep_beyond, own, report.mask.voxels, known)
    report = dataclasses.replace(report, expected_dice=expected)
    report = dataclasses.replace(report, seconds=round(time.perf_counter() - started, 3))
    prediction = Prediction(scan.volume, report, None, (), masks.packed, answers.sides)
    if files is None:
        return prediction
    report = write_files(files, scan, report, masks.combined.mask, prediction.mask_of, answers, cancel)
    return dataclasses.replace(prediction, report=report, output=files.folder, replaced=files.replaced)


@dataclass(frozen=True, eq=False)
class _Masks:
    """What the models mark, each and together."""

    models: tuple[ModelReport, ...]
    combined: Kept
    size: MaskReport
    """Of the combined mask."""
    tied: int
    packed: dict[str, np.ndarray]


def _masks(
    scan: Scan,
    answers: Answers,
    thresholds: Thresholds,
    files: Files | None,
    keep_beyond: bool,
    cancel: Cancel | None,
    combine: Combine,
) -> _Masks:
    ml, number = scan.voxel_ml, len(answers.models)
    spacing = None if ml is None else scan.volume.spacing
    rules = Rules(None if keep_beyond else answers.sides, spacing, None if ml is None else 1000 * ml)
    together, packed = combination(combine, scan.volume.voxels.shape, rules), dict[str, np.ndarray]()
    models: list[ModelReport] = []
    for answer, at in zip(answers.models, thresholds.of(number), strict=True):
        stop_if(cancel)
        run, kept = answer.model.run, together.add(answer, at)
        size = _measured(scan, kept, answers.sides, files.models.get(run) if files else None)
        packed[run] = np.packbits(kept.mask)
        models.append(
            ModelReport(
                **vars(answer.model),
                mask=size,
                threshold=at.threshold,
                minimum_mm3=at.minimum_mm3,
                peak=at.peak,
                precision=answer.precision,
            )
        )
    tied = together.tied()
    if number > 1:
        stop_if(cancel)
        kept = together.decide(thresholds.minimum_mm3)
        size = _measured(scan, kept, answers.sides, None)
        packed[COMBINED] = np.packbits(kept.mask)
    else:
        packed[COMBINED] = packed[answers.models[0].model.run]
    return _Masks(tuple(models), kept, dataclasses.replace(size, file=MASK if files else None), tied, packed)


def _report(
    scan: Scan, answers: Answers, thresholds: Thresholds, masks: _Masks, files: Files | None, combine: Combine
) -> Report:
    lungs = _lungs(scan, answers, masks.combined, LUNG_MASK if files else None)
    odd = unlike({answer.model.run: answer.unusual for answer in answers.all})
    own = [warning for answer in answers.all for warning in answer.warnings]
    several = len(answers.models) > 1
    return Report(
        notice=NOTICE,
        created=now(),
        seconds=0.0,
        target=answers.target,
        threshold=None if thresholds.each else thresholds.threshold,
        tied_voxels=masks.tied,
        scan=report_scan(scan.volume, scan.scale, scan.sha256),
        mask=masks.size,
        models=masks.models,
        warnings=(*scan.warnings, *own, *odd, *(lungs.warnings if lungs else ())),
        versions=versions(),
        files={},
        minimum_mm3=thresholds.minimum_mm3,
        peak=None if thresholds.each else thresholds.peak,
        lungs=lungs,
        passport=scan.passport,
        operating=thresholds.words if thresholds.why else "",
        combine=combine if several else None,
        combined=WORDS[combine] if several else "one model",
        mirror=answers.mirror,
    )


def _lungs(scan: Scan, answers: Answers, combined: Kept, file: str | None) -> LungReport | None:
    if answers.lungs is None or answers.sides is None:
        return None
    spacing = None if scan.voxel_ml is None else scan.volume.spacing
    model = (answers.lungs.model.run, answers.lungs.model.sha256)
    return measure_lungs(answers.sides, combined.mask, spacing, scan.voxel_ml, model, file, combined.beyond)


def _measured(scan: Scan, kept: Kept, sides: np.ndarray | None, file: str | None) -> MaskReport:
    size = report_mask(kept.mask, scan.volume, file, kept.sizes)
    return size if sides is None else dataclasses.replace(size, lung_share=_share(kept.mask, sides))


def _share(mask: np.ndarray, sides: np.ndarray) -> float | None:
    """Share of the lungs that is in a mask; None without lungs."""
    lung = sum(int(np.count_nonzero(plane)) for plane in sides)
    both = sum(int(np.count_nonzero(plane & (side > 0))) for plane, side in zip(mask, sides, strict=True))
    return both / lung if lung else None
