"""One dataset: its cases, a slice with its mask, and how to be rid of it."""

from __future__ import annotations

from typing import get_args

import numpy as np
import streamlit as st

from covseg_core.config import Target
from covseg_core.data.library import datasets
from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.errors import CovsegError
from dashboard import navigation
from dashboard.app_pages.train import tables
from dashboard.components import slice_viewer
from dashboard.components.news import NEWS, TROUBLE
from dashboard.services import corrections, url_state
from dashboard.services.datasets import runs_of

ROW, HEAD, MOST = 35, 38, 8
"""Pixels of a row and of the head of the table of cases; rows at most before it scrolls."""


def show(dataset: Dataset) -> None:
    """Counts, and below them cases and preview; a scan is read only when somebody looks."""
    with st.container(horizontal=True, gap="large"):
        for label, value, help in tables.counts(dataset):
            st.metric(label, value, help=help, width="content")
    # a link to a case opens its preview; later the tabs keep their own state
    first = st.session_state.setdefault("dataset-tab", "Preview" if "case" in st.query_params else "Cases")
    cases, preview = st.tabs(["Cases", "Preview"], default=first, key="dataset-tabs", on_change="rerun")
    if cases.open:
        url_state.write(case=None)
        with cases:
            show_cases(dataset)
    if preview.open:
        with preview:
            show_preview(dataset)


def show_cases(dataset: Dataset) -> None:
    st.dataframe(
        tables.case_table(dataset),
        hide_index=True,
        height=HEAD + ROW * min(len(dataset.cases), MOST),
        column_config={
            "Positive slices": st.column_config.NumberColumn(help="Slices on which infection is outlined"),
            "Matrix": st.column_config.TextColumn(help="Columns x rows of a slice, in pixels"),
            "Spacing (mm)": st.column_config.TextColumn(help="Between columns x rows x slices"),
            "Scale": st.column_config.TextColumn(help="HU, or windowed to 0..255 already; both are understood"),
            "Warnings": st.column_config.TextColumn(width="large", help="What the import found odd"),
        },
    )


def show_preview(dataset: Dataset) -> None:
    """A case in the viewer with its masks, first at the slice with most infection."""
    names = [case.id for case in dataset.cases]
    key = f"preview-{dataset.name}"
    if key not in st.session_state:
        st.session_state[key] = url_state.read("case", names[0], names)
    case = dataset.case(st.selectbox("Case", names, key=key, persist_state="session", width=400))
    url_state.write(case=case.id)
    target = next((target for target in get_args(Target) if target in case.files), None)
    if st.session_state.setdefault("previewed", (dataset.name, case.id)) != (dataset.name, case.id):
        st.session_state.previewed = dataset.name, case.id
        slice_viewer.go_to("preview", _fullest(case, target))
    st.session_state.setdefault("preview-outline", True)
    slice_viewer.show(slice_viewer.scene_of_masks(dataset, case, target, _fullest(case, target)), key="preview")
    query = {"dataset": dataset.name, corrections.LOOK: case.id}
    navigation.link(navigation.REVIEW, "Review or correct this mask", query_params=query)


def _fullest(case: Case, target: Target | None) -> int:
    voxels = case.voxels(target) if target else None
    return int(np.argmax(voxels)) if voxels and any(voxels) else case.slices // 2


@st.dialog("Delete dataset", icon=":material/delete:")
def confirm_delete(dataset: Dataset) -> None:
    """Ask, say what is lost, and refuse while a run trains on it."""
    active, ended = runs_of(dataset.name)
    st.markdown(f"Delete **{dataset.name}** with its {len(dataset.cases)} cases? Files on your own computer stay.")
    if ended:
        st.markdown(f"{ended} of its runs stay, with their scores; they cannot be resumed or evaluated again.")
    if active:
        st.error(f"{active} runs are training on it or waiting in the queue. Stop them first.", icon=":material/block:")
    with st.container(horizontal=True):
        if st.button(
            "Delete it",
            type="primary",
            icon=":material/delete:",
            disabled=bool(active),
            on_click=_delete,
            args=(dataset.name,),
        ) or st.button("Keep it"):
            st.rerun()


def _delete(name: str) -> None:
    try:
        datasets.delete_dataset(name)
        st.session_state[NEWS] = f"Dataset {name} is deleted."
        st.session_state.pop("dataset", None)
        url_state.write(dataset=None, case=None)
    except CovsegError as error:
        st.session_state[TROUBLE] = str(error)
