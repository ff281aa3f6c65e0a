"""`cohort.html`: a cohort on one page without script, a small picture a scan, to look at and to print.

What stands where is in `cohort.html.j2`; here is what goes in.
"""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from covseg_core.prediction import expected_dice
from covseg_core.prediction.cohort import severity
from covseg_core.prediction.cohort.names import THUMBNAILS
from covseg_core.prediction.cohort.state import Cohort
from covseg_core.prediction.cohort.timeline import Timeline, timelines
from covseg_core.prediction.masks import agreement
from covseg_core.prediction.output.report_html import environment

if TYPE_CHECKING:
    from jinja2 import Template

PAGE = "cohort.html"
MOST_PICTURES = 2000
"""Small pictures on the page: of more, a browser takes long to show it."""
WIDTH, HEIGHT, LEFT, BOTTOM = 340, 120, 46, 20
"""Of a patient's curve, and of the room for its numbers [px]."""


def make_page(cohort: Cohort, folder: Path) -> bytes:
    """The page of a cohort whose small pictures are in a folder, in UTF-8."""
    classes = Counter(row.figures.severity for row in cohort.done if row.figures and row.figures.severity is not None)
    page = _template().render(
        cohort=cohort,
        pictures={row.name: _picture(folder, row.name) for row in cohort.done[:MOST_PICTURES]},
        classes=[classes[number] for number in range(len(severity.CLASSES))],
        class_words=severity.CLASSES,
        explained=[severity.EXPLAINED] * bool(classes)
        + [agreement.EXPLAINED] * any(row.figures and row.figures.agreement is not None for row in cohort.done)
        + expected_words(cohort),
        curves=[_curve(timeline) for timeline in timelines(cohort.rows)],
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        bottom=BOTTOM,
    )
    return page.encode()


@dataclass(frozen=True)
class _Curve:
    """A patient's volumes over the days, in the picture's own coordinates."""

    timeline: Timeline
    dots: tuple[tuple[float, float], ...]
    line: str
    """Through the means of the days, as SVG writes it."""
    days: tuple[int, int]
    most_ml: float


def expected_words(cohort: Cohort) -> list[str]:
    """What expected Dice means, where there is one, and why some scans have none; a sentence each."""
    known = [row.figures.expected_dice for row in cohort.done if row.figures and row.figures.expected_dice]
    reasons = Counter(one.reason for one in known if one.reason)
    found = [expected_dice.EXPLAINED] if any(one.value is not None for one in known) else []
    return found + [f"No expected Dice for {scans(count)}: {reason}." for reason, count in reasons.items()]


def scans(count: int) -> str:
    """`1 scan`, `1,000 scans`."""
    return f"{count:,} scan{'s' * (count != 1)}"


def _curve(timeline: Timeline) -> _Curve:
    first, last = timeline.points[0].day, timeline.points[-1].day
    known = [(point.day, point.figures.volume_ml) for point in timeline.points if point.figures.volume_ml is not None]
    most = max((ml for _, ml in known), default=0.0) or 1.0

    def at(day: int, ml: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - 8) * (day - first) / (last - first)
        return round(x, 1), round(8 + (HEIGHT - BOTTOM - 8) * (1 - ml / most), 1)

    line = " ".join("{},{}".format(*at(day, ml)) for day, ml in timeline.volumes.items())
    return _Curve(timeline, tuple(at(day, ml) for day, ml in known), line, (first, last), most)


def _picture(folder: Path, name: str) -> str:
    """A small picture in base64; nothing where it was removed."""
    try:
        return base64.b64encode((folder / THUMBNAILS / f"{name}.jpg").read_bytes()).decode()
    except OSError:
        return ""


@cache
def _template() -> Template:
    return environment(Path(__file__).parent).get_template("cohort.html.j2")
