"""What became of a case's masks: who corrected which, when, and how much; and what was said of them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.library.reviews import Review
from covseg_core.data.library.revision import EDITOR, FILE, IMPORT, Role
from covseg_core.data.library.revisions import Entry, history, restore_revision
from covseg_core.errors import CovsegError
from dashboard.components.news import NEWS, TROUBLE
from dashboard.formatting import plain, when

EARLIER = "earlier-mask"
AGREEMENT = "Of the models that made the mask, with each other"
ORIGINS = {IMPORT: "imported", EDITOR: "drawn here", FILE: "a file"}


def show(dataset: Dataset, case: Case, role: Role, reviews: Sequence[Review], reader: str) -> None:
    """Tables of what there is: masks once one was corrected, and reviews of the case, newest first."""
    if case.revisions:
        entries = history(dataset, case.id)
        st.markdown("**History of the masks**")
        st.dataframe(
            table(entries),
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
        _show_earlier(
            dataset, case, role, [one.revision.number for one in entries if one.revision.role == role], reader
        )
    if told := review_table([review for review in reviews if review.role == role]):
        st.markdown("**Reviews of this case**")
        st.dataframe(told, hide_index=True, placeholder="")


def _show_earlier(dataset: Dataset, case: Case, role: Role, numbers: Sequence[int], reader: str) -> None:
    """One of the masks before the present one can be brought back."""
    if len(numbers) < 2:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        earlier = list(reversed(numbers[:-1]))
        key = f"{EARLIER}-{dataset.name}-{case.id}-{role}-{len(numbers)}"
        number = st.selectbox("Earlier mask", earlier, format_func=lambda one: f"Revision {one}", key=key, width=200)
        st.button(
            "Bring back",
            icon=":material/history:",
            help="As a new revision: those saved since stay, too",
            on_click=_bring_back,
            args=(dataset, case, role, number, reader),
        )


def _bring_back(dataset: Dataset, case: Case, role: Role, number: int, reader: str) -> None:
    try:
        saved = restore_revision(dataset.name, case.id, number, role, author=reader)
    except CovsegError as error:
        st.session_state[TROUBLE] = str(error)
        return
    st.session_state[NEWS] = (
        f"The mask of revision {number} of {plain(case.id)} counts again, as revision {saved.revision.number}."
    )


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
