"""How far readers agree, and all reviews as a file."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from covseg_core.data.library.datasets import Dataset
from covseg_core.data.library.reviews import Review
from covseg_core.data.library.revision import Role
from covseg_core.errors import CovsegError
from covseg_core.evaluation.reader_agreement import ReaderAgreement, reader_agreement
from dashboard.formatting import plain

OPEN = "review-readers"
READ = (
    "Kappa: Cohen's, of the grades, with quadratic weights: 1 where readers agree as far as can be, 0 where they agree "
    "as chance would have it. Dice: the mean over cases of which both have drawn a mask. Few masks say little."
)


def show(dataset: Dataset, role: Role, reviews: Sequence[Review]) -> None:
    """Once there are reviews; the table is computed when it is opened."""
    if not reviews:
        return
    box = st.expander("Readers", icon=":material/groups:", key=OPEN, on_change="rerun")
    if not box.open:
        return
    with box:
        try:
            found = _agreement((dataset.name, dataset.created, dataset.revision), dataset, role, tuple(reviews))
        except CovsegError as error:
            st.error(plain(str(error)), icon=":material/error:")
            return
        if found:
            st.dataframe(
                table(found),
                hide_index=True,
                placeholder="",
                column_config={
                    "Same decision": st.column_config.NumberColumn(format="percent"),
                    "Kappa": st.column_config.NumberColumn(format="%.2f"),
                    "Dice": st.column_config.NumberColumn(format="%.3f"),
                },
            )
            st.caption(READ)
        else:
            st.caption("No two readers have looked at the same mask, or drawn masks of the same case, yet.")
        st.download_button(
            "Download all reviews (CSV)",
            pd.DataFrame(reviews).to_csv(index=False).encode(),
            f"{dataset.name}-reviews.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )


def table(found: Sequence[ReaderAgreement]) -> pd.DataFrame:
    """A row each two readers."""
    return pd.DataFrame(
        {
            "Readers": [" and ".join(one.readers) for one in found],
            "Masks seen by both": [one.reviewed for one in found],
            "Same decision": [one.same_decision for one in found],
            "Graded by both": [one.graded for one in found],
            "Kappa": [one.kappa for one in found],
            "Drawn by both": [one.drawn for one in found],
            "Dice": [one.dice for one in found],
        }
    )


@st.cache_data(max_entries=8, show_spinner="Comparing readers")
def _agreement(key: object, _dataset: Dataset, role: Role, reviews: tuple[Review, ...]) -> list[ReaderAgreement]:
    return reader_agreement(_dataset, role, reviews)
