"""The operating point of each model: picked on validation by a button, stored with the run, reported on test."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from covseg_core.evaluation.model import SingleRun
from covseg_core.evaluation.stored_predictions.operating_point_search import (
    FEW,
    choose_point,
    forget_point,
    scans_to_choose_on,
)
from covseg_core.runs import Run
from covseg_core.runs.operating_point import OperatingPoint
from dashboard.app_pages.compare import stored_predictions
from dashboard.app_pages.compare.stored_predictions import Part
from dashboard.components import task_progress
from dashboard.services import operating_points as services
from dashboard.services import tasks


@st.fragment
def show(runs: list[Run], stored: Sequence[OperatingPoint | None], table: pd.DataFrame) -> None:
    """What is stored, and the buttons that pick it or forget it."""
    st.markdown("**Operating point: chosen on validation, reported on test**")
    if any(stored):
        _show_points(table, stored)
    else:
        st.caption("None is stored yet: prediction uses threshold 0.5 and leaves no lesion out.")
    _buttons(runs, any(stored))


def _show_points(table: pd.DataFrame, stored: Sequence[OperatingPoint | None]) -> None:
    digits = st.column_config.NumberColumn(format="%.4f")
    st.dataframe(table, hide_index=True, column_config=dict.fromkeys(table.columns[4:], digits))
    scans = sorted({point.scans for point in stored if point})
    st.caption(
        "Mean Dice over scans, on the networks' own grids. Validation scores at the point are too good, because it "
        f"was picked there, on {' or '.join(map(str, scans))} scans; test scores are not, because the test part was "
        "not used. Prediction uses a run's point unless another threshold is set."
    )


def _buttons(runs: list[Run], stored: bool) -> None:
    """Pick points in a task, or remove them."""

    fewest = min(map(scans_to_choose_on, runs))
    few = fewest < FEW and st.checkbox(
        f"Choose on {fewest} validation scan{'s' * (fewest != 1)}", key="few-scans",
        help=f"With fewer than {FEW} scans a point can be the best by chance, and make masks of new scans worse.",
    )  # fmt: skip

    def work(progress: tasks.TaskProgress, cancelled: object) -> None:
        for number, run in enumerate(runs, start=1):
            progress.phase(f"Predicting validation, model {number} of {len(runs)}", "slices")
            choose_point(run, progress, few)

    key = ("operating-point", few, *(run.id for run in runs))
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


def table(these: Sequence[Part]) -> pd.DataFrame:
    """A row a run that has an operating point: its scores on validation, where it was picked, and on test."""
    rows = []
    for name, run, evaluation in these:
        point = services.point(run)
        if point is None:
            continue
        asked = stored_predictions.what_if(SingleRun(run), evaluation)
        same = point.unit == asked.unit
        threshold, minimum = (point.threshold, point.minimum) if same else (point.alone, 0.0)
        rows.append(
            {
                "Model": name,
                "Threshold": threshold,
                f"Smallest lesion [{stored_predictions.unit_label(asked)}]": minimum,
                "Peak": point.peak,
                "Validation at 0.5": point.score_at_half,
                "Validation at the point": point.score if same else point.score_alone,
                "Test at 0.5": stored_predictions.mean_dice(asked.at(0.5)),
                "Test at the point": stored_predictions.mean_dice(asked.at(threshold, minimum, point.peak)),
            }
        )
    return pd.DataFrame(rows)
