"""The table of a cohort: a row a scan, sortable; the one that is chosen is shown below it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd
import streamlit as st

from covseg_core.figures.over_time import over_time_figure
from covseg_core.prediction.cohort import severity
from covseg_core.prediction.cohort.page import expected_words
from covseg_core.prediction.cohort.state import Cohort, Row
from covseg_core.prediction.cohort.timeline import timelines
from covseg_core.prediction.masks import agreement
from dashboard.formatting import sentence

ROWS = 8
"""Rows that are seen at once; the others are scrolled to."""
ROW_HEIGHT = 35
_FORMATS = {
    "Volume [mL]": "%.1f", "Lungs infected [%]": "%.1f", "Right [%]": "%.1f", "Left [%]": "%.1f", "Lungs [mL]": "%.0f",
    "Agreement": "%.2f", "Expected Dice": "%.2f", "Time [s]": "%.1f",
}  # fmt: skip


_WIDTHS = {"Patient": 80, "Not predicted": 240, "Warnings": 240}


def show(cohort: Cohort, selectable: bool) -> str | None:
    """The table and what it means; the name of the scan whose row is chosen, if one is."""
    table = frame(cohort)
    shown: dict[str, Any] = {name: st.column_config.NumberColumn(format=form) for name, form in _FORMATS.items()}
    shown |= {name: st.column_config.TextColumn(width=width) for name, width in _WIDTHS.items()}
    height = ROW_HEIGHT * (min(len(table), ROWS) + 1) + 3
    chosen: Any = st.dataframe(
        table,
        hide_index=True,
        column_config=shown,
        height=height,
        placeholder="",
        key="cohort-table" if selectable else "cohort-table-live",
        on_select="rerun" if selectable else "ignore",
        selection_mode="single-row",
    )
    for line in explained(cohort):
        st.caption(line)
    if curves := timelines(cohort.rows):
        with st.expander(f"Over time: {len(curves)} patient{'s' * (len(curves) > 1)} with scans of several days"):
            st.plotly_chart(over_time_figure(curves), key="cohort-over-time", config={"displaylogo": False})
    rows = chosen.selection.rows if selectable else []
    return cohort.rows[rows[0]].name if rows and rows[0] < len(cohort.rows) else None


def frame(cohort: Cohort) -> pd.DataFrame:
    """A row a scan; columns in which nothing is known are left out."""
    table = pd.DataFrame([_row(row) for row in cohort.rows])
    return table.dropna(axis="columns", how="all")


def _row(row: Row) -> dict[str, object]:
    figures = row.figures
    problem = f"the same scan as {row.same_as}" if row.same_as else row.problem
    known: dict[str, object] = {"Scan": row.name, "Not predicted": problem or None}
    known |= {"Patient": row.patient or None, "Day": row.day}
    if figures is not None:
        known |= {
            "Volume [mL]": figures.volume_ml,
            "Lungs infected [%]": _percent(figures.share),
            "Severity class": figures.severity,
            "Right [%]": _percent(figures.right_share),
            "Left [%]": _percent(figures.left_share),
            "Lesions": figures.lesions,
            "Lungs [mL]": figures.lungs_ml,
            "Agreement": figures.agreement,
            "Expected Dice": figures.expected_dice.value if figures.expected_dice else None,
            "Interval": figures.expected_dice.interval or None if figures.expected_dice else None,
            "Warnings": "; ".join(figures.warnings) or None,
            "Time [s]": figures.seconds,
        }
    return known


def explained(cohort: Cohort) -> list[str]:
    """What figures of the table mean that are not obvious, and what was passed over."""
    known = [row.figures for row in cohort.done if row.figures]
    lines = [severity.EXPLAINED] if any(figures.severity is not None for figures in known) else []
    lines += [agreement.EXPLAINED] if any(figures.agreement is not None for figures in known) else []
    return [*lines, *expected_words(cohort), *map(sentence, cohort.notes)]


def headline(cohort: Cohort) -> None:
    """How many there are of each kind and class."""
    known = [row.figures.severity for row in cohort.done if row.figures and row.figures.severity is not None]
    classes = Counter(known)
    same = len(cohort.rows) - len(cohort.done) - len(cohort.failed)
    cells = {"Predicted": len(cohort.done), "Failed": len(cohort.failed), "There twice": same}
    cells |= {f"Class {number}": classes[number] for number in range(len(severity.CLASSES)) if known}
    with st.container(horizontal=True, gap="medium", width="content"):
        for label, count in cells.items():
            if count or label == "Predicted" or label.startswith("Class"):
                st.metric(label, f"{count:,}", width="content")


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
