"""What the Quick prediction page shows: which models there are, asking them in a task, figures, slices and files."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import access
import comparing
import numpy as np
import pandas as pd
import tasks
import uploads
import viewer
from comparing import METRIC_NAMES, Finished
from desks import Desk, Result

from covseg_core import runs
from covseg_core.config import Target
from covseg_core.data.datasets import load_dataset
from covseg_core.errors import CovsegError
from covseg_core.files import sha256_file
from covseg_core.prediction.checking import CheckedScan, training_warning
from covseg_core.prediction.inference import Cancelled
from covseg_core.prediction.predict import predict_at
from covseg_core.prediction.probabilities import Probabilities, consensus, predict_probabilities
from covseg_core.prediction.report import ModelReport, voxel_ml
from covseg_core.prediction.sizes import THRESHOLDS, measure
from covseg_core.runs import Run

VOTE = "A voxel is in the mask when more than half of the models say so; a tie is left out."
TARGETS: dict[Target, str] = {"infection": "Infection", "lung": "Lungs"}

_ONE_AT_A_TIME = threading.Lock()
"""Several predictions at once would take as long, and the memory of all of them."""


def models() -> list[Finished]:
    """What can be asked, the newest first, shipped models last."""
    found = comparing.finished_runs()
    for run in runs.list_runs(pretrained=True):
        try:
            found.append(Finished(run, run.config))
        except CovsegError:
            continue
    return [one for one in found if one.run.onnx.is_file()]


def preselected(models: Sequence[Finished]) -> list[str]:
    """Of the newest experiment, the models that differ, if their number is odd, so that no vote is tied; else one."""
    newest = [one for one in models if one.config.experiment == models[0].config.experiment] if models else []
    different = {comparing.model_sha256(one.run): one.run.id for one in newest}
    if len(different) % 2:
        return [one.run.id for one in newest if one.run.id in different.values()]
    return [one.run.id for one in newest if one.config.metric == "dice"][:1] or [one.run.id for one in newest[:1]]


def same_models(models: Sequence[Finished]) -> str:
    """Which of the models are one and the same, in one sentence; empty if none."""
    by_weights: dict[str, list[str]] = {}
    for one in models:
        by_weights.setdefault(comparing.model_sha256(one.run), []).append(METRIC_NAMES[one.config.metric])
    twins = [" and ".join(names) for names in by_weights.values() if len(names) > 1]
    return f"{'; '.join(twins)} have the same weights: one opinion that counts more than once." if twins else ""


def start(desk: Desk, chosen: Sequence[Run]) -> None:
    """Ask the models that were not asked yet, in a task; then the desk has a result of exactly these."""
    label = f"Predicting with {len(chosen)} models" if len(chosen) > 1 else "Predicting"
    desk.task = tasks.start("predict", label, partial(_work, desk, list(chosen), label))


def _work(desk: Desk, chosen: list[Run], label: str, progress: tasks.Progress, cancelled: threading.Event) -> None:
    """In the thread of the task."""
    _wait(progress)
    try:
        scan = desk.checked
        if scan is None:
            raise CovsegError(desk.name, "not read yet")
        progress.phase(label, "slices")
        waiting = [run for run in chosen if run.id not in desk.answers]
        slices = len(scan.volume.voxels)
        uploads.check_room(sum(4 * slices * run.config.prepare.size**2 for run in waiting))
        for number, run in enumerate(waiting):

            def count(done: int, _: int, before: int = number * slices) -> None:
                desk.touch()
                progress(before + done, len(waiting) * slices)

            desk.answers[run.id] = _ask(desk, scan, run, count, cancelled)
        answers = tuple(desk.answers[run.id] for run in chosen)
        desk.result = Result(answers, measure(answers, cancelled))
    except Cancelled:
        progress.check()  # raises what tasks take for an end that was wanted
        raise
    finally:
        _ONE_AT_A_TIME.release()


def _wait(progress: tasks.Progress) -> None:
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        progress.phase("Waiting for another prediction to end")
        while not _ONE_AT_A_TIME.acquire(timeout=0.2):
            progress.check()


def _ask(desk: Desk, scan: CheckedScan, run: Run, count: Any, cancelled: threading.Event) -> Probabilities:
    """One model's answer, kept on disk; that of a twin with the same weights is taken over."""
    digest, prepare = sha256_file(run.onnx), run.config.prepare
    for other in desk.answers.values():
        if (other.model.sha256, other.model.prepare) == (digest, prepare):
            count(len(other.values), 0)
            config = run.config
            model = ModelReport(run.id, config.metric, config.preset, config.dataset, prepare, digest, other.model.mask)
            return replace(other, model=model, warnings=tuple(training_warning(run, scan.sha256)), seconds=0.0)
    path, shape = desk.folder / f"{run.id}.npy", (len(scan.volume.voxels), prepare.size, prepare.size)
    try:
        values = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        answer = predict_probabilities(scan, run, values, count, cancelled)
        values.flush()
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise CovsegError(desk.name, f"no room for the answer ({error.strerror or error})") from None
        raise
    return replace(answer, values=np.load(path, mmap_mode="r", allow_pickle=False))


# --- what is shown


def passport(scan: CheckedScan) -> dict[str, str]:
    """What the scan is, by label."""
    z, y, x = scan.volume.voxels.shape
    dz, dy, dx = scan.volume.spacing
    known = voxel_ml(scan.volume) is not None
    return {
        "Matrix": f"{x} x {y} x {z} voxels",
        "Spacing": f"{dx:.2f} x {dy:.2f} x {dz:.2f} mm" if known else "not known",
        "Orientation": scan.volume.geometry.orientation,
        "Scale": scan.scale,
    }


def plain(text: str) -> str:
    """Text, such as a file's name, that Markdown is to leave as it is.

    >>> print(plain("a_b*.nii"))
    a\\_b\\*.nii
    """
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~$:])", r"\\\1", text)


def names(result: Result) -> list[str]:
    """What the models are called: by their metric, if that tells them apart."""
    metrics = [METRIC_NAMES[answer.model.metric] for answer in result.answers]
    return metrics if len(set(metrics)) == len(metrics) else list(result.runs)


@dataclass(frozen=True)
class Figures:
    """Sizes at one threshold, ready to be shown."""

    cells: dict[str, str]
    """Headline figures by label, with their units."""
    tied: int
    """Voxels with as many models for as against."""
    table: pd.DataFrame
    """A row a model."""


def figures(scan: CheckedScan, result: Result, threshold: float) -> Figures:
    """How large the masks are at a threshold, without making them."""
    row, ml = _row(threshold), voxel_ml(scan.volume)
    totals = [int(counts[row].sum()) for counts in result.sizes.models]
    column = "Voxels" if ml is None else "Volume [mL]"
    table = pd.DataFrame(
        {
            "Model": names(result),
            column: [total if ml is None else total * ml for total in totals],
            "Slices": [int(np.count_nonzero(counts[row])) for counts in result.sizes.models],
            "Run": result.runs,
        }
    )
    unit = "voxels" if ml is None else "mL"
    low, high = quantity(min(totals), ml), quantity(max(totals), ml)
    vote = result.sizes.vote[row]
    cells = {f"{TARGETS[result.answers[0].target]} [{unit}]": quantity(int(vote.sum()), ml)}
    if len(totals) > 1:
        cells[f"Range over {len(totals)} models [{unit}]"] = low if low == high else f"{low} to {high}"
    cells["Slices with a mask"] = f"{np.count_nonzero(vote)} of {len(vote)}"
    return Figures(cells, int(result.sizes.tied[row].sum()), table)


def quantity(voxels: int, ml: float | None) -> str:
    """mL where the size of a voxel is known, else voxels; without the unit.

    >>> quantity(1234, None), quantity(1234, 0.001), quantity(123400, 0.001)
    ('1,234', '1.2', '123')
    """
    if ml is None:
        return f"{voxels:,}"
    return f"{voxels * ml:.1f}" if voxels * ml < 99.95 else f"{voxels * ml:,.0f}"


def largest_slice(result: Result) -> int:
    """Where there is most to see; the middle if there is nothing."""
    counts = result.sizes.vote[_row(0.5)]
    return int(counts.argmax()) if counts.any() else len(counts) // 2


def scene(desk: Desk, scan: CheckedScan, result: Result, threshold: float) -> viewer.Scene:
    """Slices with the vote's mask and each model's; beside the true mask, if the scan is of a dataset that has it."""
    layers = [
        viewer.Layer(name, functools.partial(_plane, [answer]))
        for name, answer in zip(names(result), result.answers, strict=True)
    ]
    if len(layers) > 1:
        layers.insert(0, viewer.Layer(f"Vote of {len(layers)}", functools.partial(_plane, result.answers)))
    voxels = scan.volume.voxels
    return viewer.Scene(
        id=f"{desk.id}/{','.join(result.runs)}",
        zs=range(len(voxels)),
        scale=scan.scale,
        spacing=scan.volume.spacing[1:],
        ct=lambda z: voxels[z][::-1, ::-1],
        truth=_truth(desk, result.answers[0].target),
        layers=layers,
        threshold=threshold,
        threshold_fixed=True,
        start=largest_slice(result),
    )


def _plane(answers: Sequence[Probabilities], z: int) -> np.ndarray:
    return consensus([answer.plane(z) for answer in answers])[::-1, ::-1]


def _truth(desk: Desk, target: Target) -> viewer.Plane | None:
    if desk.source is None:
        return None
    name, case = desk.source
    try:
        fingerprint = load_dataset(name).fingerprint
        access.truth(name, fingerprint, case, target)
    except CovsegError:  # it has none, or was deleted since
        return None
    return lambda z: access.truth(name, fingerprint, case, target)[z][::-1, ::-1]


def _row(threshold: float) -> int:
    return round(threshold * 100) - 1


# --- what is downloaded


def download(desk: Desk, threshold: float, name: str) -> bytes:
    """A file of the prediction at a threshold: a mask or the report.

    All of them are made by the first download, in the scan's own geometry; masks are read back and compared when they
    are written, and once more by their SHA-256 in the report before they leave.

    Raises
    ------
    CovsegError : writing failed, or a file is not as it was written
    """
    scan, result = desk.checked, desk.result
    if scan is None or result is None:
        raise CovsegError(desk.name, "there is no prediction any more", "a new one")
    threshold = THRESHOLDS[_row(threshold)]
    with desk.writing:
        if desk.written is None or desk.written[:2] != (threshold, result.runs):
            files = predict_at(scan, result.answers, threshold, desk.output).report.files
            desk.written = (threshold, result.runs, files)
        path, digests = desk.output / name, desk.written[2]
        if name in digests and sha256_file(path) != digests[name]:
            raise CovsegError(name, "is not as it was written", "a disk without errors")
        return path.read_bytes()
