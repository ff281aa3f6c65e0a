"""`report.html`: a prediction on one A4 page, in one file without script, to look at and to print.

What stands where is in `report.html.j2`; here is what goes in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from covseg_core.prediction.output.report import Report
from covseg_core.prediction.output.report_slices import draw_slice
from covseg_core.runs.operating_point import words

if TYPE_CHECKING:
    from jinja2 import Environment, Template

MAX_ROWS = 5
"""Models in the table, so that the page stays one; the rest are in `report.csv`."""
MAX_LINES = 13
"""Lines of warnings, of `_LINE` characters, for the same reason; the rest are in `report.json`."""
_LINE = 52
_NAME = 26
"""Characters of a run's id in the table; it stands in full beside its hash."""


def make_sheet(report: Report, voxels: np.ndarray, mask: np.ndarray, sides: np.ndarray | None) -> bytes:
    """The page, in UTF-8.

    Parameters
    ----------
    voxels : (Z, Y, X) of the scan
    mask : (Z, Y, X) uint8 0/1
    sides : (Z, Y, X) uint8: 0 where there is no lung; None without a lung mask
    """
    ml = report.scan.voxel_ml
    unit = "voxels" if ml is None else "mL"
    expected = report.expected_dice.sentence if report.expected_dice and report.expected_dice.reason else ""
    remarks = [
        *filter(None, [report.nothing, expected]),
        *report.warnings,
        *(report.passport.notes if report.passport else ()),
    ]
    places = choose_slices(report.mask.positive_slices, mask, sides)
    page = _template().render(
        report=report,
        slices=[draw_slice(report, voxels, mask, sides, z) for z in places],
        outlined=sides is not None,
        remarks=remarks,
        max_remarks=_fitting(remarks),
        max_rows=MAX_ROWS,
        unit=unit,
        number=lambda voxels: _number(voxels, ml),
        size=lambda voxels: f"{_number(voxels, ml)} {unit}",
    )
    return page.encode()


def choose_slices(positive: Sequence[int], mask: np.ndarray, sides: np.ndarray | None, number: int = 3) -> list[int]:
    """Slices that stand for the scan: the one with the largest mask, then large ones far from those chosen.

    Where the mask is empty, they are spread over the lungs, or over the scan. Fewer if the scan has fewer.
    """
    total = len(mask)
    if not positive:
        there = np.flatnonzero(sides.any(axis=(1, 2))) if sides is not None else np.arange(0)
        low, high = (int(there[0]), int(there[-1])) if there.size else (0, total - 1)
        return sorted({round(low + share * (high - low)) for share in (0.25, 0.5, 0.75)})
    areas = np.array([np.count_nonzero(plane) for plane in mask], np.float64)
    chosen = [int(areas.argmax())]
    while len(chosen) < min(number, len(positive)):
        distance = np.abs(np.arange(total)[:, None] - chosen).min(axis=1)
        chosen.append(int((areas * distance).argmax()))
    return sorted(chosen)


def environment(folder: Path) -> Environment:
    """Of the templates of a folder: values are escaped, and a name that is missing is an error instead of a gap."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # 0.15 s, and most commands make no page

    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals.update(percent=_percent, sentence=_sentence, short=_short, whole="{:,}".format, words=words)
    return made


@cache
def _template() -> Template:
    return environment(Path(__file__).parent).get_template("report.html.j2")


def _fitting(lines: Sequence[str]) -> int:
    """How many of the lines there is room for; the first one in any case."""
    used = 0
    for number, line in enumerate(lines):
        used += math.ceil(len(line) / _LINE)
        if used > MAX_LINES and number:
            return number
    return len(lines)


def _short(id: str) -> str:
    """Beginning and end of a long id."""
    return id if len(id) <= _NAME else f"{id[: _NAME // 2 - 1]}\u2026{id[-_NAME // 2 :]}"


def _number(voxels: int, voxel_ml: float | None) -> str:
    """mL where the voxel size is known, else voxels; without the unit."""
    if voxel_ml is None:
        return f"{voxels:,}"
    ml = voxels * voxel_ml
    return f"{ml:.1f}" if ml < 99.95 else f"{ml:,.0f}"


def _percent(share: float | None, unit: str = " %") -> str:
    return "\u2013" if share is None else f"{100 * share:.1f}{unit}"


def _sentence(line: str) -> str:
    """A warning as a sentence; a run's id at its start keeps its letters."""
    first = line.split(" ", 1)[0]
    return f"{line[:1].upper()}{line[1:]}." if first.isalpha() else f"{line}."
