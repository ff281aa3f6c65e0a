"""The slice viewer: a scan, its true mask and the masks of several models side by side, moved by one slider.

One viewer a page: slice, counted from 1, and threshold are in the URL, as `slice` and `threshold`. Pictures travel
inside the page's own messages, as data URLs, so that the browser need not ask for each of them. A scene that says how
thick its slices are can be seen as a volume instead, in three planes and 3D; slices are what is shown first.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from covseg_core import rendering
from covseg_core.config import METRICS, Target
from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.library.reviews import current_mask
from covseg_core.data.reading.volumes import PLACEHOLDER_SPACING
from covseg_core.data.slices.cache import case_grid
from covseg_core.data.slices.intensity import Scale
from covseg_core.data.slices.slices import Grid
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.stored_predictions.predictions import StoredPredictions, native
from covseg_core.prediction.case_lungs import find_lungs
from dashboard.components import volume_viewer
from dashboard.components.volume_viewer import Mask, VolumeScene
from dashboard.formatting import slice_number
from dashboard.services import cache, url_state

Plane = Callable[[int], np.ndarray]
"""z -> (Y, X), radiological view."""

WINDOWS: dict[rendering.Window, str] = {"lung": "Lung", "mediastinum": "Mediastinum", "full": "Full"}
STYLES: dict[rendering.Style, str] = {"fill": "Fill", "contour": "Contour"}
SMALL_PANEL, PANEL, LARGE_PANEL, FEW = 168, 260, 450, 2
"""Width of a picture [px]; of up to `FEW` pictures, larger."""
LOOKED_AT, PADDING = 9, 0.1
"""Slices that are looked at for padding, and the share of a side from which it is left out."""
SLICES, VOLUME = "Slices", "Volume"
"""How a scene is seen."""
NO_WEBGL = (
    "The volume view needs WebGL 2, which this browser does not have or has switched off, and a graphics card that "
    "takes the scan. Below are the slices as pictures."
)
SLIDER = 160
"""Width of a slider beside others [px]."""
HEAT = "Disagreement: dark where all models agree, light yellow where half are sure of infection and half of none."
TRUE_MASK = "True mask"
SHOWN = "viewer-scene"
"""Where the session keeps the id of the scene it has seen last."""
_POOL = ThreadPoolExecutor(4, "viewer")


@dataclass(frozen=True)
class Layer:
    """One model's answer."""

    name: str
    plane: Plane
    """Probabilities, float32, on the scan's grid."""
    mask: Plane | None = None
    """The mask itself, where it is known without them."""
    together: bool = False
    """Whether it is what the other layers were combined to."""


@dataclass(frozen=True)
class Scene:
    """What there is to see. Planes are fetched one at a time; a scene holds no arrays."""

    id: str
    """Of the scan: another one starts at its own first slice."""
    zs: Sequence[int]
    """Slices that can be shown, ascending, at least one."""
    scale: Scale
    spacing: tuple[float, float]
    """(y, x) [mm]."""
    ct: Plane
    """Values as stored."""
    truth: Plane | None
    """The true mask, 0 and 1."""
    layers: Sequence[Layer]
    truth_name: str = TRUE_MASK
    """As pictures call it."""
    threshold: float = 0.5
    """Probability from which a pixel belongs to a mask, until the slider is moved."""
    threshold_fixed: bool = False
    """No slider for it: the layers are masks already, for instance."""
    start: int | None = None
    """Slice that is shown first; None for the middle."""
    outline: Plane | None = None
    """Lungs, above 0, to be outlined if the user wants it."""
    heat: Plane | None = None
    """How far the models disagree, float32 0..1: a picture of its own."""
    thickness: float | None = None
    """From slice to slice [mm], for the view as a volume; None for slices only."""
    edition: Hashable = None
    """Which version of the scan it is."""
    marked: Hashable = None
    """What the masks depend on beside scan and threshold."""
    slices: int = 0
    """Of the whole scan, if only a part of them can be shown."""
    drawn: Plane | None = None
    """A mask to be drawn on, as it is at first; then there are no slices, but the volume alone."""
    edit: Hashable = None
    """Which work that is."""


@dataclass(frozen=True)
class Panel:
    """One picture with what stands under it."""

    caption: str
    picture: bytes
    """A JPEG file."""


def scene_of_case(dataset: Dataset, case: Case, models: Sequence[Model]) -> Scene:
    """The test slices of a case that all the models have predicted, from the one with the largest mask.

    Raises
    ------
    RunError : a run was not evaluated, or there is no such slice
    """
    configs = [model.config for model in models]
    names = [f"{METRICS[config.metric].label} model" for config in configs]
    if len(set(names)) < len(names):
        names = [model.id for model in models]
    for config in configs:
        find_lungs(dataset, config.prepare, [case.id])  # in case the cache has forgotten them
    stored = [model.predictions() for model in models]
    predicted = [set(each.rows.get(case.id, ())) for each in stored]
    zs = sorted(set.intersection(*predicted)) if predicted else []
    if not zs:
        raise RunError(case.id, "no slice of it is in the test part of all chosen runs", "another case")
    target = configs[0].target
    voxels = case.voxels(target)

    def ct(z: int) -> np.ndarray:
        return _view(cache.volume(dataset, case).voxels[z])

    def truth(z: int) -> np.ndarray:
        return _view(cache.truth(dataset, case, target)[z])

    return Scene(
        id=f"{dataset.name}/{case.id}",
        zs=zs,
        scale=case.scale,
        spacing=case.spacing[1:],
        ct=ct,
        truth=truth if target in case.files else None,
        truth_name=_truth_name(dataset, case, target),
        layers=[
            Layer(name, partial(_predicted, each, case.id, case_grid(dataset, case, config.prepare)))
            for name, each, config in zip(names, stored, configs, strict=True)
        ],
        start=max(zs, key=voxels.__getitem__) if voxels else None,
        thickness=case.spacing[0],
        edition=case.sha256["scan"],
        marked=(target, dataset.fingerprint, *(model.id for model in models)),
        slices=case.slices,
    )


def scene_of_masks(
    dataset: Dataset,
    case: Case,
    target: Target | None,
    start: int | None = None,
    edit: Hashable = None,
    drawn: Plane | None = None,
) -> Scene:
    """A case with a mask of its own, and with its lungs where those are not that mask.

    Parameters
    ----------
    target : which mask; None for none
    start : the slice that is shown first
    edit : which work it is, if the mask is to be drawn on; then it may be one that the case does not have yet
    drawn : what is drawn on at first; None for the mask itself
    """

    def ct(z: int) -> np.ndarray:
        return _view(cache.volume(dataset, case).voxels[z])

    def of(role: Target) -> Plane | None:
        return (lambda z: _view(cache.truth(dataset, case, role)[z])) if role in case.files else None

    def nothing(z: int) -> np.ndarray:
        return np.zeros(case.shape[1:], np.uint8)

    truth = of(target) if target else None
    return Scene(
        id=f"{dataset.name}/{case.id}",
        zs=range(case.slices),
        scale=case.scale,
        spacing=case.spacing[1:],
        ct=ct,
        truth=truth,
        truth_name=_truth_name(dataset, case, target) if target else TRUE_MASK,
        layers=[],
        start=start,
        outline=of("lung") if target != "lung" else None,
        thickness=case.spacing[0],
        edition=case.sha256["scan"],
        marked=(target, *sorted(case.sha256.items()), case.labels),
        drawn=None if edit is None else drawn or truth or nothing,
        edit=edit,
    )


def _truth_name(dataset: Dataset, case: Case, role: Target) -> str:
    """What a mask is called that a model has made, and nobody has changed, is not the truth."""
    mask = current_mask(dataset, case, role)
    return "Mask of a model" if mask is not None and mask.by_model else TRUE_MASK


def go_to(key: str, z: int) -> None:
    """Move a viewer to a slice, or to the nearest there is, when it is shown next: in this run or the one to come."""
    st.session_state[f"{key}-go-to"] = z


def show(scene: Scene, key: str, below: Callable[[float], None] | None = None) -> None:
    """The viewer of a scene. Its sliders rerun nothing else of the page.

    `below` draws what depends on the threshold under the pictures, and is called with it.
    """
    _show(scene, key, below)


@st.fragment
def _show(scene: Scene, key: str, below: Callable[[float], None] | None) -> None:
    # a row that breaks where the page is narrow: columns would cut the choices off
    row = st.container(horizontal=True, gap="medium", vertical_alignment="top")
    as_volume = _as_volume(scene, key, row)
    threshold = _threshold(scene, row)
    if as_volume and _show_volume(scene, key, threshold):
        if below is not None:
            below(threshold)
        return
    window, style, opacity, outlined = _controls(scene, key, row)
    z = _slice(scene, key)
    st.session_state[f"{key}-at"] = z
    try:
        panels = render(scene, z, window, style, opacity, threshold, outlined)
    except CovsegError as error:
        st.error(str(error), icon=":material/error:")
        return
    _row(panels, z, PANEL if len(panels) > FEW else LARGE_PANEL)
    if below is not None:
        below(threshold)
    if scene.truth is not None and scene.layers:
        _legend()
    if scene.heat is not None:
        st.caption(HEAT)


def _as_volume(scene: Scene, key: str, row: DeltaGenerator) -> bool:
    """Whether the user wants a volume, of slices without a gap."""
    if scene.edit is not None:
        return True
    if scene.thickness is None or len(scene.zs) < 2 or scene.zs[-1] - scene.zs[0] + 1 != len(scene.zs):
        return False
    words = "Volume: three planes and 3D in the browser, with zoom, ruler and values in HU."
    views = [SLICES, VOLUME]
    view = row.segmented_control(
        "View", views, default=SLICES, required=True, key=f"{key}-view", persist_state="session", help=words
    )
    return view == VOLUME


def _show_volume(scene: Scene, key: str, threshold: float) -> bool:
    """The scene as a volume; False, and a sentence, if the browser cannot draw it."""
    zs = [int(z) for z in scene.zs]
    start = _nearest(zs, zs[len(zs) // 2] if scene.start is None else scene.start)
    if st.session_state.get(SHOWN, scene.id) == scene.id:
        start = st.session_state.get(f"{key}-at", start)
    st.session_state[SHOWN] = scene.id
    # left there for the slider of the slices, which forgets its place while it is not shown
    z = _nearest(zs, st.session_state.setdefault(f"{key}-go-to", start))
    st.session_state[f"{key}-at"] = z
    try:
        drawn = volume_viewer.show(_volume(scene, threshold, z), key)
    except CovsegError as error:
        st.error(str(error), icon=":material/error:")
        return True
    if not drawn:
        st.info(NO_WEBGL, icon=":material/grid_view:")
    return drawn


def _volume(scene: Scene, threshold: float, z: int) -> VolumeScene:
    """The same as the slices show, as masks over the whole of it."""
    assert scene.thickness is not None
    low = int(scene.zs[0])

    def ras(plane: Plane) -> Plane:
        return lambda place: plane(low + place)[::-1, ::-1]

    def over(layer: Layer) -> Plane:
        return layer.mask or (lambda z: layer.plane(z) >= threshold)

    masks = [] if scene.outline is None else [Mask("Lungs", "lungs", ras(scene.outline))]
    masks += [] if scene.truth is None else [Mask(scene.truth_name, "truth", ras(scene.truth))]
    masks += [Mask(layer.name, "together" if layer.together else "model", ras(over(layer))) for layer in scene.layers]
    masks += [] if scene.drawn is None else [Mask("Correction", "drawn", ras(scene.drawn))]
    spacing = (scene.thickness, *scene.spacing)
    return VolumeScene(
        scan=(scene.id, scene.edition, low),
        marked=(scene.marked, threshold, scene.edit),
        shape=(len(scene.zs), *scene.ct(low).shape),
        spacing=spacing,
        measured=spacing != PLACEHOLDER_SPACING,
        scale=scene.scale,
        ct=ras(scene.ct),
        masks=masks,
        start=z - low,
        first=low,
        slices=scene.slices,
        edit=scene.edit,
    )


def show_still(scene: Scene, z: int) -> None:
    """One slice of a scene, small and without controls; raises `CovsegError` if it cannot be read."""
    _row(render(scene, z, "lung", "contour", 1.0, scene.threshold), z, SMALL_PANEL)


def _row(panels: Sequence[Panel], z: int, width: int) -> None:
    """Pictures of one size that wrap: five in a row on a wide screen, three on a laptop."""
    row = st.container(horizontal=True, gap="small")
    for panel in panels:
        url = "data:image/jpeg;base64," + base64.b64encode(panel.picture).decode()
        row.image(url, panel.caption, width=width, alt=f"{panel.caption}, slice {slice_number(z)}")


def _controls(scene: Scene, key: str, row: DeltaGenerator) -> tuple[rendering.Window, rendering.Style, float, bool]:
    """Window, style, opacity, whether lungs are outlined; those that change nothing are left out."""
    style: rendering.Style = "fill"
    opacity, outlined = 0.5, False
    window = row.segmented_control(
        "Window",
        list(WINDOWS),
        default="lung",
        format_func=WINDOWS.__getitem__,
        required=True,
        key=f"{key}-window",
        persist_state="session",
        help="Lung: -1350 to 150 HU. Mediastinum: -160 to 240 HU. Full: -1250 to 250 HU, what a model sees.",
    )
    if scene.layers or scene.truth is not None:
        style = row.segmented_control(
            "Masks",
            list(STYLES),
            default="fill",
            format_func=STYLES.__getitem__,
            required=True,
            key=f"{key}-style",
            persist_state="session",
        )
        percent = row.slider(
            "Opacity",
            0,
            100,
            50,
            5,
            format="%d %%",
            key=f"{key}-opacity",
            persist_state="session",
            disabled=style == "contour",
            width=SLIDER,
        )
        opacity = 1.0 if style == "contour" else percent / 100
    if scene.outline is not None:
        outlined = row.toggle("Lung outline", key=f"{key}-outline", persist_state="session")
    return window, style, opacity, outlined


def _threshold(scene: Scene, row: DeltaGenerator) -> float:
    """The slider's, where there is one to set."""
    if not scene.layers or scene.threshold_fixed:
        return scene.threshold
    return row.slider(
        "Threshold",
        0.05,
        0.95,
        scene.threshold,
        0.05,
        key="threshold",
        bind="query-params",
        help="Probability from which a pixel belongs to a model's mask",
        width=SLIDER,
    )


def _slice(scene: Scene, key: str) -> int:
    """The slice that is shown: the slider's, unless another is asked for or the scan is another one."""
    zs = [int(z) for z in scene.zs]
    wanted = st.session_state.pop(f"{key}-go-to", url_state.old_slice())
    start = _nearest(zs, zs[len(zs) // 2] if scene.start is None else scene.start)
    if st.session_state.get(SHOWN, scene.id) != scene.id and wanted is None:
        wanted = start
    st.session_state[SHOWN] = scene.id
    if len(zs) == 1:
        st.caption(f"Slice {slice_number(zs[0])}, the only one")
        return zs[0]
    if wanted is not None:
        st.session_state["slice"] = _nearest(zs, wanted)
    words = "Counted from 1, the lowest slice. The arrow keys move it, too."
    return st.select_slider(
        "Slice",
        zs,
        start,
        format_func=lambda z: str(slice_number(z)),
        key="slice",
        bind="query-params",
        help=words,
    )


def _nearest(zs: Sequence[int], wanted: int) -> int:
    return min(zs, key=lambda z: abs(z - wanted))


def render(
    scene: Scene,
    z: int,
    window: rendering.Window,
    style: rendering.Style,
    opacity: float,
    threshold: float,
    outlined: bool = False,
) -> list[Panel]:
    """All panels of a slice: scan, true mask, a panel a layer, heat map. Dice is of the scan's own pixels, pictures
    leave out its padding."""
    box = _box((scene.id, len(scene.zs)), scene)
    shades = rendering.fit(rendering.grey(scene.ct(z), scene.scale, window)[box], scene.spacing)
    truth = None if scene.truth is None else scene.truth(z) > 0
    seen = None if truth is None else rendering.fit_mask(truth[box], scene.spacing)
    # fetched here, since planes may come from Streamlit's cache, which is not for other threads
    answers = [(layer.name, layer.plane(z)) for layer in scene.layers]

    heat = None if scene.heat is None else rendering.fit(scene.heat(z)[box], scene.spacing)
    lungs = rendering.fit_mask(scene.outline(z)[box] > 0, scene.spacing) if outlined and scene.outline else None

    def finished(picture: np.ndarray) -> bytes:
        return rendering.encode(picture if lungs is None else rendering.outline(picture, lungs, rendering.LUNGS))

    def scan() -> Panel:
        return Panel("CT", rendering.encode(shades))

    def disagreement() -> Panel:
        assert heat is not None
        return Panel("Disagreement", finished(rendering.heat(shades, heat, 1.0)))

    def true_mask() -> Panel:
        return Panel(scene.truth_name, finished(rendering.overlay(shades, None, seen, style, opacity)))

    def answer(name: str, probabilities: np.ndarray) -> Panel:
        mask = rendering.fit(probabilities[box], scene.spacing) >= threshold
        caption = name if truth is None else f"{name} · {_dice(probabilities >= threshold, truth)}"
        return Panel(caption, finished(rendering.overlay(shades, mask, seen, style, opacity)))

    work = [scan, *([] if truth is None else [true_mask]), *(partial(answer, *each) for each in answers)]
    work += [] if heat is None else [disagreement]
    return list(_POOL.map(lambda panel: panel(), work))


@st.cache_data(max_entries=256, show_spinner=False)
def _box(key: object, _scene: Scene) -> tuple[slice, slice]:
    """Rows and columns without padding, which is one value from the edge of some slices to their content.

    Scans that were cut out and put onto a larger ground would else be small in the middle of their pictures.
    """
    zs = [_scene.zs[int(place)] for place in np.linspace(0, len(_scene.zs) - 1, min(LOOKED_AT, len(_scene.zs)))]
    planes = np.stack([_scene.ct(int(z)) for z in zs])
    content = (planes != planes[:, :1, :1]).any(axis=0)
    sides = []
    for across in (1, 0):
        there = np.flatnonzero(content.any(axis=across))
        whole = content.shape[1 - across]
        low, high = (int(there[0]), int(there[-1]) + 1) if there.size else (0, whole)
        worth = whole - (high - low) > PADDING * whole
        sides.append(slice(low, high) if worth else slice(0, whole))
    return sides[0], sides[1]


def _dice(predicted: np.ndarray, truth: np.ndarray) -> str:
    total = np.count_nonzero(predicted) + np.count_nonzero(truth)
    return f"Dice {2 * np.count_nonzero(predicted & truth) / total:.3f}" if total else "both empty"


def _legend() -> None:
    """What the colours mean."""
    colours = {
        "True positive": rendering.TRUE_POSITIVE,
        "False negative (missed)": rendering.FALSE_NEGATIVE,
        "False positive": rendering.FALSE_POSITIVE,
    }
    with st.container(horizontal=True):
        for name, colour in colours.items():
            with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", width="content"):
                st.image(rendering.swatch(colour), width=16, alt="")
                st.caption(name, width="content")


def _view(plane: np.ndarray) -> np.ndarray:
    """RAS+ (y, x) in radiological view."""
    return plane[::-1, ::-1]


def _predicted(stored: StoredPredictions, case: str, grid: Grid, z: int) -> np.ndarray:
    return _view(native(stored, case, z, grid))
