"""Which models the Quick prediction page offers, and asking them about a scan in a task."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from covseg_core import runs
from covseg_core.config import METRICS, Target
from covseg_core.errors import Cancelled, CovsegError
from covseg_core.files import cached_sha256, sha256_file
from covseg_core.paths import pretrained_root
from covseg_core.prediction.decide import lung_sides
from covseg_core.prediction.probabilities import Probabilities, answered, predict_probabilities
from covseg_core.prediction.scan import Scan
from covseg_core.runs import Run
from dashboard.app_pages.predict.workspace import Desk, Result
from dashboard.services import tasks, uploads
from dashboard.services.model_catalog import Finished, finished_runs, newest

TARGETS: dict[Target, str] = {"infection": "Infection", "lung": "Lungs"}
LUNGS = "lung"
"""Run of the shipped lung model."""

_ONE_AT_A_TIME = threading.Lock()
"""Several predictions at once would take as long, and the memory of all of them."""


def models() -> list[Finished]:
    """What can be asked, the newest first, shipped models last; of an experiment accuracy, IoU, Dice."""
    shipped = []
    for run in runs.list_runs(pretrained=True):
        try:
            shipped.append(Finished(run, run.config))
        except CovsegError:
            continue
    shipped.sort(key=lambda one: list(METRICS).index(one.config.metric))
    return [one for one in (*finished_runs(), *shipped) if one.run.onnx.is_file()]


def label(one: Finished) -> str:
    """As the lists of models show it: a shipped one by its name."""
    return one.run.id if _shipped(one) else one.label


def preselected(models: Sequence[Finished]) -> list[str]:
    """Of the newest experiment that is finished, the models that differ, if their number is odd, so that no vote is
    tied; else one. Of a cross-validation all folds of one metric, of an even number one less.

    One by patient comes before one by slice, whose scores say less about a new patient. The shipped models count as one
    experiment.
    """
    own = [one for one in models if not _shipped(one)]
    chosen = newest([one for one in own if one.config.split.kind == "patient"] or own) or list(models)
    if not chosen:
        return []
    metrics = [one.config.metric for one in chosen]
    metric = "dice" if "dice" in metrics else metrics[0]
    alike = [one.run.id for one in chosen if one.config.metric == metric]
    if chosen[0].config.split.folds:
        return alike[: len(alike) - 1 + len(alike) % 2]
    different = {cached_sha256(one.run.onnx): one.run.id for one in chosen}
    return [one.run.id for one in chosen if one.run.id in different.values()] if len(different) % 2 else alike[:1]


def same_models(models: Sequence[Finished]) -> str:
    """Which of the models are one and the same, in one sentence; empty if none."""
    by_weights: dict[str, list[str]] = {}
    for one in models:
        by_weights.setdefault(cached_sha256(one.run.onnx), []).append(METRICS[one.config.metric].label)
    twins = [" and ".join(names) for names in by_weights.values() if len(names) > 1]
    return f"{'; '.join(twins)} have the same weights: one opinion that counts more than once." if twins else ""


def start(desk: Desk, chosen: Sequence[Run], lungs: Run | None) -> None:
    """Ask the models that were not asked yet, in a task; then the desk has a result of exactly these."""
    label = f"Predicting with {len(chosen)} models" if len(chosen) > 1 else "Predicting"
    desk.task = tasks.start("predict", label, partial(_work, desk, list(chosen), lungs, label))


def _work(
    desk: Desk,
    chosen: list[Run],
    lungs: Run | None,
    label: str,
    progress: tasks.TaskProgress,
    cancelled: threading.Event,
) -> None:
    """In the thread of the task."""
    _wait(progress)
    try:
        scan = desk.checked
        if scan is None:
            raise CovsegError(desk.name, "not read yet")
        progress.phase(label, "slices")
        asked = [*chosen, lungs] if lungs else chosen
        waiting = [run for run in asked if run.id not in desk.answers]
        slices = len(scan.volume.voxels)
        uploads.check_room(sum(4 * slices * run.config.prepare.size**2 for run in waiting))
        for number, run in enumerate(waiting):

            def count(done: int, _: int, before: int = number * slices) -> None:
                desk.touch()
                progress(before + done, len(waiting) * slices)

            desk.answers[run.id] = _ask(desk, scan, run, count, cancelled)
        progress.phase("Measuring")
        answers = tuple(desk.answers[run.id] for run in chosen)
        lung = desk.answers[lungs.id] if lungs else None
        result = Result(answers, lung, _sides(desk, scan, lung) if lung else None, _seg_problem(scan))
        progress.check()  # another series may have been chosen meanwhile
        desk.result = result
    except Cancelled:
        progress.check()  # raises what tasks take for an end that was wanted
        raise
    finally:
        _ONE_AT_A_TIME.release()


def _wait(progress: tasks.TaskProgress) -> None:
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        progress.phase("Waiting for another prediction to end")
        while not _ONE_AT_A_TIME.acquire(timeout=0.2):
            progress.check()


def _ask(
    desk: Desk, scan: Scan, run: Run, count: Callable[[int, int], None], cancelled: threading.Event
) -> Probabilities:
    """One model's answer, kept on disk; that of a twin with the same weights is taken over."""
    digest, prepare = sha256_file(run.onnx), run.config.prepare
    for other in desk.answers.values():
        if (other.model.sha256, other.model.prepare) == (digest, prepare):
            count(len(other.values), 0)
            return answered(scan, run, other.values, 0.0, desk.passport)
    path, shape = desk.folder / f"{run.id}.npy", (len(scan.volume.voxels), prepare.size, prepare.size)
    try:
        values = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        answer = predict_probabilities(scan, run, values, count, cancelled)
        values.flush()
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _no_room(desk, error) from None
        raise
    return replace(answer, values=np.load(path, mmap_mode="r", allow_pickle=False))


def _sides(desk: Desk, scan: Scan, lung: Probabilities) -> np.ndarray:
    """Which lung each voxel is in, (Z, Y, X) uint8 on disk: it is the same at every threshold."""
    path = desk.folder / f"sides-{lung.model.run}.npy"
    try:
        if not path.is_file():
            np.save(path, lung_sides(scan, lung), allow_pickle=False)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _no_room(desk, error) from None


def _no_room(desk: Desk, error: OSError) -> CovsegError:
    return CovsegError(desk.name, f"no room for the answer ({error.strerror or error})")


def _seg_problem(scan: Scan) -> str:
    """Why a DICOM series can have no DICOM SEG; asked here, since to import highdicom takes a second."""
    if scan.kind != "dicom":
        return ""
    from covseg_core.prediction.output.dicom_seg import seg_problem

    return seg_problem(scan)


def _shipped(one: Finished) -> bool:
    return one.run.folder.parent == pretrained_root()


def plain(text: str) -> str:
    """Text, such as a file's name, that Markdown is to leave as it is.

    >>> print(plain("a_b*.nii"))
    a\\_b\\*.nii
    """
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~$:])", r"\\\1", text)
