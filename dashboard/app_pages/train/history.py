"""What became of a case's masks: who corrected which, when, and how much."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.library.revision import EDITOR, FILE, IMPORT
from covseg_core.data.library.revisions import Entry, history
from dashboard.formatting import when

ORIGINS = {IMPORT: "imported", EDITOR: "drawn here", FILE: "a file"}


def show(dataset: Dataset, case: Case) -> None:
    """A table, if one of the masks was ever corrected."""
    if not case.revisions:
        return
    st.markdown("**History of the masks**")
    st.dataframe(
        table(history(dataset, case.id)),
        hide_index=True,
        placeholder="",
        column_config={
            "Revision": st.column_config.NumberColumn(help=f"Of the dataset: `{dataset.name}@2` is its second"),
            "Of": st.column_config.TextColumn(help="The revision that was corrected, and those saved meanwhile"),
            "Minutes": st.column_config.NumberColumn(format="%.1f", help="Of work"),
            "Added": st.column_config.NumberColumn(format="localized", help="Voxels"),
            "Removed": st.column_config.NumberColumn(format="localized", help="Voxels"),
        },
    )


def table(entries: list[Entry]) -> pd.DataFrame:
    """A row a mask, newest first."""
    return pd.DataFrame([_row(entry) for entry in reversed(entries)])


def _row(entry: Entry) -> dict[str, object]:
    one = entry.revision
    corrected = one.parent is not None
    beside = f", beside {', '.join(map(str, entry.beside))}" if entry.beside else ""
    return {
        "Revision": one.number,
        "Mask": one.role,
        "By": one.author,
        "When": when(one.created),
        "From": ORIGINS.get(one.origin, f"the mask of {one.origin}"),
        "Of": f"{one.parent}{beside}" if corrected else "",
        "Minutes": one.minutes if corrected else None,
        "Added": one.added if corrected else None,
        "Removed": one.removed if corrected else None,
    }
