"""Correcting a mask: on the page with the viewer's tools, or in another program and back as a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from covseg_core.data.library.datasets import ROLES, Case, Dataset, load_dataset
from covseg_core.data.library.revision import FILE, Revision, Role
from covseg_core.data.library.revisions import LONGEST_NAME, MOST_MINUTES, Saved, mask_file, save_revision, stored_mask
from covseg_core.errors import CovsegError
from dashboard.components import slice_viewer, volume_viewer
from dashboard.components.slice_viewer import Scene
from dashboard.formatting import plain
from dashboard.services import corrections, uploads
from dashboard.services.corrections import Bits, Correction

VIEWER = "preview"
MASKS = "corrected-masks"
"""In the session: what came from the viewer and is not saved yet, by dataset and case."""
AUTHOR, MINUTES = "correction-author", "correction-minutes"
NAMES: dict[Role, str] = {"infection": "Infection", "lung": "Lungs"}


@dataclass(frozen=True, eq=False)
class Drawn:
    """A mask that came from the viewer."""

    bits: Bits
    minutes: float
    added: int
    removed: int


def scene(work: Correction) -> Scene:
    """The case as it was when its mask was opened, to be drawn on."""
    then = load_dataset(f"{work.dataset}@{work.parent}")
    case = then.case(work.case)
    voxels = case.voxels(work.role)
    first = int(np.argmax(voxels)) if voxels and any(voxels) else None
    return slice_viewer.scene_of_masks(then, case, work.role, first, edit=work.id, drawn=_first_mask(work))


def offer(dataset: Dataset, case: Case) -> None:
    """How to begin: on the page, or by files."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        role = st.segmented_control(
            "Mask", ROLES, default="infection", format_func=NAMES.__getitem__, required=True, key="correction-role"
        )
        st.button(
            "Correct",
            icon=":material/edit:",
            help="Opens the mask in the viewer, to be drawn on. What is stored stays, also after you save",
            on_click=corrections.begin,
            args=(dataset, case, role),
        )
    with st.expander("Correct in another program", icon=":material/upload_file:"):
        _show_files(dataset, case, role)


def show(work: Correction) -> None:
    """Below the viewer: what was drawn, and the form that saves it."""
    newest = load_dataset(work.dataset)
    _warn(work, newest)
    _receive(work)
    drawn: Drawn | None = st.session_state.get(MASKS, {}).get(work.place)
    author, minutes = "", 0.0
    if drawn is None:
        st.caption("Draw, then press *Done* above the picture. Nothing is stored before that.")
    elif not drawn.added and not drawn.removed:
        st.info("Nothing was changed: the mask is the one that was opened.", icon=":material/info:")
    else:
        changes = f"**{drawn.added:,}** voxels added, **{drawn.removed:,}** removed"
        st.markdown(f"{changes}, {drawn.minutes:g} minutes of work.")
        author, minutes = _fields("drawn", drawn.minutes)
    pressed = False
    with st.container(horizontal=True):
        if drawn is not None and (drawn.added or drawn.removed):
            pressed = st.button("Save revision", type="primary", icon=":material/save:")
        help = "What was not saved is lost"
        st.button("Stop correcting", icon=":material/close:", help=help, on_click=_end, args=(work,))
    if pressed and drawn is not None:
        with st.spinner("Saving"):
            _save(work, drawn.bits.mask(), author, minutes)


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


def _fields(key: str, minutes: float) -> tuple[str, float]:
    """Who has drawn, which the session remembers, and for how long."""
    st.session_state.setdefault(f"{AUTHOR}-{key}", st.session_state.get(AUTHOR, ""))
    st.session_state.setdefault(f"{MINUTES}-{key}", minutes)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        author = st.text_input(
            "Your name",
            max_chars=LONGEST_NAME,
            key=f"{AUTHOR}-{key}",
            help="Stands in the history of the mask",
            width=300,
        )
        spent = st.number_input(
            "Minutes", 0.0, MOST_MINUTES, step=1.0, format="%.1f", key=f"{MINUTES}-{key}", width=160
        )
    st.session_state[AUTHOR] = author
    return author, spent


def _save(work: Correction, mask: np.ndarray, author: str, minutes: float) -> None:
    try:
        saved = save_revision(
            *(work.dataset, work.case, mask, work.role),
            author=author,
            minutes=minutes,
            parent=work.parent,
            origin=work.origin,
        )
    except CovsegError as error:
        st.error(str(error), icon=":material/error:")
        return
    _end(work)
    _tell(saved, work.case)


def _tell(saved: Saved, case: str) -> None:
    """Say on the next run of the page what was saved."""
    one = saved.revision
    told = [f"Revision {one.number} of {plain(case)} is saved: {one.added:,} voxels added, {one.removed:,} removed."]
    for other in saved.beside:
        told.append(f"Revision {other.number}{_by(other)} is not part of it; both are kept.")
    st.session_state.news = " ".join(told)
    st.rerun()


def _by(revision: Revision) -> str:
    return f" by {plain(revision.author)}" if revision.author else ""


def _show_files(dataset: Dataset, case: Case, role: Role) -> None:
    """The mask as a file, and a corrected one back."""
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
    number = st.session_state.setdefault("correction-file", 0)
    file = st.file_uploader("Corrected mask", type=["nii", "gz"], key=f"correction-file-{number}")
    author, minutes = _fields("file", 0.0)
    if st.button("Save as a revision", icon=":material/save:", disabled=file is None) and file is not None:
        try:
            with st.spinner("Reading and saving"):
                mask = uploads.read_mask(file, dataset.name, case.id, role)
                saved = save_revision(
                    *(dataset.name, case.id, mask, role),
                    author=author,
                    minutes=minutes,
                    parent=dataset.revision,
                    origin=FILE,
                )
        except CovsegError as error:
            st.error(str(error), icon=":material/error:")
            return
        st.session_state["correction-file"] = number + 1
        _tell(saved, case.id)
