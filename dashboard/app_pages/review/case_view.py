"""One case: its mask in the viewer, and what the reader says of it, by buttons or keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
import streamlit as st

from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.library.reviews import (
    GRADES,
    LONGEST_NOTE,
    Decision,
    Review,
    add_review,
    current,
    current_mask,
    waiting,
)
from covseg_core.data.library.revision import Role
from covseg_core.errors import CovsegError
from covseg_core.evaluation.review_queue import Ranked
from dashboard.app_pages.review import correction, history, link
from dashboard.app_pages.review.correction import GRADE, NOTE
from dashboard.app_pages.review.order import Choice
from dashboard.components import slice_viewer
from dashboard.components.news import TROUBLE
from dashboard.services import corrections, url_state

VIEWER = correction.VIEWER
SAID = "review-said"
"""In the session: a sentence on what was stored last."""
KEYS: dict[Decision, tuple[str, str, str]] = {
    "accepted": ("Accept", "y", ":material/check:"),
    "rejected": ("Reject", "n", ":material/block:"),
}
"""Label, key and icon of the buttons that decide at once; to correct takes longer."""


def show(dataset: Dataset, chosen: Choice, ranked: Sequence[Ranked], reviews: Sequence[Review]) -> None:
    """How far the reader is, and the case."""
    counting = list(current(dataset, chosen.role, reviews))
    waits = {case.id for case in waiting(dataset, chosen.role, reviews, chosen.reader)}
    left = [one.case for one in ranked if one.case in waits]
    others = sorted(case.id for case in dataset.cases if case.id not in {one.case for one in ranked})
    case = _choose(dataset, [*(one.case for one in ranked), *others], left, counting)
    _show_progress(len(ranked), len(left), counting, chosen)
    target: Role | None = chosen.role if chosen.role in case.files else None
    work = corrections.under_way(dataset, case)
    start = _fullest(case, target) if work is None or work.at is None else work.at
    _go_to(start, (dataset.name, case.id, work.id if work and work.at is not None else ""))
    scene = correction.scene(work, start) if work else slice_viewer.scene_of_masks(dataset, case, target, start)
    if work:
        slice_viewer.show(scene, key=VIEWER)
        correction.show(work, chosen.reader)
        return
    _show_decision(dataset, case, chosen, left)
    slice_viewer.show(scene, key=VIEWER)
    correction.show_files(dataset, case, chosen.role, chosen.reader)
    history.show(dataset, case, chosen.role, [one for one in reviews if one.case == case.id], chosen.reader)


def _choose(dataset: Dataset, cases: list[str], left: list[str], counting: Sequence[Review]) -> Case:
    """Which case, and buttons to the ones beside it."""
    key = link.chosen_case(dataset.name)
    if st.session_state.get(key) not in cases:
        st.session_state[key] = link.first_case(cases if "case" in st.query_params else [*left, *cases])
    said = {review.case: review for review in counting}

    def label(id: str) -> str:
        review = said.get(id)
        grade = f", grade {review.grade}" if review and review.grade else ""
        return f"{id} · {review.decision}{grade}" if review else id

    with st.container(horizontal=True, vertical_alignment="bottom"):
        id = st.selectbox("Case", cases, format_func=label, key=key, persist_state="session", width=400)
        place = cases.index(id)
        _to("Previous", key, cases[max(place - 1, 0)], place == 0, ":material/arrow_back:", shortcut="Alt+Left")
        following = cases[min(place + 1, len(cases) - 1)]
        _to("Next", key, following, place == len(cases) - 1, ":material/arrow_forward:", shortcut="Alt+Right")
    url_state.write(case=id)
    return dataset.case(id)


def _to(label: str, key: str, case: str, disabled: bool, icon: str, shortcut: str) -> None:
    st.button(label, icon=icon, disabled=disabled, shortcut=shortcut, on_click=_go, args=(key, case))


def _show_progress(masks: int, left: int, counting: Sequence[Review], chosen: Choice) -> None:
    if not masks:
        return
    decided = Counter(review.decision for review in counting if review.reader == chosen.reader)
    words = ", ".join(f"{count} {decision}" for decision, count in sorted(decided.items()))
    text = (
        f"{masks - left} of {masks} masks seen by {chosen.reader}"
        if chosen.reader
        else f"{masks} masks; say who you are"
    )
    st.progress((masks - left) / masks if chosen.reader else 0.0, text=f"{text}: {words}" if words else text)


def _show_decision(dataset: Dataset, case: Case, chosen: Choice, left: list[str]) -> None:
    """Grade, note and the three buttons; keys do the same."""
    mask = current_mask(dataset, case, chosen.role)
    if said := st.session_state.pop(SAID, None):
        st.caption(said)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        if mask is not None:
            grade = st.session_state.get(GRADE)
            for number, meaning in GRADES.items():
                kind: Literal["primary", "secondary"] = "primary" if grade == number else "secondary"
                st.button(
                    meaning.capitalize(),
                    key=f"{GRADE}-{number}",
                    type=kind,
                    shortcut=str(number),
                    on_click=_grade,
                    args=(number,),
                )
            for decision, (label, shortcut, icon) in KEYS.items():
                st.button(
                    label,
                    icon=icon,
                    shortcut=shortcut,
                    disabled=not chosen.reader,
                    help=None if chosen.reader else "Say first who you are",
                    on_click=_decide,
                    args=(dataset, case, chosen, decision, mask.number, left),
                )
        st.button(
            "Correct",
            icon=":material/edit:",
            shortcut="e",
            help="Opens the mask in the viewer, to be drawn on. What is stored stays, also after you save",
            on_click=corrections.begin,
            args=(dataset, case, chosen.role),
        )
        if mask is not None:
            st.text_input("Note", key=NOTE, max_chars=LONGEST_NOTE, label_visibility="collapsed", placeholder="Note")


def _grade(number: int) -> None:
    """Choose a grade, or take it back."""
    st.session_state[GRADE] = None if st.session_state.get(GRADE) == number else number


def _decide(dataset: Dataset, case: Case, chosen: Choice, decision: Decision, number: int, left: list[str]) -> None:
    """Store it, and go to the next case that waits."""
    grade, note = st.session_state.get(GRADE), st.session_state.get(NOTE, "")
    try:
        review = add_review(
            *(dataset.name, case.id, decision, chosen.reader, chosen.role), grade=grade, note=note, revision=number
        )
    except CovsegError as error:
        st.session_state[TROUBLE] = str(error)
        return
    graded = f", grade {review.grade}" if review.grade else ""
    st.session_state[SAID] = f"{case.id}: {decision}{graded}."
    go_on(dataset, case, left)


def go_on(dataset: Dataset, case: Case, left: Sequence[str]) -> None:
    """To the next case that waits, with neither grade nor note; in a callback."""
    st.session_state.pop(GRADE, None)
    st.session_state[NOTE] = ""
    place = left.index(case.id) if case.id in left else -1
    following = [*left[place + 1 :], *left[: max(place, 0)]]
    if following:
        _go(link.chosen_case(dataset.name), following[0])


def _go(key: str, case: str) -> None:
    st.session_state[key] = case


def _go_to(z: int, seen: tuple[str, ...]) -> None:
    """Another case opens at the slice with the largest mask, and a correction at the one that is meant."""
    if st.session_state.setdefault("reviewed", seen) != seen:
        st.session_state.reviewed = seen
        slice_viewer.go_to(VIEWER, z)


def _fullest(case: Case, target: Role | None) -> int:
    voxels = case.voxels(target) if target else None
    return int(np.argmax(voxels)) if voxels and any(voxels) else case.slices // 2
