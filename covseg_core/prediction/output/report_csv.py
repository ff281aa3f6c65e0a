"""`report.csv`: a row a mask and a row a lung, for a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import Any

from covseg_core.prediction.expected_dice import ExpectedDice
from covseg_core.prediction.masks.lung_sides import LungPart
from covseg_core.prediction.output.report import MaskReport, Report

COLUMNS = (
    "part", "run", "voxels", "volume_ml", "infection_voxels", "infection_ml", "lung_share_percent", "lesions",
    "largest_lesion_ml", "slices", "scan_sha256", "threshold", "minimum_mm3", "peak", "mirror",
    "agreement", "expected_dice", "expected_dice_low", "expected_dice_high",
)  # fmt: skip


def make_table(report: Report) -> bytes:
    """The figures of a report as CSV in UTF-8: empty where something is not known or does not apply."""
    cut, mirror = _cut(report.threshold, report.minimum_mm3, report.peak), "yes" if report.mirror else "no"
    common = {"scan_sha256": report.scan.sha256, "mirror": mirror, **cut}
    several = len(report.models) > 1
    whole = _mask(report, report.combine or "mask", "" if several else report.models[0].run, report.mask)
    rows = [whole | _expected(report.expected_dice)]
    if several:
        for model in report.models:
            own = _cut(model.threshold, model.minimum_mm3, model.peak)
            rows.append(_mask(report, "model", model.run, model.mask) | own)
    if lungs := report.lungs:
        parts = {"right lung": lungs.right, "left lung": lungs.left, "both lungs": lungs.both}
        rows += [_lung(name, lungs.run, part) for name, part in parts.items()]
        outside = {"infection_voxels": lungs.outside_voxels, "infection_ml": _rounded(lungs.outside_ml)}
        rows.append({"part": "outside the lungs", "run": lungs.run, **outside})
        beyond = {"infection_voxels": lungs.beyond_voxels, "infection_ml": _rounded(lungs.beyond_ml)}
        rows.append({"part": "left out beyond the chest", "run": lungs.run, **beyond})
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**common, **row} for row in rows)
    return text.getvalue().encode()


def _cut(threshold: float | None, minimum_mm3: float, peak: float | None) -> dict[str, Any]:
    cut = {"threshold": threshold, "minimum_mm3": minimum_mm3, "peak": peak}
    return {name: "" if value is None else value for name, value in cut.items()}


def _mask(report: Report, part: str, run: str, mask: MaskReport) -> dict[str, Any]:
    ml = report.scan.voxel_ml
    return {
        "part": part,
        "run": run,
        "voxels": mask.voxels,
        "volume_ml": _rounded(mask.volume_ml),
        "lung_share_percent": _percent(mask.lung_share),
        "lesions": mask.lesions,
        "largest_lesion_ml": _rounded(None if ml is None else mask.largest_voxels * ml),
        "slices": len(mask.positive_slices),
    }


def _expected(expected: ExpectedDice | None) -> dict[str, Any]:
    if expected is None:
        return {}
    edges = {"": expected.value, "_low": expected.low, "_high": expected.high}
    known = {f"expected_dice{name}": round(value, 4) for name, value in edges.items() if value is not None}
    return {"agreement": round(expected.agreement, 4), **known}


def _lung(name: str, run: str, part: LungPart) -> dict[str, Any]:
    return {
        "part": name,
        "run": run,
        "voxels": part.voxels,
        "volume_ml": _rounded(part.volume_ml),
        "infection_voxels": part.infection_voxels,
        "infection_ml": _rounded(part.infection_ml),
        "lung_share_percent": _percent(part.share),
    }


def _rounded(ml: float | None) -> float | str:
    return "" if ml is None else round(ml, 4)


def _percent(share: float | None) -> float | str:
    return "" if share is None else round(100 * share, 3)
