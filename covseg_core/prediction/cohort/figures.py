"""What a cohort's table says about one scan: the few figures of its report that are compared."""

from __future__ import annotations

from dataclasses import dataclass

from covseg_core.config import Target
from covseg_core.prediction.cohort.severity import severity
from covseg_core.prediction.decide import COMBINED, Prediction
from covseg_core.prediction.expected_dice import ExpectedDice
from covseg_core.prediction.masks.agreement import agreement


@dataclass(frozen=True)
class Figures:
    """Of one scan; all that is more stands in the report in its folder."""

    target: Target
    slices: int
    marked_slices: int
    """Slices with a mask."""
    voxels: int
    """Of the mask."""
    volume_ml: float | None
    """Of the mask; as the other volumes None where the voxel size is not known."""
    lungs_ml: float | None
    """Of both lungs; as the shares None where no lungs were asked for or found."""
    share: float | None
    """Of both lungs that is infected, 0..1."""
    right_share: float | None
    """Of the patient's right lung."""
    left_share: float | None
    severity: int | None
    """Class of the share; see `severity`."""
    lesions: int
    largest_ml: float | None
    """Of the largest lesion."""
    agreement: float | None
    """Of several models; see `agreement`."""
    warnings: tuple[str, ...]
    seconds: float
    """From opening the scan to the last mask."""
    expected_dice: ExpectedDice | None = None
    """None unless it was measured for exactly these models; None in cohorts of earlier versions."""


def figures_of(prediction: Prediction) -> Figures:
    """Taken from a prediction."""
    report, lungs = prediction.report, prediction.report.lungs
    infection, ml = report.target == "infection", report.scan.voxel_ml
    share = lungs.both.share if lungs else None
    return Figures(
        target=report.target,
        slices=report.scan.shape[0],
        marked_slices=len(report.mask.positive_slices),
        voxels=report.mask.voxels,
        volume_ml=report.mask.volume_ml,
        lungs_ml=lungs.both.volume_ml if lungs else None,
        share=share,
        right_share=lungs.right.share if lungs else None,
        left_share=lungs.left.share if lungs else None,
        severity=severity(share) if infection else None,
        lesions=report.mask.lesions,
        largest_ml=None if ml is None else report.mask.largest_voxels * ml,
        agreement=agreement(mask for run, mask in prediction.packed.items() if run != COMBINED),
        warnings=report.warnings,
        seconds=report.seconds,
        expected_dice=report.expected_dice,
    )
