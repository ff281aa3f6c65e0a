"""Scoring models on the same test slices, from the Compare page, as a task."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
import tasks

from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.runs import Run

TASK = "compare-task"


def show(chosen: Sequence[Run], why: str) -> None:
    """What is missing, and a button that makes it."""
    st.info(why, icon=":material/rule:")
    if task := tasks.get(st.session_state.get(TASK)):
        if task.state == "running":
            tasks.show(task.id)
            return
        if task.state == "failed":
            st.error(task.error, icon=":material/error:")
        elif task.state == "cancelled":
            st.warning("Scoring was cancelled; nothing was changed.", icon=":material/cancel:")
    if st.button("Score these models on the same test scans", icon=":material/calculate:", type="primary"):
        st.session_state[TASK] = tasks.start(
            "evaluate", "Scoring", lambda progress, cancelled: bool(evaluate_runs(chosen, progress=progress))
        )
        st.rerun()
