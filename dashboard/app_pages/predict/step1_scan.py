"""Step 1 of the Quick prediction page: which scan, and what it is."""

from __future__ import annotations

import streamlit as st

from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.slices.intensity import Scale
from covseg_core.errors import CovsegError, UnknownScale
from dashboard.app_pages.predict import from_archive, passport, workspace
from dashboard.app_pages.predict.workspace import Workspace
from dashboard.components import news
from dashboard.formatting import plain
from dashboard.services import url_state
from dashboard.services.datasets import load_datasets
from dashboard.services.upload_receiver import browser_of

WAYS = ["Upload files", "Upload a folder", "From a dataset"]
ARCHIVE = "From an archive"
SCALES: dict[Scale, str] = {
    "HU": "Hounsfield units: air is about -1000, water 0",
    "0-255": "Grey levels from 0 to 255, made with a lung window (-1250 to 250 HU)",
}


def show_scan() -> Workspace | None:
    """Let a scan be chosen, or show the one that is; returned as soon as it can be predicted on."""
    st.subheader("1. Scan")
    space = workspace.find(st.session_state.get("workspace")) or _again() or _linked()
    if space:
        url_state.write(scan=space.id)
    if space and space.source:
        url_state.write(dataset=space.source[0], case=space.source[1])
    news.show()
    if space is None:
        _choose()
        return None
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
        head.markdown(f"**{plain(space.name)}**", width="content")
        if head.button("Another scan", icon=":material/swap_horiz:"):
            _clear()
            st.rerun()
        if space.scan is None:
            _ask_series(space) if space.choices and not space.series else _ask_scale(space)
            return None
        passport.show(space.scan)
        if space.choices and st.button("Another series", icon=":material/layers:"):
            space.reopen()
            st.rerun()
    return space


def _choose() -> None:
    archives = from_archive.names()
    ways = [*WAYS, ARCHIVE] if archives else WAYS
    way = st.segmented_control(
        "Where it is", ways, default=ways[0], required=True, label_visibility="collapsed", wrap=True
    )
    try:
        if way == ARCHIVE:
            space = from_archive.choose(archives)
            taken = space is not None and bool(_settle(space))
        else:
            taken = _case() if way == WAYS[2] else _upload(folder=way == WAYS[1])
    except CovsegError as error:
        st.session_state[news.TROUBLE] = f"This scan cannot be used. {plain(str(error))}."
        taken = True
    if taken:
        st.rerun()


def _upload(folder: bool) -> bool:
    """Whether something was uploaded."""
    number = st.session_state.get("uploads", 0)
    uploaded = st.file_uploader(
        "Folder of DICOM slices" if folder else "Chest CT: NIfTI, DICOM slices or their zip",
        accept_multiple_files="directory" if folder else True,
        key=f"upload-{number}",
        help="NIfTI is .nii or .nii.gz. A PNG or JPG of a single slice works too, without a scale and without mL.",
    )
    st.caption(
        "The scan stays on the computer that runs this dashboard. It is removed after an hour, or when you open "
        "another scan."
    )
    if not uploaded:
        return False
    st.session_state.uploads = number + 1  # a new widget, so that Streamlit lets go of the files
    with st.spinner("Taking the files over"):
        space = workspace.take_upload(uploaded)
    _settle(space)
    return True


def _case() -> bool:
    """Whether a scan of a dataset was taken."""
    datasets, _ = load_datasets()
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


def _again() -> Workspace | None:
    """The scan that this browser had before the page was loaded anew, with what was predicted."""
    if not (id := url_state.read("scan", "")):
        return None
    space = workspace.find_again(id, browser_of(st.context.cookies))
    if space is None:
        url_state.write(scan=None)
        if "case" not in st.query_params:
            st.session_state[news.TROUBLE] = (
                "The scan of this link is not here any more, or another browser has brought it. Choose it again."
            )
        return None
    st.session_state.workspace = space.id
    space.opened = space.opened or url_state.names_slice()
    return space


def _linked() -> Workspace | None:
    """The scan that the URL names: one of a dataset."""
    dataset, case = url_state.read("dataset", ""), url_state.read("case", "")
    if not dataset or not case:
        return None
    try:
        space = _take(load_dataset(dataset), case)
        space.opened = url_state.names_slice()  # the link leads to a slice of its own
        return space
    except CovsegError as error:
        st.session_state[news.TROUBLE] = f"The link does not lead to a scan. {plain(str(error))}."
        url_state.write(dataset=None, case=None)
        return None


def _take(dataset: Dataset, case: str) -> Workspace:
    return _settle(workspace.take_case(dataset, dataset.case(case)))


def _settle(space: Workspace) -> Workspace:
    """Read a new scan and put it in the place of the one before; one that cannot be used is removed again."""
    _clear()
    try:
        _read(space)
    except BaseException:
        space.clear()
        raise
    space.browser = browser_of(st.context.cookies)
    st.session_state.workspace = space.id
    return space


def _read(space: Workspace) -> None:
    """Read it; there is a `problem` then if the scale has to be asked for."""
    try:
        with st.spinner("Reading the scan", show_time=True):
            space.load()
    except UnknownScale as error:
        space.problem = f"It is not clear which scale this scan is in: {error.found}."


def _clear() -> None:
    if space := workspace.find(st.session_state.pop("workspace", None)):
        space.clear()
    url_state.write(scan=None, dataset=None, case=None)


def _ask_series(space: Workspace) -> None:
    """Which of several series is meant: thin or thick slices, sharp or smooth."""
    if space.problem:
        st.error(plain(space.problem), icon=":material/error:")
    labels = {series.key: series.label for series in space.choices}
    patients = len({series.patient for series in space.choices})
    whose = f" of {patients} patients" if patients > 1 else ""
    st.markdown(f"{len(labels)} series{whose} can be used. Smooth kernels and slices of 1 to 5 mm suit best.")
    key = st.radio("Series", list(labels), format_func=lambda key: plain(labels[key]))
    if st.button("Use this series", icon=":material/check:"):
        space.series, space.problem = key, ""
        try:
            _read(space)
        except CovsegError as error:
            space.series, space.problem = None, f"This series cannot be used: {error.found}."
        st.rerun()


def _ask_scale(space: Workspace) -> None:
    """The one thing that a scan may not say about itself."""
    st.warning(plain(space.problem), icon=":material/help:")
    scale = st.radio("Which scale is it?", list(SCALES), format_func=SCALES.__getitem__, index=None)
    if st.button("Use this scale", icon=":material/check:", disabled=scale is None):
        space.scale = scale
        try:
            _read(space)
        except CovsegError as error:
            space.problem = f"Taken as {scale}, it cannot be used: {error.found}; expected {error.expected}."
        st.rerun()
