"""Which true masks to look at first: those that the compared models are sure to be otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from covseg_core.errors import CovsegError
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.stored_predictions.doubtful_masks import Doubt, doubtful_cases, doubtful_slices
from dashboard import navigation
from dashboard.app_pages.compare import slices, stored_predictions
from dashboard.formatting import slice_number
from dashboard.services import corrections

EDIT = "edit"
"""Column of the buttons that open a mask to be drawn on."""
OPEN, LIST, KIND = "compare-doubts", "compare-doubts-list", "compare-doubts-kind"
"""Keys of the expander, whose content is computed once it is open, and of what is in it."""
FIRST, HEIGHT = 50, 320
"""Rows, and the height of the table [px]."""
READ = (
    "Agreement of the true mask with what the models mark, which did not learn from it: 1 where they agree. Only "
    "pixels count of which a model is sure, in pieces wider than a border. The mask may be wrong, or the models: look. "
    "A mask that is corrected after a look at the models no longer tests these models."
)


@st.fragment
def show(comparison: Comparison, chosen: Sequence[Model]) -> None:
    """Opening it reruns only this."""
    box = st.expander("Masks that the models doubt", icon=":material/help_center:", key=OPEN, on_change="rerun")
    if not box.open:
        return
    with box:
        try:
            found = _doubts(comparison.key, comparison, chosen)
        except CovsegError as error:
            st.error(str(error), icon=":material/error:")
            return
        kind = st.segmented_control("Rows", ["Slices", "Scans"], default="Slices", required=True, key=KIND)
        doubts = (found if kind == "Slices" else doubtful_cases(found))[:FIRST]
        st.dataframe(
            _table(doubts),
            hide_index=True,
            height=HEIGHT,
            key=LIST,
            selection_mode="single-row",
            on_select=lambda: _go(doubts),
            column_config=_columns(),
        )
        st.caption(f"{READ} Choose a row to see the slice.")
        if st.session_state.pop(f"{LIST}-gone", False):
            st.rerun()
        if clicked := st.session_state.get(f"{LIST}-{EDIT}"):
            _correct(doubts[clicked["row"]], comparison)


def _columns() -> dict[str, Any]:
    pixels = {name: st.column_config.NumberColumn(format="localized") for name in ("Missing [px]", "Surplus [px]")}
    edit = st.column_config.ButtonColumn("", type="tertiary", key=f"{LIST}-{EDIT}")
    return {"Agreement": st.column_config.NumberColumn(format="%.3f", width="small"), EDIT: edit} | pixels


def _table(doubts: Sequence[Doubt]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Scan": [doubt.case for doubt in doubts],
            "Slice": [slice_number(doubt.z) for doubt in doubts],
            "Agreement": [doubt.agreement for doubt in doubts],
            "Missing [px]": [round(doubt.missing) for doubt in doubts],
            "Surplus [px]": [round(doubt.surplus) for doubt in doubts],
            EDIT: [":material/edit: Correct"] * len(doubts),
        }
    )


def _go(doubts: Sequence[Doubt]) -> None:
    """To the slice of the chosen row, in a callback, since the choice of the scan stands in another tab."""
    if rows := st.session_state[LIST].selection.rows:
        slices.go_to(doubts[rows[0]].case, doubts[rows[0]].z)
        st.session_state[f"{LIST}-gone"] = True


def _correct(doubt: Doubt, comparison: Comparison) -> None:
    """To the page Review, where the true mask is opened at that slice, to be drawn on."""
    try:
        corrections.begin_from_truth(comparison.dataset, doubt.case, comparison.evaluations[0].target, doubt.z)
    except CovsegError as error:
        st.error(str(error), icon=":material/error:")
        return
    navigation.go(navigation.REVIEW, **{"dataset": comparison.dataset, corrections.LOOK: doubt.case})


@st.cache_data(max_entries=8, show_spinner="Comparing masks and models")
def _doubts(key: object, _comparison: Comparison, _chosen: Sequence[Model]) -> list[Doubt]:
    pairs = zip(_chosen, _comparison.evaluations, strict=True)
    return doubtful_slices(scan for pair in pairs for scan in stored_predictions.scans(*pair))
