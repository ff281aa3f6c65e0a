"""Which dataset a page is about: one choice for all pages, and in the link."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from covseg_core.data.library.datasets import Dataset
from dashboard.services import url_state


def choose(datasets: Sequence[Dataset], width: int) -> Dataset:
    """The one of the session, of the URL, else the newest of at least one; draws the box, so many pixels wide."""
    by_name = {dataset.name: dataset for dataset in sorted(datasets, key=lambda one: one.created, reverse=True)}
    if st.session_state.get("dataset") not in by_name:
        st.session_state.dataset = url_state.read("dataset", next(iter(by_name)), by_name)
    name = st.selectbox("Dataset", list(by_name), key="dataset", persist_state="session", width=width)
    url_state.write(dataset=name)
    return by_name[name]
