"""What computes a network: ONNX Runtime in float32 everywhere, OpenVINO in bfloat16 on processors that have it."""

from __future__ import annotations

import functools
import queue
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from covseg_core.config import PrepareConfig
from covseg_core.errors import RunError, SettingError
from covseg_core.prediction.model_file import check_model_file
from covseg_core.prediction.model_memory import memory_of

if TYPE_CHECKING:
    import onnxruntime

Precision = Literal["float32", "bfloat16"]
Compute = Callable[[np.ndarray], np.ndarray]
"""(n, S, S, C) uint8 -> (n, S, S, 1) float32; several threads may call it at once."""


def open_engine(path: Path, prepare: PrepareConfig, precision: Precision, workers: int, threads: int) -> Compute:
    """Load a model.

    Parameters
    ----------
    path : `model.onnx`
    prepare : how slices are prepared for it
    workers : how many calls there will be at the same time
    threads : for each of them

    Raises
    ------
    RunError : the model is not readable, holds what our export does not write (`model_file`), computes more than one of
        ours (`model_memory`), or its input or output is another one than `prepare` says
    SettingError : bfloat16 on a processor that does not have it, or without the package openvino
    """
    check_model_file(path)
    memory_of(path, prepare)
    session = _session(path, threads)
    name = _checked_input(session, path, prepare)
    if precision == "float32":
        return lambda images: session.run(None, {name: images})[0]
    if not has_bfloat16():
        found = "bfloat16, which this processor does not compute in, or the package openvino is missing"
        raise SettingError("precision", found, "float32")
    return _bfloat16(path, prepare, workers, threads)


@functools.cache
def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16 (AVX512_BF16 or AMX), and OpenVINO is there to use it."""
    try:
        import openvino
    except ImportError:
        return False
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _bfloat16(path: Path, prepare: PrepareConfig, workers: int, threads: int) -> Compute:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(str(path)),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "bf16", "NUM_STREAMS": str(workers), "INFERENCE_NUM_THREADS": workers * threads},
    )
    free: queue.SimpleQueue[Any] = queue.SimpleQueue()  # a request serves one call at a time
    for _ in range(workers):
        free.put(compiled.create_infer_request())

    def compute(images: np.ndarray) -> np.ndarray:
        request = free.get()
        try:
            request.infer({0: images})
            return np.array(request.get_output_tensor(0).data, np.float32)
        finally:
            free.put(request)

    # Once by one thread alone: two that read a tensor for the first time wait for each other for ever, one with
    # Python's lock and one with that of a C++ static variable (OpenVINO 2026.4)
    compute(np.zeros((1, prepare.size, prepare.size, prepare.channels), np.uint8))
    return compute


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
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
    """The name of the model's input, once input and output are what `Compute` promises."""
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
