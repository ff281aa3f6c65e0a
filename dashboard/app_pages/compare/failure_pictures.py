"""The failure gallery's tables and pictures. Plain functions, no Streamlit but for what is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from covseg_core import rendering
from covseg_core.data.library.datasets import load_dataset
from covseg_core.data.slices.cache import prepared
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Evaluation
from covseg_core.evaluation.stored_predictions.lesions import Item, Kind, Lesions, SizeClass, find_lesions
from covseg_core.evaluation.stored_predictions.scans import StoredScan
from dashboard.app_pages.compare import stored_predictions
from dashboard.formatting import slice_number

KINDS: dict[Kind, str] = {
    "missed": "Missed lesions",
    "false": "False alarms",
    "boundary": "Wrong boundaries",
    "small": "Small lesions",
}
AROUND, LEAST = 2.0, 0.25
"""Side of a picture: of the item's longer side, and at least of the slice's."""


def lesions(model: Model, evaluation: Evaluation) -> Lesions:
    """Of a model at the threshold of its evaluation; raises as `stored_predictions.scans`."""
    return _lesions(evaluation.key, model, evaluation)


def table(names: Sequence[str], found: Sequence[Lesions]) -> pd.DataFrame:
    """A row a size class: how many lesions each model has found, and how many false alarms there are."""
    columns: dict[str, list[str]] = {}
    classes = [each.classes() for each in found]
    columns["Size"] = [_size_class(one, found[0].unit) for one in classes[0]]
    for name, own in zip(names, classes, strict=True):
        columns[f"{name}: found"] = [_share(one) for one in own]
    for name, own, each in zip(names, classes, found, strict=True):
        columns[f"{name}: false alarms"] = [f"{one.false:,}" for one in own]
        columns[f"{name}: false alarms"][-1] += f" ({own[-1].false / max(each.scans, 1):.1f} a scan)"
    return pd.DataFrame(columns)


def words(item: Item, kind: Kind, found: Lesions) -> str:
    """What stands under a picture."""
    what = {"missed": "lesion", "small": "lesion", "false": "marked", "boundary": "wrong"}[kind]
    covered = "" if item.covered is None else f", {item.covered:.0%} of it marked"
    return f"{item.case}, slice {slice_number(item.z)}: {what} {size(item.size, found)}{covered}"


def size(value: float, found: Lesions) -> str:
    """`0.42 mL`, `103 mL`, or `51 voxels`."""
    if found.unit == "voxels":
        return f"{value:,.0f} voxels"
    ml = value / 1000
    return f"{ml:,.0f} mL" if ml >= 10 else f"{ml:.2g} mL"


def picture(model: Model, evaluation: Evaluation, item: Item) -> bytes:
    """The item on its slice, what is true and what is marked outlined, as the bytes of a JPEG file."""
    scan = next(each for each in stored_predictions.scans(model, evaluation) if each.case.id == item.case)
    row = scan.zs.index(item.z)
    rows, columns = _square(item.box, scan.truth.shape[1:])
    images = prepared(
        load_dataset(evaluation.dataset, evaluation.fingerprint), scan.case, model.config.prepare, "images"
    )
    shades = images[item.z][scan.inside][rows, columns]
    spacing = (scan.steps[0] * scan.case.spacing[1], scan.steps[1] * scan.case.spacing[2])
    grey = rendering.fit(rendering.grey(shades, "0-255", "lung"), spacing)
    probabilities = scan.probabilities[row, rows, columns].astype(np.float32)
    marked = rendering.fit_mask(probabilities >= evaluation.threshold, spacing)
    true = rendering.fit_mask(np.ascontiguousarray(scan.truth[row, rows, columns]), spacing)
    return rendering.encode(rendering.overlay(grey, marked, true, "contour", 1.0))


def _square(box: tuple[int, int, int, int], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns around a box, as long as wide where there is room."""
    top, bottom, left, right = box
    side = round(max(AROUND * max(bottom - top + 1, right - left + 1), LEAST * max(shape)))
    places = []
    for low, high, length in ((top, bottom, shape[0]), (left, right, shape[1])):
        start = max(0, min((low + high + 1 - side) // 2, length - side))
        places.append(slice(start, min(length, start + side)))
    return places[0], places[1]


def _share(one: SizeClass) -> str:
    return f"{one.found} of {one.lesions} ({one.found / one.lesions:.0%})" if one.lesions else "no lesion"


def _size_class(one: SizeClass, unit: str) -> str:
    """`0.1 to 1 mL`."""
    if one.low == 0 and one.high is None:
        return "All"
    scale, name = (1000, "mL") if unit == "mm3" else (1, "voxels")
    low = f"{one.low / scale:g}"
    if one.high is None:
        return f"{low} {name} or more"
    return f"{low} to {one.high / scale:g} {name}" if one.low else f"below {one.high / scale:g} {name}"


@st.cache_resource(max_entries=stored_predictions.MODELS, show_spinner="Looking at each lesion")
def _lesions(key: object, _model: Model, _evaluation: Evaluation) -> Lesions:
    scans: list[StoredScan] = stored_predictions.scans(_model, _evaluation)
    return find_lesions(scans, _evaluation.threshold)
