"""A prediction at the thresholds that are set: its slices and files."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from covseg_core.archive.settings import Archive
from covseg_core.archive.transfer import send_files
from covseg_core.config import Target
from covseg_core.data.library.datasets import load_dataset
from covseg_core.errors import CovsegError
from covseg_core.files import sha256_file
from covseg_core.prediction.ask import Answers
from covseg_core.prediction.combination import MIDDLE, Combine, together
from covseg_core.prediction.decide import COMBINED, Prediction
from covseg_core.prediction.masks.disagreement import disagreement
from covseg_core.prediction.output.files import DICOM_SEG, DICOM_SR
from covseg_core.prediction.predict import predict_at
from covseg_core.prediction.probabilities import Probabilities, centred
from covseg_core.prediction.scan import Scan
from covseg_core.runs.operating_point import Threshold, Thresholds
from dashboard.app_pages.predict.result_figures import names
from dashboard.app_pages.predict.workspace import Decided, Naming, Workspace
from dashboard.components import slice_viewer
from dashboard.services import cache

ANONYMOUS = Naming()


def decided(space: Workspace, thresholds: Thresholds, combine: Combine = "mean") -> Prediction:
    """Masks and figures, made anew only where something has changed."""
    scan, answers = _there(space)
    last = space.decided
    if last is None or last.answers is not answers or (last.thresholds, last.combine) != (thresholds, combine):
        prediction = predict_at(scan, answers, thresholds, combine=combine)
        space.decided = last = Decided(answers, thresholds, combine, prediction)
    return last.prediction


def largest_slice(prediction: Prediction) -> int:
    """Where there is most to see; the middle if there is nothing."""
    report = prediction.report
    middle = report.scan.shape[0] // 2
    return max(
        report.mask.positive_slices, key=lambda z: np.count_nonzero(prediction.plane_of(COMBINED, z)), default=middle
    )


def scene(space: Workspace, prediction: Prediction, thresholds: Thresholds) -> slice_viewer.Scene:
    """Slices with the mask of all models and each model's; beside the true mask, if the scan's dataset has it."""
    scan, answers = _there(space)
    voxels = scan.volume.voxels

    each = thresholds.of(len(answers.models))
    planes = [_own_plane(one, at) for one, at in zip(answers.models, each, strict=True)]

    def layer(name: str, key: str, planes: Sequence[slice_viewer.Plane]) -> slice_viewer.Layer:
        def mask(z: int) -> np.ndarray:
            return prediction.plane_of(key, z)[::-1, ::-1]

        return slice_viewer.Layer(name, functools.partial(_plane, prediction, key, planes), mask, key == COMBINED)

    layers = [layer(name, run, [plane]) for name, run, plane in zip(names(answers), answers.runs, planes, strict=True)]
    heat = None
    if len(layers) > 1:
        how = (prediction.report.combine or "mean").capitalize()
        layers.insert(0, layer(f"{how} of {len(layers)}", COMBINED, planes))

        def heat(z: int) -> np.ndarray:
            return disagreement([answer.plane(z) for answer in answers.models])[::-1, ::-1]

    sides = answers.sides
    return slice_viewer.Scene(
        id=space.id,
        zs=range(len(voxels)),
        scale=scan.scale,
        spacing=scan.volume.spacing[1:],
        ct=lambda z: voxels[z][::-1, ::-1],
        truth=_truth(space, answers.target),
        layers=layers,
        threshold=float(MIDDLE),
        threshold_fixed=True,
        outline=None if sides is None else lambda z: sides[z][::-1, ::-1],
        heat=heat,
        thickness=scan.volume.spacing[0],
        edition=(space.series, scan.scale),
        marked=id(prediction.packed),  # the masks that are shown hold it, so that no other has this number
    )


def preview(space: Workspace) -> slice_viewer.Scene:
    """The scan before any model was asked."""
    scan = space.scan
    if scan is None:
        raise CovsegError(space.name, "not read yet")
    voxels = scan.volume.voxels
    return slice_viewer.Scene(
        space.id,
        range(len(voxels)),
        scan.scale,
        scan.volume.spacing[1:],
        lambda z: voxels[z][::-1, ::-1],
        None,
        (),
        thickness=scan.volume.spacing[0],
        edition=(space.series, scan.scale),
    )


def download(
    space: Workspace, thresholds: Thresholds, name: str, combine: Combine = "mean", naming: Naming = ANONYMOUS
) -> bytes:
    """A file of the prediction, as docs/reference/prediction.md lists them.

    All of them are made by the first download, in the scan's own geometry; masks are read back and compared when they
    are written, and once more by their SHA-256 in the report before they leave.

    Raises
    ------
    CovsegError : writing failed, or a file is not as it was written
    """
    scan, answers = _there(space)
    with space.writing:
        wanted = decided(space, thresholds, combine)
        if space.written is None or space.written[0] is not wanted or space.written[1] != naming:
            made = predict_at(scan, answers, thresholds, space.output, combine=combine, **vars(naming))
            space.written = (wanted, naming, made.report.files)
        path, digests = space.output / name, space.written[2]
        if name in digests and sha256_file(path) != digests[name]:
            raise CovsegError(name, "is not as it was written", "a disk without errors")
        return path.read_bytes()


def send(space: Workspace, thresholds: Thresholds, combine: Combine, archive: Archive, naming: Naming) -> None:
    """Store DICOM SEG and SR of the prediction in an archive; raises as `download` and `send_files`."""
    for name in (DICOM_SEG, DICOM_SR):
        download(space, thresholds, name, combine, naming)
    send_files(archive, [space.output / DICOM_SEG, space.output / DICOM_SR])


def _there(space: Workspace) -> tuple[Scan, Answers]:
    if space.scan is None or space.answers is None:
        raise CovsegError(space.name, "there is no prediction any more", "a new one")
    return space.scan, space.answers


def _own_plane(answer: Probabilities, at: Threshold) -> slice_viewer.Plane:
    """(Y, X) float32, RAS+: a model's probabilities on a slice, stretched so that its threshold comes to 0.5."""
    return lambda z: centred(answer.plane(z), at.threshold)


def _plane(prediction: Prediction, key: str, planes: Sequence[slice_viewer.Plane], z: int) -> np.ndarray:
    """Probabilities, for smooth edges when enlarged, without those that were left out of the mask."""
    values = together([plane(z) for plane in planes], prediction.report.combine or "mean")
    left_out = (values >= MIDDLE) & ~prediction.plane_of(key, z)
    return np.where(left_out, np.float32(0), values)[::-1, ::-1]


def _truth(space: Workspace, target: Target) -> slice_viewer.Plane | None:
    if space.source is None:
        return None
    name, case = space.source
    try:
        dataset = load_dataset(name)
        known = dataset.case(case)
        cache.truth(dataset, known, target)
    except CovsegError:  # it has none, or was deleted since
        return None
    return lambda z: cache.truth(dataset, known, target)[z][::-1, ::-1]
