"""Patients with scans of several days: how their volumes change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from covseg_core.prediction.cohort.figures import Figures
from covseg_core.prediction.cohort.state import Row


@dataclass(frozen=True)
class Point:
    """One scan."""

    name: str
    day: int
    """Since the patient's first scan."""
    figures: Figures


@dataclass(frozen=True)
class Timeline:
    """One patient."""

    patient: str
    points: tuple[Point, ...]
    """By day. Several series of one day are several points."""

    @property
    def volumes(self) -> dict[int, float]:
        """mL by day, the mean where there are several series; without what has none."""
        days: dict[int, list[float]] = {}
        for point in self.points:
            if point.figures.volume_ml is not None:
                days.setdefault(point.day, []).append(point.figures.volume_ml)
        return {day: sum(values) / len(values) for day, values in days.items()}


def timelines(rows: Sequence[Row]) -> tuple[Timeline, ...]:
    """Of each patient whose scans are of at least two days, in the order in which they come."""
    points: dict[str, list[Point]] = {}
    for row in rows:
        if row.patient and row.day is not None and row.figures is not None:
            points.setdefault(row.patient, []).append(Point(row.name, row.day, row.figures))
    return tuple(
        Timeline(patient, tuple(sorted(found, key=lambda point: (point.day, point.name))))
        for patient, found in points.items()
        if len({point.day for point in found}) > 1
    )
