"""A scan of the hospital's archive, for Quick prediction, and results on their way back."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from covseg_core.archive.search import Series, find_series
from covseg_core.archive.settings import archive_named, archive_names
from covseg_core.errors import CovsegError
from covseg_core.isolation import Limits, isolated
from covseg_core.prediction.combination import Combine
from covseg_core.prediction.output.files import DICOM_SEG, DICOM_SR
from covseg_core.runs.operating_point import Thresholds
from dashboard.app_pages.predict import result, workspace
from dashboard.app_pages.predict.workspace import Naming, Workspace
from dashboard.formatting import plain

FOUND = "archive-found"
"""In the session: the archive that was asked last, and its series."""
MOST = 100
"""Series that are asked for."""


def names() -> list[str]:
    """The archives that are set up; a sentence where their file cannot be read."""
    try:
        return archive_names()
    except CovsegError as error:
        st.warning(plain(str(error)), icon=":material/warning:")
        return []


def choose(archives: list[str]) -> Workspace | None:
    """Ask for series, and fetch the one that is chosen; raises `CovsegError` if it does not come."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = _archive(archives, "archive", st.container(width="content"))
        patient = st.text_input("Patient ID", key="archive-patient", help="`*` stands for any letters", width=200)
        date = st.text_input(
            "Study date",
            key="archive-date",
            placeholder="YYYYMMDD",
            help="Or from and to: 20200101-20201231",
            width=200,
        )
        asked = st.button("Find", icon=":material/search:")
    if asked:
        st.session_state.pop(FOUND, None)
        with st.spinner("Asking the archive"):
            archive = archive_named(name)
            arguments = (archive, patient, date, "CT", MOST)
            series = isolated(find_series, *arguments, named=archive.title, limits=Limits.of(0))
        st.session_state[FOUND] = name, series
    at, found = st.session_state.get(FOUND, ("", []))
    if at != name:
        return None
    if not found:
        st.info("No CT series of that patient and date.")
        return None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        one = st.selectbox("Series", found, format_func=label, width=520)
        wanted = st.button("Fetch this series", icon=":material/cloud_download:")
    if len(found) == MOST:
        st.caption(f"The {MOST} newest; say more of the patient or the date to see others.")
    return _fetch(name, one) if wanted else None


def label(one: Series) -> str:
    """`anon-31 · 20200401 · 120 images · thorax 1.5`."""
    images = "" if one.images is None else f"{one.images:,} image{'s' * (one.images != 1)}"
    return " · ".join(filter(None, (one.patient, one.date, images, one.description)))


def show_sending(
    space: Workspace, thresholds: Thresholds, combine: Combine, archives: list[str], place: DeltaGenerator
) -> None:
    """DICOM SEG and SR back into an archive, beside the scan."""
    with place.popover("Send to an archive", icon=":material/cloud_upload:"):
        name = _archive(archives, "archive-to", st.container())
        st.caption(
            "Mask and figures as DICOM SEG and SR, with patient and study of the series, so that they are filed there."
        )
        if not st.button("Send", icon=":material/send:"):
            return
        try:
            with st.spinner("Sending"):
                result.send(space, thresholds, combine, archive_named(name), Naming(space.file_name, keep_patient=True))
        except CovsegError as error:
            st.error(plain(str(error)), icon=":material/error:")
            return
        st.success(f"{DICOM_SEG} and {DICOM_SR} are stored in {plain(name)}.", icon=":material/check_circle:")


def _archive(archives: list[str], key: str, place: DeltaGenerator) -> str:
    return archives[0] if len(archives) == 1 else place.selectbox("Archive", archives, key=key, width=200)


def _fetch(name: str, one: Series) -> Workspace:
    bar = st.progress(0.0, "Fetching the series")

    def tell(done: int, total: int) -> None:
        bar.progress(done / total, f"Fetching image {done} of {total}")

    try:
        return workspace.take_series(archive_named(name), one, tell)
    finally:
        bar.empty()
