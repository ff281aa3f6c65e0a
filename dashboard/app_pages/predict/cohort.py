"""Quick prediction of a cohort: many scans in, a table with their masks out."""

from __future__ import annotations

from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from covseg_core.errors import CovsegError
from dashboard.app_pages.predict import (
    cohort_dataset,
    cohort_files,
    cohort_scan,
    cohort_space,
    cohort_table,
    cohort_task,
    step2_models,
)
from dashboard.app_pages.predict.cohort_space import CohortSpace
from dashboard.app_pages.predict.step2_models import Chosen
from dashboard.components import task_progress
from dashboard.formatting import plain
from dashboard.services import tasks, url_state
from dashboard.services.model_catalog import ListedRun
from dashboard.services.upload_receiver import browser_of

RIGHT = 420  # pixels of the models, as for one scan
SPACE, TROUBLE = "cohort-space", "cohort-trouble"
"""In the session: id of the cohort, and what went wrong before a rerun."""
WAYS = ["Files and zips", "A folder"]
LOOK_SECONDS = 3
"""Between two looks at the table of a cohort that is being predicted."""


def show(models: list[ListedRun]) -> None:
    """Scans and models side by side, then how far it is, the table, and the scan that is chosen in it."""
    row = _steps(cohort_space.find(st.session_state.get(SPACE))).container(horizontal=True, gap="medium")
    left, right = row.container(width="stretch"), row.container(width=RIGHT)
    with left:
        space = _scans()
    with right:
        chosen = step2_models.show_models(models, None)
        _ask_to_go(space, chosen)
    if space is not None:
        _show_cohort(space)


def _steps(space: CohortSpace | None) -> DeltaGenerator:
    """Where scans and models are chosen: folded away once all is predicted, so that what was found has room."""
    cohort = space.cohort if space and not space.running else None
    if cohort is None or cohort.stopped:
        return st.container()
    return st.expander("Scans and models", icon=":material/tune:", key="cohort-steps")


def _scans() -> CohortSpace | None:
    """Let scans be uploaded, or tell which are there."""
    st.subheader("1. Scans")
    if trouble := st.session_state.pop(TROUBLE, None):
        st.error(trouble, icon=":material/error:")
    space = cohort_space.find(st.session_state.get(SPACE)) or _again()
    if space is None:
        _upload()
        return None
    url_state.write(cohort=space.id)
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
        head.markdown(f"**{space.files:,} file{'s' * (space.files != 1)} uploaded**", width="content")
        if head.button("Another cohort", icon=":material/swap_horiz:"):
            space.clear()
            _forget()
            st.rerun()
        st.caption(
            "Masks among them are passed over. The cohort stays on the computer that runs this dashboard, and is "
            "removed a day after you last looked at it, or when you open another one."
        )
    return space


def _upload() -> None:
    way = st.segmented_control("What to upload", WAYS, default=WAYS[0], required=True, label_visibility="collapsed")
    number = st.session_state.get("cohort-uploads", 0)
    uploaded = st.file_uploader(
        "Chest CTs of one or many patients",
        accept_multiple_files="directory" if way == WAYS[1] else True,
        key=f"cohort-upload-{number}",
        help="NIfTI files, DICOM series of many patients, or zips of them. Series in folders stay apart.",
    )
    st.caption("The scans stay on the computer that runs this dashboard, for a day after you last looked at them.")
    if not uploaded:
        return
    st.session_state["cohort-uploads"] = number + 1  # a new widget, so that Streamlit lets go of the files
    try:
        with st.spinner("Taking the files over"):
            st.session_state[SPACE] = cohort_space.take_uploads(uploaded, browser_of(st.context.cookies)).id
    except CovsegError as error:
        st.session_state[TROUBLE] = f"These files cannot be used. {plain(str(error))}."
    st.rerun()


def _again() -> CohortSpace | None:
    """The cohort that this browser had before the page was loaded anew."""
    if not (id := url_state.read("cohort", "")):
        return None
    space = cohort_space.find_again(id, browser_of(st.context.cookies))
    if space is None:
        st.warning(
            "The cohort of this link is not here any more, or another browser has brought it.",
            icon=":material/search_off:",
        )
        _forget()
        return None
    st.session_state[SPACE] = space.id
    return space


def _forget() -> None:
    st.session_state.pop(SPACE, None)
    url_state.write(cohort=None)


def _ask_to_go(space: CohortSpace | None, chosen: Chosen) -> None:
    """The button that starts it; it cannot be pressed where there is nothing to do."""
    pseudonyms = st.toggle(
        "Pseudonyms",
        key="cohort-pseudonyms",
        help="Scans are called scan-001 and so on in the table and in all files. DICOM series never have their names.",
    )
    unready = "Choose a model first." if not chosen.models else ""
    unready = "Choose a lung model first." if chosen.lacks_lungs else unready
    unready = "Choose scans first." if space is None else unready
    running = space is not None and space.running
    request = None if unready else cohort_task.request_of(chosen)
    answered = bool(space and request and cohort_task.answered(space, request, pseudonyms))
    cohort = space.cohort if space and answered else None
    done = cohort is not None and not cohort.stopped and not cohort.failed
    label = "Predict all" if cohort is None or done else "Go on" if cohort.stopped else "Try failed ones again"
    go = st.button(
        label, icon=":material/bolt:", type="primary", disabled=bool(unready) or running or done, key="cohort-go"
    )
    if unready or (done and not running):
        st.caption(unready or "Done: the table is below.")
    if go and space and request:
        cohort_task.start(space, request, pseudonyms)
        st.rerun()


def _show_cohort(space: CohortSpace) -> None:
    task = task_progress.show(space.task, "scans")
    if task is None and tasks.get(space.task) is not None:
        _show_so_far(space)
        return
    if task and task.state == "failed":
        st.error(plain(task.error), icon=":material/error:")
    if task and task.state == "cancelled":
        st.info("It was cancelled. What is predicted stays; press Go on for the rest.", icon=":material/cancel:")
    cohort = space.cohort
    if cohort is None or not cohort.rows:
        return
    st.subheader("3. Cohort")
    if cohort.stopped and not (task and task.state == "failed"):
        st.warning("Not finished: press Go on for the rest.", icon=":material/history:")
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        cohort_table.headline(cohort)
        st.download_button(
            "Download all (zip)",
            partial(cohort_files.cohort_zip, space),
            "cohort.zip",
            "application/zip",
            icon=":material/download:",
            on_click="ignore",
            help="A folder with masks and report for each scan, cohort.csv, and cohort.html to look at and to print.",
        )
    name = cohort_table.show(cohort, selectable=True)
    if name is None:
        st.caption("Choose a row, at its left end, to look at the scan and its mask.")
    else:
        cohort_scan.show(space, next(row for row in cohort.rows if row.name == name))
    if cohort.done:
        cohort_dataset.show(space)


@st.fragment(run_every=LOOK_SECONDS)
def _show_so_far(space: CohortSpace) -> None:
    if (cohort := space.cohort) is not None and cohort.rows:
        cohort_table.headline(cohort)
        cohort_table.show(cohort, selectable=False)
