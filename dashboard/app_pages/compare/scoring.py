"""Scores for the Compare page: those that the runs hold, or new ones, made as a task."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from covseg_core.evaluation import comparable
from covseg_core.evaluation.cross_validation import folded_run
from covseg_core.evaluation.results import Comparison
from covseg_core.runs import Run
from dashboard.services import cache, tasks

TASKS = "compare-tasks"
"""In the session: (dataset, ids of the runs) -> id of the task that scores them."""


def comparison_of(chosen: Sequence[Run], dataset: str) -> Comparison | None:
    """The models' scores on their test part, or on another dataset if one is named.

    None if there are none yet: then the page says why, and offers to make them or shows how far that is.
    """
    if not dataset:
        comparison, why = comparable.stored_comparison(chosen, cache.evaluation)
        if comparison is not None:
            return comparison
    else:
        why = f"The models are scored on all of {dataset} but what they have learned from. This is kept for an hour."
    started = st.session_state.setdefault(TASKS, {})
    key = (dataset, *(run.id for run in chosen))
    task = tasks.show(started.get(key))
    if task is not None and task.state == "finished" and dataset:
        return task.result
    running = tasks.get(started.get(key))
    if running is not None and running.state == "running":
        return None
    st.info(why, icon=":material/rule:")
    if task is not None and task.state == "failed":
        st.error(task.error, icon=":material/error:")
    elif task is not None and task.state == "cancelled":
        st.warning("Scoring was cancelled; nothing was changed.", icon=":material/cancel:")
    if st.button("Score these models on the same slices", icon=":material/calculate:", type="primary"):
        started[key] = _start(list(chosen), dataset)
        st.rerun()
    return None


def _start(chosen: list[Run], dataset: str) -> str:
    def work(progress: tasks.TaskProgress, cancelled: object) -> Comparison | None:
        comparison = folded_run.evaluate(chosen, dataset, progress)
        return comparison if dataset else None  # else it is in the runs' folders

    return tasks.start("evaluate", "Scoring", work)
