"""Which lesions the models find, and pictures of what goes wrong most."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import streamlit as st

from covseg_core.errors import CovsegError
from covseg_core.evaluation import wording
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison, Evaluation
from covseg_core.evaluation.stored_predictions.lesions import BINS, BORDER, FOUND_FROM, POOR_BELOW, Item, Kind, Lesions
from dashboard.app_pages.compare import failure_pictures, slices
from dashboard.app_pages.compare.failure_pictures import KINDS

OPEN = "compare-gallery"
"""The expander: what is in it is computed once it is open."""
PAGE, WIDTH = 12, 140
"""Pictures at a time, and their width [px]."""


@st.fragment
def show(comparison: Comparison, chosen: Sequence[Model]) -> None:
    """Turning its pages reruns only this."""
    if comparison.evaluations[0].target != "infection":
        return
    words = "Failures: missed lesions, false alarms, wrong boundaries"
    box = st.expander(words, True, icon=":material/photo_library:", key=OPEN, on_change="rerun")
    if not box.open:
        return
    with box:
        try:
            names = wording.model_names(comparison)
            pairs = dict(zip(names, zip(chosen, comparison.evaluations, strict=True), strict=True))
            found = {name: failure_pictures.lesions(*pair) for name, pair in pairs.items()}
            _table(found, comparison.evaluations[0])
            _pictures(found, pairs)
        except CovsegError as error:
            st.error(str(error), icon=":material/error:")


def _table(found: dict[str, Lesions], evaluation: Evaluation) -> None:
    table = failure_pictures.table(list(found), list(found.values()))
    right = st.column_config.TextColumn(alignment="right")
    st.dataframe(table, hide_index=True, height="content", column_config=dict.fromkeys(table.columns[1:], right))
    st.caption(
        "A lesion is a connected part of the true mask on the network's grid; on slices without neighbours in the "
        f"test, a part of that slice. A lesion is found if at least {FOUND_FROM:.0%} of it is marked at threshold "
        f"{evaluation.threshold:g}; a marked part that covers no true voxel is a false alarm. Lesions of one patient "
        "are not independent: their number is not a sample size."
    )


def _pictures(found: dict[str, Lesions], pairs: dict[str, tuple[Model, Evaluation]]) -> None:
    """The worst of one kind, of one model."""
    row = st.container(horizontal=True, gap="medium")
    model = row.segmented_control(
        "Model", list(found), default=next(iter(found)), required=True, key="gallery-model", wrap=True
    )
    lesions = found[model]
    kinds: dict[Kind, list[Item]] = {kind: lesions.worst(kind) for kind in KINDS}
    kind: Kind = row.segmented_control(
        "What went wrong",
        list(KINDS),
        default=next((kind for kind in KINDS if kinds[kind]), "missed"),
        format_func=lambda kind: f"{KINDS[kind]}: {len(kinds[kind])}",
        required=True,
        key="gallery-kind",
        wrap=True,
    )
    items = kinds[kind]
    st.caption(_explained(kind, lesions))
    if not items:
        st.info("None of these on the test slices.", icon=":material/check:")
        return
    pages = -(-len(items) // PAGE)
    page = st.pagination(pages, key=f"gallery-page-{model}-{kind}") if pages > 1 else 1
    grid = st.container(horizontal=True, gap="small")
    for number, item in enumerate(items[PAGE * (page - 1) : PAGE * page]):
        with grid.container(width=WIDTH):
            _picture(*pairs[model], item, failure_pictures.words(item, kind, lesions), number)


def _picture(model: Model, evaluation: Evaluation, item: Item, words: str, number: int) -> None:
    url = "data:image/jpeg;base64," + base64.b64encode(failure_pictures.picture(model, evaluation, item)).decode()
    st.image(url, words, width=WIDTH, alt=words)
    # in a callback, since the choice of the scan stands above and cannot be changed once it is drawn
    if st.button("Show the slice", key=f"gallery-go-{number}", on_click=_go, args=(item,)):
        st.rerun()


def _go(item: Item) -> None:
    slices.go_to(item.case, item.z)


def _explained(kind: Kind, lesions: Lesions) -> str:
    small = failure_pictures.size(BINS[lesions.unit][1], lesions)
    return {
        "missed": f"Lesions of {small} or more of which less than {FOUND_FROM:.0%} is marked, the largest first.",
        "false": "Marked parts that cover no true voxel, the largest first.",
        "boundary": f"Slices on which a lesion is hit and most wrong pixels lie within {BORDER} pixels of the true "
        "border; those with most wrong pixels first.",
        "small": f"Lesions below {small} of which less than {POOR_BELOW:.0%} is marked, the least covered first.",
    }[kind] + " Blue: found. Orange: missed. Yellow: false alarm. *Show the slice* opens it under *Slices*."
