"""A prediction at the threshold and smallest size that are set: its figures, slices and files."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from covseg_core.config import METRICS, Target
from covseg_core.data.library.datasets import load_dataset
from covseg_core.errors import CovsegError
from covseg_core.files import sha256_file
from covseg_core.prediction.masks.disagreement import disagreement
from covseg_core.prediction.output.report import Report
from covseg_core.prediction.predict import predict_at
from covseg_core.prediction.probabilities import Probabilities, centred, consensus
from covseg_core.prediction.scan import Scan
from covseg_core.runs.operating_point import Threshold, Thresholds
from dashboard.app_pages.predict.prediction_task import TARGETS
from dashboard.app_pages.predict.workspace import Desk, Outcome, Result
from dashboard.components import slice_viewer
from dashboard.services import cache

VOTE = ""
"""Name of the vote's mask, or of the only model's."""


def outcome(desk: Desk, thresholds: Thresholds) -> Outcome:
    """Masks and figures, made anew only where something has changed."""
    scan, result = _there(desk)
    last = desk.outcome
    if last and (last.asked, last.thresholds) == (result.asked, thresholds):
        return last
    made = predict_at(scan, result.answers, thresholds, lungs=result.lungs, sides=result.sides)
    desk.outcome = Outcome(result.asked, thresholds, made.report, {VOTE: np.packbits(made.mask), **made.packed})
    return desk.outcome


def names(result: Result) -> list[str]:
    """What the models are called: by their metric, if that tells them apart."""
    metrics = [METRICS[answer.model.metric].label for answer in result.answers]
    return metrics if len(set(metrics)) == len(metrics) else list(result.runs)


def headline(report: Report) -> dict[str, str]:
    """What one looks for first, by label with its unit."""
    ml, unit = report.scan.voxel_ml, "voxels" if report.scan.voxel_ml is None else "mL"
    cells = {f"{TARGETS[report.target]} [{unit}]": quantity(report.mask.voxels, ml)}
    if len(report.models) > 1:
        low, high = (quantity(voxels, ml) for voxels in report.range_voxels)
        cells[f"Range over {len(report.models)} models [{unit}]"] = low if low == high else f"{low} to {high}"
    if report.lungs:
        parts = {"Right lung": report.lungs.right, "Left lung": report.lungs.left, "Both lungs": report.lungs.both}
        cells |= {f"{name} [%]": percent(part.share) for name, part in parts.items()}
    if report.target == "infection":
        cells["Lesions"] = f"{report.mask.lesions:,}"
    cells["Slices with a mask"] = f"{len(report.mask.positive_slices)} of {report.scan.shape[0]}"
    return cells


def models_table(report: Report, called: Sequence[str]) -> pd.DataFrame:
    """A row a model."""
    ml = report.scan.voxel_ml
    masks = [model.mask for model in report.models]
    table = {
        "Model": list(called),
        "Voxels" if ml is None else "Volume [mL]": [mask.voxels if ml is None else mask.voxels * ml for mask in masks],
        "Share of lungs [%]": [None if mask.lung_share is None else 100 * mask.lung_share for mask in masks],
        "Lesions": [mask.lesions for mask in masks],
        "Slices": [len(mask.positive_slices) for mask in masks],
        "Threshold": [model.threshold for model in report.models],
        "Smallest [mm³]": [model.minimum_mm3 for model in report.models],
        "Run": [model.run for model in report.models],
    }
    if report.lungs is None:
        del table["Share of lungs [%]"]
    if report.threshold is not None:  # it is that of all
        del table["Threshold"], table["Smallest [mm³]"]
    return pd.DataFrame(table)


def lungs_table(report: Report) -> pd.DataFrame:
    """A row a lung; none without a lung model."""
    if report.lungs is None:
        return pd.DataFrame()
    ml = report.scan.voxel_ml
    unit = "voxels" if ml is None else "mL"
    rows = {"Right": report.lungs.right, "Left": report.lungs.left, "Both": report.lungs.both}
    return pd.DataFrame(
        {
            "Lung": list(rows),
            f"Size [{unit}]": [quantity(part.voxels, ml) for part in rows.values()],
            f"Infected [{unit}]": [quantity(part.infection_voxels, ml) for part in rows.values()],
            "Infected [%]": [percent(part.share) for part in rows.values()],
        }
    )


def quantity(voxels: int, ml: float | None) -> str:
    """mL where the size of a voxel is known, else voxels; without the unit.

    >>> quantity(1234, None), quantity(1234, 0.001), quantity(123400, 0.001), quantity(3, 0.001)
    ('1,234', '1.2', '123', '<0.1')
    """
    if ml is None:
        return f"{voxels:,}"
    if voxels and voxels * ml < 0.05:
        return "<0.1"
    return f"{voxels * ml:.1f}" if voxels * ml < 99.95 else f"{voxels * ml:,.0f}"


def percent(share: float | None) -> str:
    """Without the sign; a dash where there is no lung."""
    return "-" if share is None else f"{100 * share:.1f}"


def largest_slice(outcome: Outcome) -> int:
    """Where there is most to see; the middle if there is nothing."""
    shape, positive = outcome.report.scan.shape, outcome.report.mask.positive_slices
    return max(positive, key=lambda z: np.count_nonzero(_mask(outcome, VOTE, shape, z)), default=shape[0] // 2)


def scene(desk: Desk, outcome: Outcome) -> slice_viewer.Scene:
    """Slices with the vote's mask and each model's; beside the true mask, if the scan is of a dataset that has it."""
    scan, result = _there(desk)
    voxels = scan.volume.voxels

    each = outcome.thresholds.each or (None,) * len(result.answers)
    planes = [_own_plane(one, at) for one, at in zip(result.answers, each, strict=True)]

    def layer(name: str, key: str, planes: Sequence[slice_viewer.Plane]) -> slice_viewer.Layer:
        return slice_viewer.Layer(name, functools.partial(_plane, outcome, key, voxels.shape, planes))

    layers = [layer(name, run, [plane]) for name, run, plane in zip(names(result), result.runs, planes, strict=True)]
    heat = None
    if len(layers) > 1:
        layers.insert(0, layer(f"Vote of {len(layers)}", VOTE, planes))

        def heat(z: int) -> np.ndarray:
            return disagreement([answer.plane(z) for answer in result.answers])[::-1, ::-1]

    sides = result.sides
    return slice_viewer.Scene(
        id=desk.id,
        zs=range(len(voxels)),
        scale=scan.scale,
        spacing=scan.volume.spacing[1:],
        ct=lambda z: voxels[z][::-1, ::-1],
        truth=_truth(desk, result.answers[0].target),
        layers=layers,
        threshold=outcome.thresholds.threshold,
        threshold_fixed=True,
        outline=None if sides is None else lambda z: sides[z][::-1, ::-1],
        heat=heat,
    )


def preview(desk: Desk) -> slice_viewer.Scene:
    """The scan before any model was asked."""
    scan = desk.checked
    if scan is None:
        raise CovsegError(desk.name, "not read yet")
    voxels = scan.volume.voxels
    return slice_viewer.Scene(
        desk.id, range(len(voxels)), scan.scale, scan.volume.spacing[1:], lambda z: voxels[z][::-1, ::-1], None, ()
    )


def download(desk: Desk, thresholds: Thresholds, name: str) -> bytes:
    """A file of the prediction, as docs/reference/prediction.md lists them.

    All of them are made by the first download, in the scan's own geometry; masks are read back and compared when they
    are written, and once more by their SHA-256 in the report before they leave.

    Raises
    ------
    CovsegError : writing failed, or a file is not as it was written
    """
    scan, result = _there(desk)
    with desk.writing:
        wanted = outcome(desk, thresholds)
        if desk.written is None or desk.written[0] is not wanted:
            made = predict_at(scan, result.answers, thresholds, desk.output, lungs=result.lungs, sides=result.sides)
            desk.written = (wanted, made.report.files)
        path, digests = desk.output / name, desk.written[1]
        if name in digests and sha256_file(path) != digests[name]:
            raise CovsegError(name, "is not as it was written", "a disk without errors")
        return path.read_bytes()


def _there(desk: Desk) -> tuple[Scan, Result]:
    if desk.checked is None or desk.result is None:
        raise CovsegError(desk.name, "there is no prediction any more", "a new one")
    return desk.checked, desk.result


def _mask(outcome: Outcome, key: str, shape: tuple[int, ...], z: int) -> np.ndarray:
    """(Y, X) bool, RAS+: one plane of a mask."""
    area = shape[1] * shape[2]
    first, behind = divmod(z * area, 8)
    bits = np.unpackbits(outcome.masks[key][first : first + area // 8 + 2])
    return bits[behind : behind + area].reshape(shape[1:]).astype(bool)


def _own_plane(answer: Probabilities, at: Threshold | None) -> slice_viewer.Plane:
    """(Y, X) float32, RAS+: probabilities of a slice; those of a model with a threshold of its own with that at 0.5."""
    return answer.plane if at is None else lambda z: centred(answer.plane(z), at.threshold)


def _plane(
    outcome: Outcome, key: str, shape: tuple[int, ...], planes: Sequence[slice_viewer.Plane], z: int
) -> np.ndarray:
    """Probabilities, for smooth edges when enlarged, without those that were left out of the mask."""
    values = consensus([plane(z) for plane in planes])
    left_out = (values >= np.float32(outcome.thresholds.threshold)) & ~_mask(outcome, key, shape, z)
    return np.where(left_out, np.float32(0), values)[::-1, ::-1]


def _truth(desk: Desk, target: Target) -> slice_viewer.Plane | None:
    if desk.source is None:
        return None
    name, case = desk.source
    try:
        fingerprint = load_dataset(name).fingerprint
        cache.truth(name, fingerprint, case, target)
    except CovsegError:  # it has none, or was deleted since
        return None
    return lambda z: cache.truth(name, fingerprint, case, target)[z][::-1, ::-1]
