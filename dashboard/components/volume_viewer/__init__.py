"""The volume viewer: a scan in three planes and 3D, with its masks in colour, drawn by the browser with NiiVue.

Scan and masks go to the browser once, by `services.volume_server`; from then on a step through the slices, another
window or another mask costs the server nothing. The masks are one volume whose bits say which mask a voxel belongs to,
so that the browser alone sets one against another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import streamlit as st

from covseg_core import rendering
from covseg_core.data.slices.intensity import Scale
from dashboard.services import volume_server
from dashboard.services.volume_server import Volume

Plane = Callable[[int], np.ndarray]
"""z -> (Y, X), RAS+."""
Kind = Literal["lungs", "truth", "model", "together", "drawn"]
"""`together` is what several models were combined to, `drawn` what can be drawn on."""
MOST_MASKS = 16
"""Bits of a voxel."""
HEIGHT, EDITOR_HEIGHT = 640, 760
"""Of the viewer in the page [px], and where somebody draws."""
_WINDOWS: dict[rendering.Window, str] = {"lung": "Lung", "mediastinum": "Mediastinum", "full": "Full"}
_FOLDER = Path(__file__).parent
_SOURCES = ("viewer.css", "viewer.js", "editor.js", "drawing.js")


@dataclass(frozen=True)
class Mask:
    """One mask over the whole scan."""

    name: str
    kind: Kind
    plane: Plane
    """Above 0 where it is."""


@dataclass(frozen=True)
class VolumeScene:
    """What there is to see."""

    scan: Hashable
    """Which scan it is, its version included: the same one is not fetched again."""
    marked: Hashable
    """What masks these are, all that they depend on included."""
    shape: tuple[int, int, int]
    """(Z, Y, X)."""
    spacing: tuple[float, float, float]
    """(z, y, x) [mm]."""
    measured: bool
    """Whether the spacing is known, so that lengths in mm mean something."""
    scale: Scale
    ct: Plane
    """Values as stored."""
    masks: Sequence[Mask] = ()
    """At most `MOST_MASKS`; others are not shown."""
    start: int = 0
    """Slice that is shown first, from 0."""
    first: int = 0
    """Slice of the scan that is the lowest of these, from 0."""
    slices: int = 0
    """Slices of the whole scan; 0 if these are all."""
    edit: Hashable = None
    """Which work it is that the mask of kind `drawn` is drawn on for; None where there is no such mask."""


@dataclass(frozen=True)
class Sent:
    """What a browser says about a mask that was drawn in it."""

    key: str
    """`repr` of the scene's `edit`."""
    minutes: float
    """In which somebody worked."""


def show(scene: VolumeScene, key: str) -> bool:
    """Draw it; False once this browser has said that it cannot, for want of WebGL 2 or of room for it."""
    failed, scan = f"{key}-volume-failed", repr(scene.scan)
    if st.session_state.get(failed) == scan:
        return False
    place = st.empty()
    with place:
        # what the browser says is kept only while the viewer is there
        result = _component()(
            key=f"{key}-volume",
            data=_data(scene, key),
            height=HEIGHT if scene.edit is None else EDITOR_HEIGHT,
            on_trouble_change=lambda: None,
            on_sent_change=lambda: None,
        )
    if result.sent:
        st.session_state[f"{key}-sent"] = result.sent
        st.rerun()  # all of the page: what is done with it stands elsewhere
    if result.trouble:
        st.session_state[failed] = scan
        place.empty()
    return not result.trouble


def drawn(key: str) -> tuple[np.ndarray, Sent] | None:
    """The mask that was drawn and sent, (Z, Y, X) uint8 0/1, and what the browser says about it; once."""
    sent = st.session_state.pop(f"{key}-sent", None)
    mask = volume_server.take_returned(f"{key}-drawn") if sent else None
    if mask is None:
        return None
    minutes = sent.get("minutes") if isinstance(sent, Mapping) else None
    if not isinstance(minutes, int | float) or not math.isfinite(minutes) or minutes < 0:
        minutes = 0.0
    return mask, Sent(str(sent.get("key")), float(minutes))


def _data(scene: VolumeScene, key: str) -> dict[str, Any]:
    """What the browser needs to know, as JSON."""
    masks = list(scene.masks[:MOST_MASKS])
    bits = np.dtype(np.uint8 if len(masks) <= 8 else np.uint16)
    scan = volume_server.offer(f"{key}-scan", scene.scan, Volume(scene.shape, np.dtype(np.int16), _whole(scene.ct)))
    marked = None
    if masks:
        planes = Volume(scene.shape, bits, _bits(masks, bits))
        marked = volume_server.offer(f"{key}-masks", (scene.scan, scene.marked), planes)
    return {
        "library": volume_server.library(),
        "scan": scan,
        "masks": marked,
        "bytes": bits.itemsize,
        "shape": [int(length) for length in scene.shape],
        "spacing": [float(step) for step in scene.spacing],
        "measured": scene.measured,
        "unit": "HU" if scene.scale == "HU" else "grey value",
        "windows": [[name, *rendering.window_of(window, scene.scale)] for window, name in _WINDOWS.items()],
        "names": [{"name": mask.name, "kind": mask.kind} for mask in masks],
        "start": int(scene.start),
        "edit": _edit(scene, masks, key),
        "first": int(scene.first),
        "slices": int(scene.slices or scene.shape[0]),
        "colours": {
            "hit": rendering.TRUE_POSITIVE,
            "missed": rendering.FALSE_NEGATIVE,
            "alarm": rendering.FALSE_POSITIVE,
            "model": rendering.PREDICTED,
            "truth": rendering.TRUTH,
            "lungs": rendering.LUNGS,
        },
    }


def _edit(scene: VolumeScene, masks: Sequence[Mask], key: str) -> dict[str, Any] | None:
    """Which of the masks is drawn on, and where to it is sent."""
    place = next((place for place, mask in enumerate(masks) if mask.kind == "drawn"), None)
    if scene.edit is None or place is None:
        return None
    path = volume_server.offer_return(f"{key}-drawn", (scene.scan, scene.edit), scene.shape)
    return {"mask": place, "key": repr(scene.edit), "path": path}


def _whole(ct: Plane) -> Plane:
    """Values as int16: those of a CT, and a window's ends, lie well within."""

    def plane(z: int) -> np.ndarray:
        values = ct(z)
        if values.dtype in (np.int16, np.uint8):
            return values.astype(np.int16, copy=False)
        limits = np.iinfo(np.int16)
        return np.rint(np.clip(np.nan_to_num(values), limits.min, limits.max)).astype(np.int16)

    return plane


def _bits(masks: Sequence[Mask], dtype: np.dtype[Any]) -> Plane:
    """Bit n of a voxel says whether it is in the nth mask."""

    def plane(z: int) -> np.ndarray:
        together: np.ndarray | None = None
        for place, mask in enumerate(masks):
            bit = (mask.plane(z) > 0).astype(dtype) << dtype.type(place)
            together = bit if together is None else together | bit
        assert together is not None
        return together

    return plane


@cache
def _component() -> Any:
    """Registered once, when somebody first looks at a volume."""
    css, viewer, editor, drawing = ((_FOLDER / name).read_text(encoding="utf-8") for name in _SOURCES)
    js = "\n".join((viewer, editor, drawing))  # one script: a component has no other files
    return st.components.v2.component("covseg_volume_viewer", css=css, js=js)
