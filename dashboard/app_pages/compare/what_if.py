"""What another threshold would do on the test part. The sliders explore, and store nothing."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from covseg_core.errors import CovsegError
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.seeds.over_seeds import Level
from covseg_core.evaluation.stored_predictions.thresholds import STEPS, WhatIf
from covseg_core.runs.operating_point import DEFAULT, PEAKS
from dashboard.app_pages.compare import operating_points, score_table, stored_predictions
from dashboard.services.operating_points import point

OPEN = "compare-whatif"
"""The expander: what is in it is computed once it is open."""
WARNING = "Exploring the test part: a threshold chosen here makes these scores too good"
GRID = (
    "Measured on the networks' own grids, so that no slice is resampled when the threshold moves; sizes are those of "
    "connected parts in 3D. At 0.5 with all parts, only the grid differs from the tables above: that is the step "
    "from *As evaluated* to *0.5, network's grid*. HD95 and NSD need the scans' own grid."
)
SIZES = {"mm3": (500, 10), "voxels": (200, 5)}
"""Largest smallest size and step of its slider."""


@st.fragment
def show(comparison: Comparison, chosen: Sequence[Model]) -> None:
    """Open already where a point is stored. Moving a slider reruns nothing else."""
    words = "What if: another threshold, small or faint lesions left out"
    try:
        parts = stored_predictions.parts(comparison, chosen)
    except CovsegError as error:
        st.error(str(error), icon=":material/error:")
        return
    stored = [point(part.run) for part in parts]
    box = st.expander(words, any(stored), icon=":material/tune:", key=OPEN, on_change="rerun")
    if not box.open:
        return
    with box:
        try:
            models = stored_predictions.what_ifs(comparison, chosen)
            table = operating_points.table(parts)
            _explore(comparison, models)
            operating_points.show([part.run for part in parts], stored, table)
        except CovsegError as error:
            st.error(str(error), icon=":material/error:")


@st.fragment
def _explore(comparison: Comparison, models: Sequence[WhatIf]) -> None:
    st.markdown(f":orange-badge[:material/warning: {WARNING}]")
    threshold, minimum, peak = _sliders(models)
    names = score_table.level_names(comparison)
    level: Level = st.segmented_control(
        "Scores at the sliders",
        list(names),
        default="scans",
        format_func=names.__getitem__,
        required=True,
        key="whatif-level",
    )
    here = stored_predictions.moved(comparison, models, threshold, minimum, peak)
    start = stored_predictions.moved(comparison, models, DEFAULT)
    digits = st.column_config.NumberColumn(format="%.4f")
    dice = stored_predictions.dice_table(comparison, start, here)
    st.dataframe(dice, hide_index=True, column_config=dict.fromkeys(dice.columns[1:], digits))
    table, right = score_table.score_table(here, level), st.column_config.TextColumn(alignment="right")
    st.dataframe(table, hide_index=True, height="content", column_config=dict.fromkeys(table.columns[3:], right))
    st.caption(f"Above: mean Dice over scans; below: all measures of overlap, at the sliders. {GRID}")


def _sliders(models: Sequence[WhatIf]) -> tuple[float, float, float]:
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
    peak = row.select_slider(
        "Peak of a lesion", PEAKS, format_func="{:g}".format, key="whatif-peak", width=260,
        help="Connected parts of a mask whose probability nowhere reaches this are left out.",
    )  # fmt: skip
    return round(threshold, 2), float(minimum), peak
