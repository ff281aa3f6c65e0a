"""Scores for the Compare page: those that the runs hold, or new ones, made as a task."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from covseg_core.evaluation import comparable
from covseg_core.evaluation.comparison import evaluate
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from dashboard.components import task_progress
from dashboard.services import tasks


def comparison_of(models: Sequence[Model], dataset: str) -> Comparison | None:
    """The models' scores on their test part, or on another dataset if one is named.

    None if there are none yet: then the page says why, and offers to make them or shows how far that is.
    """
    key = ("score", dataset, *(model.id for model in models))
    task = task_progress.task_of(key)
    if not dataset:
        comparison, why = comparable.compared(models)
        if comparison is not None:
            return comparison
    elif task is not None and task.state == "finished":
        return task.result
    else:
        why = (
            f"The models are scored on all of {dataset}, less the slices that they have learned from. The scores are "
            "kept for an hour."
        )
    if task is None or task.state != "running":
        st.info(why, icon=":material/rule:")
    runs = [run for model in models for run in model.runs]

    def work(progress: tasks.TaskProgress, cancelled: object) -> Comparison | None:
        comparison = evaluate(runs, dataset or None, progress=progress)
        return comparison if dataset else None  # else it is in the runs' folders

    task_progress.task_button(
        key,
        "Score these models on the same slices",
        work,
        doing="Scoring",
        cancelled="Scoring was cancelled; nothing was changed.",
        icon=":material/calculate:",
        primary=True,
    )
    return None
