"""Prepared slices to probabilities: no TensorFlow, little memory, first answer in milliseconds."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from covseg_core.config import PrepareConfig
from covseg_core.errors import Cancelled, RunError
from covseg_core.prediction.engines import Precision, open_engine
from covseg_core.prediction.model_memory import memory_of
from covseg_core.progress import Progress
from covseg_core.runs import Run

BATCH_PIXELS = 2 * 256 * 256
"""Pixels a batch, at most `MAX_BATCH` slices. Larger batches take no less time on a CPU (benchmarks/predict.py), and
memory in proportion: the thesis's network 1.8 GB for 16 slices of 256."""
MAX_BATCH = 4
PIXELS = 8 * 256 * 256
"""Pixels of all batches that are computed at the same time: 1 GB for the thesis's network."""

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Of a container on Linux: microseconds of CPU time, or "max", in a period of so many microseconds."""


class Cancel(Protocol):
    """What says that nobody waits for the answer any more: a `threading.Event`, for instance."""

    def is_set(self) -> bool: ...


class Segmenter:
    """A trained model, ready to segment slices. Not shared by processes; threads may share it.

    Parameters
    ----------
    model : a run that holds `model.onnx`, or the path of such a file
    prepare : how slices are prepared for the model; a run knows its own
    workers : batches computed at the same time; None for as many as there are cores, within `PIXELS`
    precision : to compute in. In bfloat16 answers differ a little: `runs.bfloat16` says for which models that is fine
    threads : for each batch; None for those that the cores allow

    Raises
    ------
    RunError : the model is missing, is not readable, or does not map (N, S, S, C) uint8 to (N, S, S, 1) float32 with
        the size S and the channels C of `prepare`
    SettingError : bfloat16 where it cannot be computed in
    """

    def __init__(
        self,
        model: Run | Path,
        prepare: PrepareConfig | None = None,
        workers: int | None = None,
        precision: Precision = "float32",
        threads: int | None = None,
    ) -> None:
        if isinstance(model, Run):
            check_model(model)
            self.path, self.prepare = model.onnx, prepare or model.config.prepare
        else:
            self.path, self.prepare = Path(model), prepare or PrepareConfig()
            if not self.path.is_file():
                raise RunError(self.path, "no such file", "an ONNX model")
        self.batch, self.workers = _at_once(self.prepare.size, workers)
        threads = threads or max(1, usable_cores() // self.workers)
        self._compute = open_engine(self.path, self.prepare, precision, self.workers, threads)

    def probabilities(
        self,
        images: np.ndarray,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        near: np.ndarray | None = None,
    ) -> np.ndarray:
        """Probability of the target in every pixel, a few batches at a time.

        Parameters
        ----------
        images : (N, S, S) uint8, radiological view, as `slices.to_images` makes them; (N, S, S, C) with neighbours,
            as `context.with_context` does; N may be 0
        progress : called after each batch, from the thread of the caller
        cancel : looked at before each batch
        near : (N, S, S) uint8 0/1, where the target can be. Elsewhere the answer is 0, and a slice without such a place
            is not asked about

        Returns
        -------
        (N, S, S) float32, 0..1

        Raises
        ------
        ValueError : images of another shape or type
        RunError : the model answers with NaN or infinity, as one does whose training diverged
        Cancelled : `cancel` was set
        """
        size = self.prepare.size
        expected = (size, size, self.prepare.channels) if self.prepare.context else (size, size)
        if images.shape[1:] != expected or images.dtype != np.uint8:
            sides = ", ".join(map(str, expected))
            raise ValueError(f"images are {images.shape} {images.dtype}; expected (N, {sides}) uint8")
        if near is not None:
            there = np.flatnonzero(near.any(axis=(1, 2)))
            probabilities = np.zeros(images.shape[:3], np.float32)
            probabilities[there] = self.probabilities(images[there], progress, cancel) * near[there]
            return probabilities
        probabilities = np.empty(images.shape[:3], np.float32)

        def answer(start: int) -> None:
            stop_if(cancel)
            part = slice(start, start + self.batch)
            probabilities[part] = self._answer(images[part])

        starts = range(0, len(images), self.batch)
        pool = ThreadPoolExecutor(self.workers)
        try:
            for start, _ in zip(starts, pool.map(answer, starts), strict=True):
                stop_if(cancel)
                if progress is not None:
                    progress(min(start + self.batch, len(images)), len(images))
        finally:  # after an error, without the batches that have not begun
            pool.shutdown(cancel_futures=True)
        return probabilities

    def _answer(self, images: np.ndarray) -> np.ndarray:
        """One batch, (n, S, S) or (n, S, S, C) uint8, to (n, S, S) float32."""
        batch = np.ascontiguousarray(images).reshape(*images.shape[:3], -1)
        answer = self._compute(batch)[..., 0]
        if not np.isfinite(answer).all():
            raise RunError(self.path, "the model answers with NaN or infinity", "a model whose training converged")
        return answer


def memory_needed(path: Path, prepare: PrepareConfig, workers: int) -> int:
    """Bytes of address space that a `Segmenter` with so many workers takes at most, beside Python and libraries.

    Raises
    ------
    RunError : as `model_memory.memory_of`
    """
    memory = memory_of(path, prepare)
    batch, workers = _at_once(prepare.size, workers)
    stacks = 8 * 2**20 * (usable_cores() + workers)
    # weights are kept in float32 and once more in the order that the processor likes; the file may have half of that
    return stacks + 5 * memory.constants + batch * workers * memory.slice


def _at_once(size: int, workers: int | None) -> tuple[int, int]:
    """Slices of a batch, and batches that are computed at the same time, unless that is said."""
    batch = min(MAX_BATCH, max(1, BATCH_PIXELS // size**2))
    # a batch for each core, rather than all cores on one batch, where they wait for each other at every layer
    return batch, workers or min(usable_cores(), max(1, PIXELS // (batch * size**2)))


def check_model(run: Run) -> None:
    """Raise `RunError` unless a run has a model, before anything takes time."""
    if not run.onnx.is_file():
        raise RunError(
            run.id, "has no model.onnx", f"a trained model; after training, `covseg export {run.id}` writes it"
        )


def stop_if(cancel: Cancel | None) -> None:
    """Raise `Cancelled` if `cancel` is set."""
    if cancel is not None and cancel.is_set():
        raise Cancelled


def usable_cores() -> int:
    """CPU cores this process may use: its affinity, and the quota of its container."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or its quota is "max"
        return cores
