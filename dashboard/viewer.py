"""The slice viewer: a scan, its true mask and the masks of several models side by side, moved by one slider."""

from __future__ import annotations

import base64
import gc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import access
import listing
import numpy as np
import streamlit as st

from covseg_core import rendering
from covseg_core.config import PrepareConfig
from covseg_core.data.cache import case_grid
from covseg_core.data.datasets import Case, Dataset
from covseg_core.data.intensity import Scale
from covseg_core.data.slices import to_native
from covseg_core.errors import RunError
from covseg_core.runs import Run

# Streamlit collects garbage after each rerun, before the browser has its answer. Going through all that the imports have
# left takes 80 ms of that; none of it ever becomes garbage.
gc.collect()
gc.freeze()

Plane = Callable[[int], np.ndarray]
"""z -> (Y, X), radiological view."""

_POOL = ThreadPoolExecutor(4, "viewer")
_WINDOWS: dict[rendering.Window, str] = {"lung": "Lung", "mediastinum": "Mediastinum", "full": "Full"}
_STYLES: dict[rendering.Style, str] = {"fill": "Fill", "contour": "Contour"}


@dataclass(frozen=True)
class Layer:
    """One model's answer."""

    name: str
    plane: Plane
    """Probabilities, float32, on the scan's grid."""


@dataclass(frozen=True)
class Scene:
    """What there is to see. Planes are fetched one at a time; a scene holds no arrays."""

    id: str
    zs: Sequence[int]
    """Slices that can be shown, ascending."""
    scale: Scale
    spacing: tuple[float, float]
    """(y, x) [mm]."""
    ct: Plane
    """Values as stored."""
    truth: Plane | None
    """The true mask, 0 and 1."""
    layers: Sequence[Layer]
    threshold: float = 0.5
    threshold_fixed: bool = False


def scene_of_case(dataset: Dataset, case: Case, runs: Sequence[Run]) -> Scene:
    """The test slices of a case that all the runs have predicted.

    Raises
    ------
    RunError : a run was not evaluated, or there is no such slice
    """
    fingerprint = dataset.fingerprint
    names = [listing.METRIC_NAMES[run.config.metric] for run in runs]
    if len(set(names)) < len(names):
        names = [run.id for run in runs]
    zs: set[int] | None = None
    for run in runs:
        own = set(access.test_probabilities(run.id).rows.get(case.id, ()))
        zs = own if zs is None else zs & own
    if not zs:
        raise RunError(case.id, "no slice of it is in the test part of all chosen runs", "another case")
    target = runs[0].config.target
    return Scene(
        id=f"{dataset.name}/{case.id}/{','.join(run.id for run in runs)}",
        zs=sorted(zs),
        scale=case.scale,
        spacing=case.spacing[1:],
        ct=lambda z: _view(access.volume(dataset.name, fingerprint, case.id).voxels[z]),
        truth=(lambda z: _view(access.truth(dataset.name, fingerprint, case.id, target)[z]))
        if target in case.files
        else None,
        layers=[
            Layer(name, partial(_predicted, run.id, case, run.config.prepare))
            for name, run in zip(names, runs, strict=True)
        ],
    )


def go_to(key: str, z: int) -> None:
    """Move a viewer to a slice; before `show` in the same run, or in a callback."""
    st.session_state["z"] = z


def show(scene: Scene, key: str) -> None:
    """The viewer of a scene. Moving its sliders reruns nothing else of the page."""
    _show(scene, key)


@st.fragment
def _show(scene: Scene, key: str) -> None:
    columns = st.columns([2, 2, 1, 1])
    window = columns[0].segmented_control(
        "Window", list(_WINDOWS), default="lung", format_func=_WINDOWS.__getitem__, required=True, key=f"{key}-window"
    )
    style = columns[1].segmented_control(
        "Masks", list(_STYLES), default="fill", format_func=_STYLES.__getitem__, required=True, key=f"{key}-style"
    )
    opacity = columns[2].slider("Opacity", 0, 100, 50, 5, format="%d %%", key=f"{key}-opacity") / 100
    threshold = scene.threshold
    if not scene.threshold_fixed and scene.layers:
        threshold = columns[3].slider("Threshold", 0.05, 0.95, scene.threshold, 0.05, key="threshold")
    z = _slice(scene)
    pictures = _pictures(scene, z, window, style, opacity, threshold)
    for column, (caption, picture) in zip(st.columns(len(pictures)), pictures, strict=True):
        column.image(picture, caption=caption, width="stretch")


def _slice(scene: Scene) -> int:
    if len(scene.zs) == 1:
        return scene.zs[0]
    return st.select_slider("Slice", scene.zs, scene.zs[len(scene.zs) // 2], key="z")


def _pictures(
    scene: Scene, z: int, window: rendering.Window, style: rendering.Style, opacity: float, threshold: float
) -> list[tuple[str, str]]:
    """Caption and data URL of each panel."""
    shades = rendering.fit(rendering.grey(scene.ct(z), scene.scale, window), scene.spacing)
    truth = None if scene.truth is None else scene.truth(z) > 0
    seen = None if truth is None else _resampled(truth, scene.spacing)

    def plain() -> tuple[str, str]:
        return "CT", _url(shades)

    def true_mask() -> tuple[str, str]:
        return "True mask", _url(rendering.overlay(shades, None, seen, style, opacity))

    def answer(layer: Layer, values: np.ndarray) -> tuple[str, str]:
        mask = rendering.fit(values, scene.spacing) >= threshold
        caption = layer.name if truth is None else f"{layer.name}: {_dice(values >= threshold, truth)}"
        return caption, _url(rendering.overlay(shades, mask, seen, style, opacity))

    # planes are fetched here, since they may come from Streamlit's cache, which is not for other threads
    answers = [partial(answer, layer, layer.plane(z)) for layer in scene.layers]
    work = [plain, *([] if truth is None else [true_mask]), *answers]
    return list(_POOL.map(lambda panel: panel(), work))


def _resampled(mask: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    return rendering.fit(mask.astype(np.float32), spacing) >= 0.5


def _dice(predicted: np.ndarray, truth: np.ndarray) -> str:
    both, sum_ = int((predicted & truth).sum()), int(predicted.sum()) + int(truth.sum())
    return f"Dice {2 * both / sum_:.3f}" if sum_ else "nothing, rightly"


def _url(picture: np.ndarray) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(rendering.encode(picture)).decode()


def _view(plane: np.ndarray) -> np.ndarray:
    """RAS+ (y, x) in radiological view."""
    return plane[::-1, ::-1]


def _predicted(run_id: str, case: Case, prepare: PrepareConfig, z: int) -> np.ndarray:
    values, rows = access.test_probabilities(run_id)
    return _view(to_native(values[rows[case.id][z]][None].astype(np.float32), case_grid(case, prepare))[0])
