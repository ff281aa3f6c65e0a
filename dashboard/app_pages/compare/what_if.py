"""Below the slices of the Compare page: what another threshold would do, and the operating point that validation picks.

The sliders explore the test part and store nothing; only the button stores a point, and it looks at validation alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from covseg_core.errors import CovsegError
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.stored_predictions.operating_point_search import choose_point, forget_point
from covseg_core.evaluation.stored_predictions.thresholds import STEPS, WhatIf
from covseg_core.runs import Run
from covseg_core.runs.operating_point import DEFAULT, OperatingPoint
from dashboard.app_pages.compare import score_table, stored_predictions
from dashboard.app_pages.compare.score_table import Level
from dashboard.components import task_progress
from dashboard.services import operating_points, tasks

OPEN = "compare-whatif"
"""The expander: what is in it is computed once it is open."""
WARNING = "Exploring the test part: a threshold chosen here makes these scores too good"
GRID = (
    "Measured on the networks' own grids, where a threshold moves without resampling, and sizes in 3D by parts that "
    "touch. At 0.5 with all parts, scores differ from the tables above by the grid alone: that is the step from *As "
    "evaluated* to *0.5, network's grid*. HD95 and NSD need the scans' own grid."
)
SIZES = {"mm3": (500, 10), "voxels": (200, 5)}
"""Largest smallest size and step of its slider."""


@st.fragment
def show(comparison: Comparison, chosen: Sequence[Model]) -> None:
    """Open already where a point is stored. Moving a slider reruns nothing else."""
    words = "What if: another threshold, small lesions left out"
    try:
        parts = stored_predictions.parts(comparison, chosen)
        stored = [operating_points.point(part.run) for part in parts]
        box = st.expander(words, any(stored), icon=":material/tune:", key=OPEN, on_change="rerun")
        if box.open:
            models = stored_predictions.what_ifs(comparison, chosen)
            table = stored_predictions.points_table(parts)
            with box:
                _explore(comparison, models)
                _operate([part.run for part in parts], stored, table)
    except CovsegError as error:
        st.error(str(error), icon=":material/error:")


@st.fragment
def _explore(comparison: Comparison, models: Sequence[WhatIf]) -> None:
    st.markdown(f":orange-badge[:material/warning: {WARNING}]")
    threshold, minimum = _sliders(models)
    names = score_table.level_names(comparison)
    level: Level = st.segmented_control(
        "Scores at the sliders",
        list(names),
        default="scans",
        format_func=names.__getitem__,
        required=True,
        key="whatif-level",
    )
    here = stored_predictions.moved(comparison, models, threshold, minimum)
    start = stored_predictions.moved(comparison, models, DEFAULT, 0.0)
    digits = st.column_config.NumberColumn(format="%.4f")
    dice = stored_predictions.dice_table(comparison, start, here)
    st.dataframe(dice, hide_index=True, column_config=dict.fromkeys(dice.columns[1:], digits))
    table, right = score_table.score_table(here, level), st.column_config.TextColumn(alignment="right")
    st.dataframe(table, hide_index=True, height="content", column_config=dict.fromkeys(table.columns[3:], right))
    st.caption(f"Above: mean Dice over scans; below: all measures of overlap, at the sliders. {GRID}")


def _sliders(models: Sequence[WhatIf]) -> tuple[float, float]:
    row = st.container(horizontal=True, gap="medium")
    threshold = row.slider(
        "Threshold of all models", STEPS[0], STEPS[-1], DEFAULT, 0.05, key="whatif-threshold", width=260,
        help="Probability from which a pixel is in a mask. Nothing is stored.",
    )  # fmt: skip
    most, step = SIZES[models[0].unit]
    minimum = row.slider(
        f"Smallest lesion ({stored_predictions.unit_label(models[0])})", 0, most, 0, step,
        key="whatif-minimum", width=260, help="Connected parts of a mask below this size are left out.",
    )  # fmt: skip
    return round(threshold, 2), float(minimum)


@st.fragment
def _operate(runs: list[Run], stored: Sequence[OperatingPoint | None], table: pd.DataFrame) -> None:
    st.markdown("**Operating point: chosen on validation, reported on test**")
    if any(stored):
        _show_points(table, stored)
    else:
        st.caption("None is stored yet: prediction uses threshold 0.5 and leaves no lesion out.")
    _buttons(runs, any(stored))


def _show_points(table: pd.DataFrame, stored: Sequence[OperatingPoint | None]) -> None:
    digits = st.column_config.NumberColumn(format="%.4f")
    st.dataframe(table, hide_index=True, column_config=dict.fromkeys(table.columns[3:], digits))
    scans = sorted({point.scans for point in stored if point})
    st.caption(
        "Mean Dice over scans, on the networks' own grids. Validation scores at the point are too good, since it was "
        f"picked there, on {' or '.join(map(str, scans))} scans; test scores are not, since the test part had no say. "
        "Prediction uses a run's point where no other threshold is set."
    )


def _buttons(runs: list[Run], stored: bool) -> None:
    """Pick points in a task, or remove them."""

    def work(progress: tasks.TaskProgress, cancelled: object) -> None:
        for number, run in enumerate(runs, start=1):
            progress.phase(f"Predicting validation, model {number} of {len(runs)}", "slices")
            choose_point(run, progress)

    key = ("operating-point", *(run.id for run in runs))
    row = st.container(horizontal=True)
    task = task_progress.task_button(
        key,
        "Choose on validation",
        work,
        doing="Choosing on validation",
        cancelled="The search was cancelled.",
        icon=":material/my_location:",
        primary=True,
        place=row,
    )
    running = task is not None and task.state == "running"
    if stored and not running and row.button("Back to 0.5", icon=":material/undo:", key="forget-points"):
        for run in runs:
            forget_point(run)
        task_progress.forget(key)
        st.rerun()
