"""Correcting a mask: on the page with the viewer's tools, or in another program and back as a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from covseg_core.data.library.datasets import Case, Dataset, load_dataset
from covseg_core.data.library.reviews import add_review, current_mask
from covseg_core.data.library.revision import FILE, Revision, Role
from covseg_core.data.library.revisions import MOST_MINUTES, Saved, mask_file, save_revision, stored_mask
from covseg_core.errors import CovsegError
from dashboard.components import slice_viewer, volume_viewer
from dashboard.components.news import NEWS
from dashboard.components.slice_viewer import Scene
from dashboard.formatting import plain
from dashboard.services import corrections, uploads
from dashboard.services.corrections import Bits, Correction

VIEWER = corrections.VIEWER
MASKS = "corrected-masks"
"""In the session: what came from the viewer and is not saved yet, by dataset and case."""
MINUTES = "correction-minutes"
GRADE, NOTE = "review-grade", "review-note"
"""Keys of the grade and the note that are not stored yet."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A mask that came from the viewer."""

    bits: Bits
    minutes: float
    added: int
    removed: int


def scene(work: Correction, start: int) -> Scene:
    """The case as it was when its mask was opened, to be drawn on; `start`: the slice that is shown first."""
    then = load_dataset(f"{work.dataset}@{work.parent}")
    case, drawn = then.case(work.case), _first_mask(work)
    return slice_viewer.scene_of_masks(then, case, work.role, start, edit=work.id, drawn=drawn)


def show(work: Correction, reader: str) -> None:
    """Below the viewer: what was drawn, and the form that saves it."""
    _warn(work, load_dataset(work.dataset))
    _receive(work)
    drawn: Drawn | None = st.session_state.get(MASKS, {}).get(work.place)
    minutes = 0.0
    if drawn is None:
        st.caption("Draw, then press *Done* above the picture. Nothing is stored before that.")
    elif not drawn.added and not drawn.removed:
        st.info("Nothing was changed: the mask is the one that was opened.", icon=":material/info:")
    else:
        changes = f"**{drawn.added:,}** voxels added, **{drawn.removed:,}** removed"
        st.markdown(f"{changes}, {drawn.minutes:g} minutes of work.")
        minutes = _minutes("drawn", drawn.minutes)
    pressed = False
    with st.container(horizontal=True):
        if drawn is not None and (drawn.added or drawn.removed):
            pressed = st.button("Save revision", type="primary", icon=":material/save:")
        help = "What was not saved is lost"
        st.button("Stop correcting", icon=":material/close:", help=help, on_click=_end, args=(work,))
    if pressed and drawn is not None:
        with st.spinner("Saving"):
            _save(work, drawn.bits.mask(), reader, minutes)


def _end(work: Correction) -> None:
    corrections.end(work)
    st.session_state.get(MASKS, {}).pop(work.place, None)


def _first_mask(work: Correction) -> slice_viewer.Plane | None:
    """Of what is drawn on, in radiological view; None for the stored mask."""
    if work.start is None:
        return None
    mask = work.start.mask()
    return lambda z: mask[z, ::-1, ::-1]


def _warn(work: Correction, newest: Dataset) -> None:
    """Say whether somebody else has saved this mask since it was opened."""
    try:
        case = newest.case(work.case)
    except CovsegError:
        return
    for one in case.history(work.role, newest.created):
        if one.number > work.parent:
            st.warning(
                f"Revision {one.number}{_by(one)} was saved since you opened this mask, and is not part of yours. "
                "If you save, yours counts from then on, and both are kept.",
                icon=":material/call_split:",
            )


def _receive(work: Correction) -> None:
    """Take over what the browser has sent."""
    found = volume_viewer.drawn(VIEWER)
    if found is None or found[1].key != repr(work.id):
        return
    mask, sent = found
    then = load_dataset(f"{work.dataset}@{work.parent}")
    before = stored_mask(then, then.case(work.case), work.role)
    added, removed = (int(np.count_nonzero(one)) for one in (mask > before, mask < before))
    drawn = Drawn(Bits.of(mask), min(sent.minutes, MOST_MINUTES), added, removed)
    st.session_state.setdefault(MASKS, {})[work.place] = drawn
    st.session_state[f"{MINUTES}-drawn"] = drawn.minutes


def _minutes(key: str, minutes: float) -> float:
    """Of work, as they were counted or as the reader says."""
    st.session_state.setdefault(f"{MINUTES}-{key}", minutes)
    return st.number_input("Minutes", 0.0, MOST_MINUTES, step=1.0, format="%.1f", key=f"{MINUTES}-{key}", width=160)


def _save(work: Correction, mask: np.ndarray, reader: str, minutes: float) -> None:
    try:
        saved = save_revision(
            *(work.dataset, work.case, mask, work.role),
            author=reader,
            minutes=minutes,
            parent=work.parent,
            origin=work.origin,
        )
        _end(work)
        _review(saved, work.case)
    except CovsegError as error:
        st.error(str(error), icon=":material/error:")
        return
    _tell(saved, work.case)


def _review(saved: Saved, case_id: str) -> None:
    """Who corrects a mask has looked at the one before it: stored with the grade and the note, if there are any."""
    one = saved.revision
    then = saved.dataset.as_of(one.parent) if one.parent else saved.dataset
    mask = current_mask(then, then.case(case_id), one.role)
    if one.author and mask is not None:
        grade, note = st.session_state.pop(GRADE, None), st.session_state.get(NOTE, "")
        add_review(
            *(then.name, case_id, "corrected", one.author, one.role), grade=grade, note=note, revision=mask.number
        )


def _tell(saved: Saved, case: str) -> None:
    """Say on the next run of the page what was saved."""
    one = saved.revision
    told = [f"Revision {one.number} of {plain(case)} is saved: {one.added:,} voxels added, {one.removed:,} removed."]
    for other in saved.beside:
        told.append(f"Revision {other.number}{_by(other)} is not part of it; both are kept.")
    st.session_state[NEWS] = " ".join(told)
    st.rerun()


def _by(revision: Revision) -> str:
    return f" by {plain(revision.author)}" if revision.author else ""


def show_files(dataset: Dataset, case: Case, role: Role, reader: str) -> None:
    """Correcting in another program: the mask as a file, and a corrected one back."""
    with st.expander("Correct in another program", icon=":material/upload_file:"):
        st.markdown("Download the mask, correct it in 3D Slicer, ITK-SNAP or the like, and give it back as NIfTI.")
        st.download_button(
            "Download the mask (NIfTI)",
            lambda: mask_file(dataset, case, role),
            f"{dataset.name}-{case.id}-{role}.nii.gz",
            "application/gzip",
            icon=":material/download:",
            on_click="ignore",
            key="correction-download",
            disabled=role not in case.files,
        )
        _take_file(dataset, case, role, reader)


def _take_file(dataset: Dataset, case: Case, role: Role, reader: str) -> None:
    number = st.session_state.setdefault("correction-file", 0)
    file = st.file_uploader("Corrected mask", type=["nii", "gz"], key=f"correction-file-{number}")
    minutes = _minutes("file", 0.0)
    if st.button("Save as a revision", icon=":material/save:", disabled=file is None) and file is not None:
        try:
            with st.spinner("Reading and saving"):
                mask = uploads.read_mask(file, dataset.name, case.id, role)
                saved = save_revision(
                    *(dataset.name, case.id, mask, role),
                    author=reader,
                    minutes=minutes,
                    parent=dataset.revision,
                    origin=FILE,
                )
                _review(saved, case.id)
        except CovsegError as error:
            st.error(str(error), icon=":material/error:")
            return
        st.session_state["correction-file"] = number + 1
        _tell(saved, case.id)
