"""What people look at. What a user loses otherwise: a figure in the wrong column, or a file that runs what it shows."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

from covseg_core.figures.over_time import over_time_figure
from covseg_core.prediction.cohort.figures import Figures
from covseg_core.prediction.cohort.page import make_page
from covseg_core.prediction.cohort.state import Asked, Cohort, Row, Settings, empty_cohort
from covseg_core.prediction.cohort.table import COLUMNS, make_table
from covseg_core.prediction.cohort.timeline import timelines

FIGURES = Figures(
    target="infection", slices=20, marked_slices=5, voxels=1000, volume_ml=12.5, lungs_ml=4000.0, share=0.003125,
    right_share=0.004, left_share=None, severity=1, lesions=3, largest_ml=10.0, agreement=0.8123456,
    warnings=("slices far apart", "no mL"), seconds=1.5,
)  # fmt: skip


def cohort(*rows: Row) -> Cohort:
    settings = Settings((Asked("a", "0" * 64),), None, "0.5", None, "mean", False, "float32", False, False, False, "1")
    return dataclasses.replace(empty_cohort(settings), rows=rows)


def taken(name: str, patient: str, day: int | None, ml: float | None = 12.5) -> Row:
    return Row(name, "done", patient, day, figures=dataclasses.replace(FIGURES, volume_ml=ml))


def test_every_figure_is_in_its_column_and_unknown_ones_are_empty() -> None:
    rows = [taken("a", "patient-1", 3), Row("b", "failed", problem="damaged"), Row("c", "same", same_as="a")]
    first, second, third = csv.DictReader(make_table(cohort(*rows)).decode().splitlines())
    assert tuple(first) == COLUMNS
    assert {name: value for name, value in first.items() if value} == {
        "scan": "a", "state": "done", "patient": "patient-1", "day": "3", "target": "infection", "volume_ml": "12.5",
        "voxels": "1000", "lungs_ml": "4000.0", "lung_share_percent": "0.312", "right_share_percent": "0.4",
        "severity_class": "1", "lesions": "3", "largest_lesion_ml": "10.0", "slices": "20", "slices_with_mask": "5",
        "agreement": "0.8123", "seconds": "1.5", "warnings": "slices far apart; no mL",
    }  # fmt: skip
    assert {name: value for name, value in second.items() if value} == {
        "scan": "b", "state": "failed", "problem": "damaged",
    }  # fmt: skip
    assert third["same_as"] == "a" and not third["volume_ml"]


def test_text_from_files_is_text_everywhere(tmp_path: Path) -> None:
    """A spreadsheet would compute, a browser would run it."""
    row = Row("b", "failed", problem="=1+1<script>alert(1)</script>")
    [read] = csv.DictReader(make_table(cohort(row)).decode().splitlines())
    assert read["problem"].startswith("'=1+1")
    assert b"<script" not in make_page(cohort(row), tmp_path)


def test_timelines_are_of_patients_with_several_days() -> None:
    rows = [
        taken("a", "patient-1", 9, 30.0), taken("b", "patient-1", 0, 10.0), taken("c", "patient-1", 9, 50.0),
        taken("d", "patient-2", 0), taken("e", "patient-2", 0), taken("f", "", None),
        Row("g", "failed", "patient-2", 5),
        taken("h", "patient-3", 0, None), taken("i", "patient-3", 4, None),
    ]  # fmt: skip
    first, third = timelines(rows)
    assert [(point.name, point.day) for point in first.points] == [("b", 0), ("a", 9), ("c", 9)]
    assert first.volumes == {0: 10.0, 9: 40.0}, "the mean of a day's series"
    assert (third.patient, third.volumes) == ("patient-3", {})
    chart = over_time_figure([first, third])
    assert list(chart.data[0].y) == [10.0, 40.0] and list(chart.data[1].y) == [10.0, 30.0, 50.0]


def test_the_page_draws_what_is_known(tmp_path: Path) -> None:
    rows = [taken("a", "patient-1", 0, 10.0), taken("b", "patient-1", 9, 30.0), taken("h", "patient-3", 0, None)]
    page = make_page(dataclasses.replace(cohort(*rows), stopped="the disk is full", notes=("2 masks",)), tmp_path)
    text = page.decode()
    assert text.count("<circle") == 2 and "The disk is full." in text and "2 masks." in text
    assert text.count('href="a/report.html"') == 1
