"""Links to this page: to a case, and to a model's mask of it that is to be corrected."""

from __future__ import annotations

import streamlit as st

from covseg_core.errors import CovsegError
from dashboard.app_pages.review import order
from dashboard.components.news import TROUBLE
from dashboard.services import corrections, url_state


def open_mask() -> None:
    """Show the case that the link names, and open a model's mask of it if it names one; before widgets are made."""
    if look := st.query_params.pop(corrections.LOOK, ""):
        st.session_state.dataset = name = st.query_params.get("dataset", "")
        st.session_state[chosen_case(name)] = look
    model, case = st.query_params.pop(corrections.MODEL, ""), st.query_params.get("case", "")
    if not model:
        return
    try:
        dataset, role = corrections.begin_from_model(model, case)
    except CovsegError as error:
        st.session_state[TROUBLE] = str(error)
        return
    st.session_state.dataset = dataset.name
    st.session_state[order.ROLE] = role
    st.session_state[chosen_case(dataset.name)] = case


def chosen_case(dataset: str) -> str:
    """In the session: the case of a dataset that is looked at."""
    return f"review-case-{dataset}"


def first_case(cases: list[str]) -> str:
    """That of the URL, else the first."""
    return url_state.read("case", cases[0], cases)
