"""Bring data: upload scans and masks, make sample data, download the public data set."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import streamlit as st

from covseg_core.data.library import download, importing
from covseg_core.data.library.datasets import list_datasets, load_dataset
from covseg_core.data.slices.intensity import Scale
from covseg_core.errors import CovsegError
from covseg_core.files import safe_name
from dashboard.components import task_progress
from dashboard.components.news import NEWS, TROUBLE
from dashboard.services import tasks, uploads
from dashboard.services.uploads import Upload

SAMPLE = "sample"
PUBLIC = "zenodo"
DOWNLOAD_ROOM = 4_000_000_000
"""Bytes: three archives of 1.1 GB in all, what is in them, and the dataset's copies."""
_SCALES: dict[str, Scale | None] = {"Find out": None, "HU": "HU", "0 to 255": "0-255"}


def finish() -> None:
    """Say how the import of this window went, once it has ended; show how far it is until then."""
    task = task_progress.show(st.session_state.get("import"), unit="cases")
    if task is None:
        return
    del st.session_state["import"]
    if task.state == "finished":
        dataset = load_dataset(task.result)
        st.session_state[NEWS] = f"Dataset {dataset.name} is ready: {len(dataset.cases)} cases."
        st.session_state.dataset = dataset.name
        st.session_state.pop("upload", None)
    elif task.state == "cancelled":
        st.session_state[NEWS] = "Cancelled. Nothing was imported."
    else:
        st.session_state[TROUBLE] = _in_words_of_the_page(task.error)


def show_first() -> None:
    """What somebody sees who has no data yet."""
    if _busy():
        st.caption("The dataset will be shown here.")
        return
    with st.container(border=True):
        st.subheader("Start with some data")
        st.markdown(
            "There is no dataset yet. covseg learns from chest CT scans in which somebody has outlined the infection. "
            "To try everything out first, take **sample data**: six synthetic chest scans with lesions and their "
            "masks, made on this computer in a few seconds."
        )
        sample_button(primary=True)
    with st.container(border=True):
        _tabs(["Upload scans and masks", "Public data set"])


def show_more() -> None:
    """The same, folded away, where there is data already."""
    if _busy():
        return
    with st.expander("Add data", icon=":material/add:", expanded=_upload() is not None):
        _tabs(["Upload scans and masks", "Public data set", "Sample data"])


def _tabs(names: Sequence[str]) -> None:
    upload, public, *sample = st.tabs(names)
    with upload:
        show_upload()
    with public:
        show_public()
    for tab in sample:
        with tab:
            if SAMPLE in list_datasets():
                st.markdown(f"The sample data are here already, as dataset **{SAMPLE}**.")
            else:
                st.markdown("Six synthetic chest scans with lesions and masks, to try things out.")
                sample_button(primary=False)


def sample_button(primary: bool) -> None:
    """One click: what `covseg data sample sample` does."""
    if not st.button("Use sample data", icon=":material/science:", type="primary" if primary else "secondary"):
        return
    with st.spinner("Making six synthetic chest scans with lesions and masks", show_time=True):
        try:
            dataset = importing.import_sample(SAMPLE)
            st.session_state[NEWS] = f"Dataset {dataset.name} is ready: {len(dataset.cases)} cases."
            st.session_state.dataset = dataset.name
        except CovsegError as error:
            st.session_state[TROUBLE] = str(error)
    st.rerun()


def show_public() -> None:
    source = download.SOURCES[PUBLIC]
    st.markdown(
        f"{source.title}. About 1.1 GB, from [Zenodo]({source.url.removesuffix('/files')}); checked by SHA-256. "
        f"Licence: {source.licence}, so for non-commercial use."
    )
    if PUBLIC in list_datasets():
        st.markdown(f"It is here already, as dataset **{PUBLIC}**.")
    elif st.button("Download", icon=":material/download:"):
        st.session_state["import"] = tasks.start("import", "Downloading the public data set", _download)
        st.rerun()


def _download(progress: tasks.TaskProgress, cancelled: threading.Event) -> str:
    uploads.check_room(DOWNLOAD_ROOM)
    progress.phase("Downloading the public data set, file by file", "bytes")
    archives = download.download(PUBLIC, progress)
    progress.phase("Reading the public data set", "cases")
    return importing.import_dataset(PUBLIC, archives, source=f"{PUBLIC} download", progress=progress).name


def show_upload() -> None:
    """Files go to disk as soon as they are here; then a name is asked for, and they are imported."""
    upload = _upload()
    if upload is None:
        st.markdown(
            "Scans and masks of the infection, and lung masks if you have them. Scans are NIfTI, `.nii` or `.nii.gz`, "
            "or folders of DICOM slices; masks are NIfTI or DICOM SEG. "
            "They are paired by their names: a folder for each case with "
            "`ct.nii.gz`, `infection_mask.nii.gz` and `lung_mask.nii.gz`, or a number that scan and mask share, as in "
            "`scan_012.nii.gz` and `mask_012.nii.gz`. A DICOM scan is a folder `dicom` in that of its case, and a "
            "DICOM SEG finds its scan by itself."
        )
    kind = st.segmented_control("What to upload", ["A folder", "Files or zips"], default="A folder", required=True)
    uploaded = st.file_uploader(
        "Scans and masks" if upload is None else "More scans and masks",
        accept_multiple_files="directory" if kind == "A folder" else True,
        key=f"sent-{st.session_state.setdefault('sent', 0)}",
        help="NIfTI, DICOM or zips of them, up to 2 GB a file. They go to the disk of the computer that covseg runs "
        "on, and nowhere else. Of a DICOM series only the grey values and their grid are kept.",
    )
    if uploaded:
        _take(uploaded, upload)
    if upload is not None:
        show_received(upload)


def _take(uploaded: Sequence[uploads.UploadedFile], upload: Upload | None) -> None:
    """Move what was uploaded to disk, and start with an empty widget, so that Streamlit forgets it."""
    upload = upload or uploads.new_upload()
    try:
        upload.add(uploaded)
        st.session_state.upload = upload.id
    except CovsegError as error:
        st.session_state[TROUBLE] = str(error)
        if not upload.files:
            upload.discard()
    st.session_state.sent += 1
    st.rerun()


def show_received(upload: Upload) -> None:
    """What is on disk, what it will become, and the button that makes it a dataset."""
    found, problem = upload.summary()
    st.markdown(f"**{found}**, {upload.bytes / 1e6:,.1f} MB, received.")
    if problem:
        st.warning(f"{problem}. Upload what is missing as well, or discard.", icon=":material/link_off:")
    name = st.text_input(
        "Name of the dataset",
        uploads.free_name(upload),
        help="Letters, digits, dot, dash, underscore. Reports carry it, so not a person's name",
    )
    note = _note(name)
    if note:
        st.info(note, icon=":material/library_add:")
    with st.expander("Options", icon=":material/tune:"):
        labels = st.text_input(
            "Labels that count as infection",
            placeholder="All above 0; or numbers such as 1, 2",
            help="Of a DICOM SEG, numbers of segments",
        )
        scale = st.selectbox("Grey values of the scans", list(_SCALES), help="HU, or windowed to 0..255 already")
        allow_empty = st.checkbox("Take infection masks without any infection", help="Usually a sign of a wrong export")
        pseudonyms = st.checkbox(
            "Pseudonyms instead of the files' names", help="case-001 and so on; the key stays in the dataset's folder"
        )
    with st.container(horizontal=True):
        if st.button("Import", type="primary", icon=":material/check:", disabled=bool(problem)):
            _start(upload, name, labels, _SCALES[scale], allow_empty, pseudonyms)
        if st.button("Discard", icon=":material/delete:"):
            upload.discard()
            st.session_state.pop("upload", None)
            st.rerun()


def _start(upload: Upload, name: str, labels: str, scale: Scale | None, allow_empty: bool, pseudonyms: bool) -> None:
    try:
        chosen = uploads.parse_labels(labels)
        work = upload.import_as(safe_name(name, "dataset"), chosen, scale, allow_empty, pseudonyms)
    except CovsegError as error:
        st.error(str(error), icon=":material/error:")
        return
    st.session_state["import"] = tasks.start("import", f"Importing {name}", work)
    st.rerun()


def _note(name: str) -> str:
    """What it means that there is a dataset of this name."""
    if name not in list_datasets():
        return ""
    try:
        cases = len(load_dataset(name).cases)
    except CovsegError as error:
        return str(error)
    return (
        f"Dataset {name} exists: these cases are added to its {cases}. Its runs keep their scores, but cannot be "
        "resumed or evaluated again. Take another name to keep both."
    )


def _busy() -> bool:
    """Whether this window imports something: one at a time."""
    return tasks.get(st.session_state.get("import")) is not None


def _upload() -> Upload | None:
    return uploads.find_upload(st.session_state.get("upload"))


def _in_words_of_the_page(error: str) -> str:
    """The command line's options are widgets here."""
    empty = "the option “Take infection masks without any infection”"
    return error.replace("--allow-empty", empty).replace("--labels", "the option “Labels that count as infection”")
