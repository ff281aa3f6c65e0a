"""What became of a case's masks: who corrected which, when, and how much; and what was said of them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.library.reviews import Review
from covseg_core.data.library.revision import EDITOR, FILE, IMPORT, Role
from covseg_core.data.library.revisions import Entry, history
from dashboard.formatting import when

AGREEMENT = "Of the models that made the mask, with each other"
ORIGINS = {IMPORT: "imported", EDITOR: "drawn here", FILE: "a file"}


def show(dataset: Dataset, case: Case, role: Role, reviews: Sequence[Review]) -> None:
    """Tables of what there is: masks once one was corrected, and reviews of the case, newest first."""
    if case.revisions:
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
                "Agreement": st.column_config.NumberColumn(format="%.2f", help=AGREEMENT),
            },
        )
    if told := review_table([review for review in reviews if review.role == role]):
        st.markdown("**Reviews of this case**")
        st.dataframe(told, hide_index=True, placeholder="")


def review_table(reviews: Sequence[Review]) -> list[dict[str, object]]:
    """A row a review, newest first."""
    return [
        {
            "When": when(review.created),
            "By": review.reader,
            "Mask of revision": review.revision,
            "Decision": review.decision,
            "Grade": review.grade,
            "Note": review.note,
        }
        for review in reversed(reviews)
    ]


def table(entries: list[Entry]) -> pd.DataFrame:
    """A row a mask, newest first."""
    rows = pd.DataFrame([_row(entry) for entry in reversed(entries)])
    return rows if rows["Agreement"].notna().any() else rows.drop(columns="Agreement")


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
        "Agreement": one.agreement,
    }
