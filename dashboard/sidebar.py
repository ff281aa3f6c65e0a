"""Below the menu on every page: which dataset is chosen, and what trains and waits."""

from __future__ import annotations

import streamlit as st

from covseg_core.evaluation.wording import plural
from dashboard import navigation
from dashboard.formatting import plain
from dashboard.services import model_catalog


def show() -> None:
    """Two links, each only where there is something to say. As of the last click: a part of all pages that looked again
    by itself would be asked for in the name of a page that was left, and `services.fragments` says what follows."""
    with st.sidebar:
        if dataset := st.session_state.get("dataset"):
            navigation.link(navigation.TRAIN, f"Dataset: {plain(dataset)}", query_params={"dataset": dataset})
        if text := queue_text():
            navigation.link(navigation.RUNS, text)


def queue_text() -> str:
    """`1 run trains, 2 runs wait`; empty where nothing does."""
    states = [status.state for _, status in model_catalog.active_runs()]
    waiting = states.count("queued")
    training = len(states) - waiting
    parts = [
        f"{plural(count, 'run')} {verb if count == 1 else verbs}"
        for count, verb, verbs in ((training, "trains", "train"), (waiting, "waits", "wait"))
        if count
    ]
    return ", ".join(parts)
