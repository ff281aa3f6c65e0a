"""The slices of the Compare page: choose a test scan, jump to telling slices, look at them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.errors import CovsegError
from covseg_core.evaluation import wording
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.stored_predictions import slice_ranking
from covseg_core.prediction.masks.disagreement import disagreement
from dashboard.app_pages.compare import correction, downloads, score_table, tabs
from dashboard.components import slice_viewer
from dashboard.components.slice_viewer import Layer, Scene
from dashboard.formatting import slice_number
from dashboard.services import url_state

VIEWER = "compare-viewer"
CASE, JUMP, LIST = "compare-case", "compare-jump", "compare-list"
JUMPS: dict[slice_ranking.Kind, tuple[str, str, str]] = {
    "worst": ("Worst slice", ":material/trending_down:", "Lowest mean Dice over the models"),
    "best": ("Best slice", ":material/trending_up:", "Highest mean Dice over the models, among slices with a lesion"),
    "disagreed": ("Most disagreed", ":material/call_split:", "Most pixels that some models mark and others do not"),
}


def show(comparison: Comparison, chosen: Sequence[Model]) -> None:
    """Draw it."""
    st.subheader("Slices")
    try:
        dataset = load_dataset(comparison.dataset, comparison.evaluations[0].fingerprint)
        check_unchanged(dataset, comparison)
        case = _choose(comparison, chosen)
        scene = slice_viewer.scene_of_case(dataset, dataset.case(case), chosen)
        masks = partial(downloads.show_masks, comparison, chosen, case)
        slice_viewer.show(_compared(scene, wording.model_names(comparison)), VIEWER, below=masks)
        correction.offer(case, comparison, chosen)
        _list(comparison)
    except CovsegError as error:
        st.error(str(error), icon=":material/error:")


def show_one(comparison: Comparison, chosen: Sequence[Model]) -> None:
    """One slice of each model, small: the one with the largest true mask of the first scan."""
    try:
        dataset = load_dataset(comparison.dataset, comparison.evaluations[0].fingerprint)
        check_unchanged(dataset, comparison)
        case = slice_ranking.slice_table(comparison)["Scan"].iloc[0]
        scene = _compared(
            slice_viewer.scene_of_case(dataset, dataset.case(case), chosen), wording.model_names(comparison)
        )
        z = scene.zs[len(scene.zs) // 2] if scene.start is None else scene.start
        slice_viewer.show_still(dataclasses.replace(scene, heat=None), z)
        st.caption(f"Slice {slice_number(z)} of {case}. All slices, at any threshold, are under *Slices*.")
    except CovsegError as error:
        st.error(str(error), icon=":material/error:")


def check_unchanged(dataset: Dataset, comparison: Comparison) -> None:
    """Raise `CovsegError` unless it is the dataset that the models were scored on."""
    if dataset.fingerprint != comparison.evaluations[0].fingerprint:
        found = "has changed since the models were scored, so that its slices cannot be shown"
        raise CovsegError(f"dataset {dataset.name}", found)


def _compared(scene: Scene, names: Sequence[str]) -> Scene:
    """The scene with the tables' names, and with a map of where models differ, if there are several."""

    @functools.lru_cache(maxsize=1)
    def answers(z: int) -> list[np.ndarray]:
        return [layer.plane(z) for layer in scene.layers]  # once for the pictures and the map

    def answer(number: int, z: int) -> np.ndarray:
        return answers(z)[number]

    layers = [Layer(name, partial(answer, number)) for number, name in enumerate(names)]
    several = len(layers) > 1
    return dataclasses.replace(scene, layers=layers, heat=(lambda z: disagreement(answers(z))) if several else None)


def go_to(case: str, z: int) -> None:
    """Show a slice of a scan, when the page is run next; to be called in a widget's callback."""
    _forget_jump()
    st.session_state[tabs.KEY] = tabs.SLICES
    st.session_state[CASE] = case
    slice_viewer.go_to(VIEWER, z)


def _choose(comparison: Comparison, chosen: Sequence[Model]) -> str:
    """The scan, and buttons that go to a slice of any scan."""
    slices = slice_ranking.slice_table(comparison)
    cases = list(dict.fromkeys(slices["Scan"]))
    if st.session_state.get(CASE) not in cases:
        st.session_state[CASE] = url_state.read("case", cases[0], cases)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        case = st.selectbox("Test scan", cases, key=CASE, on_change=_forget_jump, width=340)
        for kind, (label, icon, help) in JUMPS.items():
            st.button(
                label,
                icon=icon,
                help=f"{help}, in any test scan; press again for the next one",
                key=f"compare-{kind}",
                on_click=_jump,
                args=(kind, slices, comparison, list(chosen)),
                disabled=kind == "disagreed" and len(chosen) < 2,
            )
    url_state.write(case=case)
    if jumped := st.session_state.get(JUMP):
        st.caption(jumped["text"])
    return case


def _list(comparison: Comparison) -> None:
    """Every test slice; a click on a row shows it."""
    slices = slice_ranking.slice_table(comparison)
    with st.expander(f"All {wording.plural(len(slices), 'test slice')}", icon=":material/table_rows:"):
        st.dataframe(
            slices.assign(Slice=slices["Slice"].map(slice_number)),
            hide_index=True,
            placeholder=score_table.UNDEFINED,
            key=LIST,
            on_select=lambda: _go_to_row(slices),
            selection_mode="single-row",
            column_config={
                slice_ranking.WRONG: st.column_config.NumberColumn(
                    help="False positives and negatives, over all models"
                )
            }
            | {
                name: st.column_config.NumberColumn(format="%.3f")
                for name in (*wording.model_names(comparison), slice_ranking.MEAN)
            },
        )
        st.caption("Dice by model. Choose a row to see that slice above. The lowest slice is 1.")


def _go_to_row(slices: pd.DataFrame) -> None:
    if rows := st.session_state[LIST].selection.rows:
        go_to(str(slices.loc[rows[0], "Scan"]), int(slices.loc[rows[0], "Slice"]))


def _forget_jump() -> None:
    st.session_state.pop(JUMP, None)


def _jump(kind: slice_ranking.Kind, slices: pd.DataFrame, comparison: Comparison, chosen: list[Model]) -> None:
    """To the first slice of this kind; the next one if the last jump was of the same kind."""
    if kind == "disagreed":
        try:
            slices = slices.assign(**{slice_ranking.DIFFERING: _disagreement(comparison.key, comparison, chosen)})
        except CovsegError as error:
            st.session_state[JUMP] = {"kind": kind, "rank": -1, "text": str(error)}
            return
    found = slice_ranking.ranked(slices, kind)
    if not found:
        text = "All models mark the same pixels on every slice." if kind == "disagreed" else "No slice has a Dice."
        st.session_state[JUMP] = {"kind": kind, "rank": -1, "text": text}
        return
    last = st.session_state.get(JUMP, {})
    rank = (last["rank"] + 1) % len(found) if last.get("kind") == kind else 0
    case, z = found[rank]
    row = slices[(slices["Scan"] == case) & (slices["Slice"] == z)].iloc[0]
    why = (
        f"{row[slice_ranking.DIFFERING]:,} px differ"
        if kind == "disagreed"
        else f"mean Dice {row[slice_ranking.MEAN]:.3f}"
    )
    text = f"{JUMPS[kind][0]}, {rank + 1} of {len(found)}: slice {slice_number(z)} of {case}, {why}."
    st.session_state[JUMP] = {"kind": kind, "rank": rank, "text": text}
    st.session_state[CASE] = case
    slice_viewer.go_to(VIEWER, z)


@st.cache_data(max_entries=8, show_spinner=False)
def _disagreement(key: object, _comparison: Comparison, _chosen: list[Model]) -> list[int]:
    dataset: Dataset = load_dataset(_comparison.dataset, _comparison.evaluations[0].fingerprint)
    return list(slice_ranking.disagreement(_comparison, dataset, _chosen))
