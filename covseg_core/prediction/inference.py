"""Prepared slices to probabilities through ONNX Runtime: no TensorFlow, little memory, first answer in milliseconds."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from covseg_core.config import PrepareConfig
from covseg_core.errors import Cancelled, RunError
from covseg_core.progress import Progress
from covseg_core.runs import Run

if TYPE_CHECKING:
    import onnxruntime


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

    Raises
    ------
    RunError : the model is missing, is not readable, or does not map (N, S, S, C) uint8 to (N, S, S, 1) float32 with
        the size S and the channels C of `prepare`
    """

    def __init__(self, model: Run | Path, prepare: PrepareConfig | None = None, workers: int | None = None) -> None:
        if isinstance(model, Run):
            check_model(model)
            self.path, self.prepare = model.onnx, prepare or model.config.prepare
        else:
            self.path, self.prepare = Path(model), prepare or PrepareConfig()
            if not self.path.is_file():
                raise RunError(self.path, "no such file", "an ONNX model")
        area = self.prepare.size**2
        self.batch = min(MAX_BATCH, max(1, BATCH_PIXELS // area))
        # a batch for each core, rather than all cores on one batch, where they wait for each other at every layer
        cores = usable_cores()
        self.workers = workers or min(cores, max(1, PIXELS // (self.batch * area)))
        self._session = _open(self.path, threads=max(1, cores // self.workers))
        self._input = _checked_input(self._session, self.path, self.prepare)

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
        answer = self._session.run(None, {self._input: batch})[0][..., 0]
        if not np.isfinite(answer).all():
            raise RunError(self.path, "the model answers with NaN or infinity", "a model whose training converged")
        return answer


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


def _open(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU, with `threads` for each call."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # spinning threads gain at most a tenth on an idle machine, and lose half on one that trains at the same time
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
        raise RunError(path, f"not readable: {str(error).splitlines()[0]}", "an ONNX model") from error


def _checked_input(session: onnxruntime.InferenceSession, path: Path, prepare: PrepareConfig) -> str:
    """The name of the model's input, once input and output are what `probabilities` relies on."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    size, channels = prepare.size, prepare.channels
    expected = f"one input (N, {size}, {size}, {channels}) uint8 and one output (N, {size}, {size}, 1) float32"
    if len(inputs) != 1 or len(outputs) != 1:
        raise RunError(path, f"{len(inputs)} inputs and {len(outputs)} outputs", expected)
    for tensor, kind, last in ((inputs[0], "tensor(uint8)", channels), (outputs[0], "tensor(float)", 1)):
        if tensor.type != kind or not _fits(tensor.shape, (size, size, last)):
            raise RunError(path, f"{tensor.name} is {tuple(tensor.shape)} {tensor.type}", expected)
    return str(inputs[0].name)


def _fits(shape: list[Any], sides: tuple[int, int, int]) -> bool:
    """Whether a shape is (N, *sides), where names and None stand for any length; N must be one of those."""
    if len(shape) != 4 or isinstance(shape[0], int):
        return False
    return all(not isinstance(found, int) or found == wanted for found, wanted in zip(shape[1:], sides, strict=True))
