"""Step 1 of the Quick prediction page: which scan, and what it is."""

from __future__ import annotations

import desks
import listing
import predicting
import state
import streamlit as st
from desks import Desk
from predicting import plain

from covseg_core.data.datasets import Dataset, load_dataset
from covseg_core.data.intensity import Scale
from covseg_core.errors import CovsegError, UnknownScale

WAYS = ["Upload a file", "From a dataset"]
SCALES: dict[Scale, str] = {
    "HU": "Hounsfield units: air is about -1000, water 0",
    "0-255": "Grey levels from 0 to 255, made with a lung window (-1250 to 250 HU)",
}


def show_scan() -> Desk | None:
    """Let a scan be chosen, or show the one that is; returned as soon as it can be predicted on."""
    st.subheader("1. Scan")
    desk = desks.find(st.session_state.get("desk")) or _linked()
    if desk and desk.source:
        state.write(dataset=desk.source[0], case=desk.source[1])
    if trouble := st.session_state.pop("trouble", None):
        st.error(trouble, icon=":material/error:")
    if desk is None:
        _choose()
        return None
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
        head.markdown(f"**{plain(desk.name)}**", width="content")
        if head.button("Another scan", icon=":material/swap_horiz:"):
            _clear()
            st.rerun()
        if desk.checked is None:
            _ask_scale(desk)
            return None
        st.markdown(
            " ".join(f":gray-badge[{label} {value}]" for label, value in predicting.passport(desk.checked).items())
        )
        for warning in desk.checked.warnings:
            st.warning(plain(f"{warning[0].upper()}{warning[1:]}."), icon=":material/warning:")
    return desk


def _choose() -> None:
    way = st.segmented_control("Where it is", WAYS, default=WAYS[0], required=True, label_visibility="collapsed")
    try:
        taken = _upload() if way == WAYS[0] else _case()
    except CovsegError as error:
        st.session_state.trouble = f"This scan cannot be used. {plain(str(error))}."
        taken = True
    if taken:
        st.rerun()


def _upload() -> bool:
    """Whether a file was sent."""
    number = st.session_state.get("uploads", 0)
    sent = st.file_uploader("Chest CT as one file, .nii or .nii.gz", key=f"upload-{number}")
    st.caption("It stays on the computer of this dashboard, and is removed after an hour or with the next scan.")
    if sent is None:
        return False
    st.session_state.uploads = number + 1  # a new widget, so that Streamlit lets go of the file
    _settle(desks.take_upload(sent))
    return True


def _case() -> bool:
    """Whether a scan of a dataset was taken."""
    datasets, _ = listing.load_datasets()
    if not datasets:
        st.info("There is no dataset yet. Upload a file, or add scans under Data and training.")
        return False
    columns = st.columns(2)
    dataset = columns[0].selectbox("Dataset", datasets, format_func=lambda dataset: dataset.name)
    case = columns[1].selectbox("Case", [case.id for case in dataset.cases])
    if not st.button("Take this scan", icon=":material/check:"):
        return False
    _take(dataset, case)
    return True


def _linked() -> Desk | None:
    """The scan that the URL names: one of a dataset."""
    dataset, case = state.read("dataset", ""), state.read("case", "")
    if not dataset or not case:
        return None
    try:
        desk = _take(load_dataset(dataset), case)
        desk.opened = "z" in st.query_params  # the link leads to a slice of its own
        return desk
    except CovsegError as error:
        st.session_state.trouble = f"The link does not lead to a scan. {plain(str(error))}."
        state.write(dataset=None, case=None)
        return None


def _take(dataset: Dataset, case: str) -> Desk:
    return _settle(desks.take_case(dataset, dataset.case(case)))


def _settle(desk: Desk) -> Desk:
    """Read a new scan and put it in the place of the one before; one that cannot be used is removed again."""
    _clear()
    try:
        with st.spinner("Reading the scan", show_time=True):
            desks.check(desk)
    except UnknownScale as error:
        desk.problem = f"It is not clear which scale this scan is in: {error.found}."
    except BaseException:
        desks.clear(desk)
        raise
    st.session_state.desk = desk.id
    return desk


def _clear() -> None:
    if desk := desks.find(st.session_state.pop("desk", None)):
        desks.clear(desk)
    state.write(dataset=None, case=None)


def _ask_scale(desk: Desk) -> None:
    """The one thing that a scan may not say about itself."""
    st.warning(plain(desk.problem), icon=":material/help:")
    scale = st.radio("Which scale is it?", list(SCALES), format_func=SCALES.__getitem__, index=None)
    if st.button("Use this scale", icon=":material/check:", disabled=scale is None):
        try:
            with st.spinner("Reading the scan", show_time=True):
                desks.check(desk, scale)
        except CovsegError as error:
            desk.problem = f"Taken as {scale}, it cannot be used: {error.found}; expected {error.expected}."
        st.rerun()
