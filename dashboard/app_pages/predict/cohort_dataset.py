"""From a cohort to a dataset: its scans with the masks that the models made, to be reviewed and corrected."""

from __future__ import annotations

import threading
from pathlib import Path

import streamlit as st

from covseg_core.data.library.datasets import list_datasets
from covseg_core.errors import CovsegError
from covseg_core.files import safe_name
from covseg_core.isolation import Limits, isolated, size_of
from covseg_core.prediction.cohort.dataset import dataset_of_cohort
from dashboard import navigation
from dashboard.app_pages.predict.cohort_space import CohortSpace
from dashboard.components import task_progress
from dashboard.services import tasks, uploads

NAME = "cohort-dataset"


def show(space: CohortSpace) -> None:
    """A name and a button; afterwards the way to the review."""
    with st.expander("Review and correct the masks", icon=":material/fact_check:"):
        st.markdown(
            "Makes a dataset of the scans and their masks. It stays until you delete it. On the page Review, masks are "
            "accepted, corrected or rejected, those first on which the models agree least; then train on them."
        )
        name = st.text_input("Name of the dataset", _free_name(), key=NAME, max_chars=64, width=300)
        key = (space.id, name)
        task = task_progress.task_of(key)
        if task is not None and task.state == "finished":
            st.success(f"Dataset {task.result} is ready.", icon=":material/check_circle:")
            navigation.link(navigation.REVIEW, "Review its masks", query_params={"dataset": task.result})
            return
        try:
            safe_name(name, "dataset")
        except CovsegError as error:
            st.error(str(error), icon=":material/error:")
            return
        task_progress.task_button(
            key,
            "Make the dataset",
            lambda progress, cancelled: _make(space.output, name, progress, cancelled),
            doing=f"Importing {name}",
            cancelled="Cancelled. Nothing was imported.",
            icon=":material/library_add:",
        )


def _make(output: Path, name: str, progress: tasks.TaskProgress, cancelled: threading.Event) -> str:
    """In another process, since scans from outside are read."""
    size = size_of(output.parent)
    uploads.check_room(2 * size)
    return isolated(
        *(dataset_of_cohort, output, name), named=name, limits=Limits.of(size), progress=progress, cancel=cancelled
    ).name


def _free_name() -> str:
    taken = set(list_datasets())
    return next(name for number in range(1, len(taken) + 2) if (name := f"cohort-{number}") not in taken)
