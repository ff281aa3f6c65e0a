"""`cohort.csv`: a row a scan, for a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import Any

from covseg_core.prediction.cohort.figures import Figures
from covseg_core.prediction.cohort.state import Cohort, Row

TABLE = "cohort.csv"
COLUMNS = (
    "scan", "state", "patient", "day", "target", "volume_ml", "voxels", "lungs_ml", "lung_share_percent",
    "right_share_percent", "left_share_percent", "severity_class", "lesions", "largest_lesion_ml", "slices",
    "slices_with_mask", "agreement", "expected_dice", "expected_dice_low", "expected_dice_high", "seconds", "warnings",
    "same_as", "problem", "scan_sha256",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t")
"""What a spreadsheet takes for the beginning of a formula."""


def make_table(cohort: Cohort) -> bytes:
    """The rows of a cohort as CSV in UTF-8: empty where something is not known or does not apply."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(row) for row in cohort.rows)
    return text.getvalue().encode()


def _row(row: Row) -> dict[str, Any]:
    figures = _figures(row.figures) if row.figures else {}
    return {
        "scan": row.name,
        "state": row.state,
        "patient": row.patient,
        "day": "" if row.day is None else row.day,
        "same_as": row.same_as,
        "problem": _text(row.problem),
        "scan_sha256": row.sha256,
        **figures,
    }


def _figures(figures: Figures) -> dict[str, Any]:
    expected = figures.expected_dice
    return {
        "target": figures.target,
        "volume_ml": _rounded(figures.volume_ml, 4),
        "voxels": figures.voxels,
        "lungs_ml": _rounded(figures.lungs_ml, 4),
        "lung_share_percent": _percent(figures.share),
        "right_share_percent": _percent(figures.right_share),
        "left_share_percent": _percent(figures.left_share),
        "severity_class": "" if figures.severity is None else figures.severity,
        "lesions": figures.lesions,
        "largest_lesion_ml": _rounded(figures.largest_ml, 4),
        "slices": figures.slices,
        "slices_with_mask": figures.marked_slices,
        "agreement": _rounded(figures.agreement, 4),
        "expected_dice": _rounded(expected.value if expected else None, 4),
        "expected_dice_low": _rounded(expected.low if expected else None, 4),
        "expected_dice_high": _rounded(expected.high if expected else None, 4),
        "seconds": figures.seconds,
        "warnings": _text("; ".join(figures.warnings)),
    }


def _percent(share: float | None) -> float | str:
    return _rounded(None if share is None else 100 * share, 3)


def _rounded(value: float | None, digits: int) -> float | str:
    return "" if value is None else round(value, digits)


def _text(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
