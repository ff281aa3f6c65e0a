"""Which devices train, in which precision, and what lies on them; the one module that speaks to a backend directly.

TensorFlow shares a batch over several GPUs with `tf.distribute.MirroredStrategy`, JAX with the Keras distribution API.
PyTorch uses one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import keras
import numpy as np
import psutil


@dataclass(frozen=True)
class Device:
    """What a run trains on."""

    description: str
    """Shown to the user: `1 GPU (NVIDIA H100), tensorflow, mixed_bfloat16`."""
    count: int
    gpu: bool
    multiple: int = 1
    """What a batch's length must be divisible by."""
    strategy: Any = field(default=None, repr=False)
    memory: int | None = None
    """Bytes that are free on it; None where that cannot be found out."""
    holds: bool = False
    """Whether slices can stay on it for the whole training: on a single device, with TensorFlow or JAX."""

    def scope(self) -> AbstractContextManager[Any]:
        """Build and compile the model inside."""
        return self.strategy.scope() if self.strategy is not None else nullcontext()


def set_up(precision: Literal["auto", "float32", "mixed"] = "auto") -> Device:
    """Take all visible GPUs, or the CPU, and set the precision; call once, before a model is built."""
    backend = keras.backend.backend()
    names, gpu = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[backend]()
    policy = "float32"
    if precision == "mixed" or (precision == "auto" and gpu):
        policy = "mixed_bfloat16" if _has_bfloat16(backend, gpu) else "mixed_float16"
    keras.config.set_dtype_policy(policy)

    strategy, multiple = None, 1
    if len(names) > 1 and backend == "tensorflow":
        import tensorflow as tf

        strategy = tf.distribute.MirroredStrategy([name for name, _ in names])
    elif len(names) > 1 and backend == "jax":
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=[name for name, _ in names]))
        multiple = len(names)
    else:
        names = names[:1]
    kinds = ", ".join(sorted({label for _, label in names}))
    description = f"{len(names)} {'GPU' if gpu else 'CPU'} ({kinds}), {backend}, {policy}"
    holds = len(names) == 1 and backend in ("tensorflow", "jax")
    return Device(description, len(names), gpu, multiple, strategy, _free_memory(backend, gpu), holds)


def place(array: np.ndarray) -> Any:
    """A copy of the array on the device, for as long as somebody refers to it.

    Raises
    ------
    MemoryError : there is no room for it
    """
    if keras.backend.backend() == "jax":
        import jax

        try:
            return jax.block_until_ready(jax.device_put(array))
        except jax.errors.JaxRuntimeError as error:
            raise MemoryError(str(error).splitlines()[0]) from error
    import tensorflow as tf

    gpu = tf.config.list_logical_devices("GPU")
    try:
        with tf.device(gpu[0].name if gpu else "CPU:0"):
            return tf.constant(array)
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError(str(error).splitlines()[0]) from error


def captured() -> bool:
    """Whether a compiled step shares the arrays that it refers to, instead of having a copy of them inside."""
    return keras.backend.backend() == "tensorflow"


def _free_memory(backend: str, gpu: bool) -> int | None:
    if not gpu:
        return int(psutil.virtual_memory().available)
    if backend == "jax":
        import jax

        # what JAX has taken for itself when it started, without what it has given away
        known = jax.devices()[0].memory_stats() or {}
        return known["bytes_limit"] - known["bytes_in_use"] if {"bytes_limit", "bytes_in_use"} <= known.keys() else None
    if shutil.which("nvidia-smi") is None:
        return None
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    asked = ["nvidia-smi", "-i", first, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        return int(subprocess.run(asked, capture_output=True, text=True, timeout=20).stdout) * 2**20
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


Names = tuple[list[tuple[str, str]], bool]
"""(name for the backend, label for the user) of each device, and whether they are GPUs."""


def _tensorflow() -> Names:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # without it TensorFlow takes all memory of the card at once, also from other users
        tf.config.experimental.set_memory_growth(gpu, True)
    labels = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]
    logical = tf.config.list_logical_devices("GPU" if gpus else "CPU")
    if not gpus:
        labels = [cpu_label()] * len(logical)
    return list(zip([device.name for device in logical], labels, strict=True)), bool(gpus)


def _jax() -> Names:
    import jax

    devices = jax.devices()
    gpu = devices[0].platform == "gpu"
    labels = [device.device_kind if gpu else cpu_label() for device in devices]
    names = keras.distribution.list_devices("gpu" if gpu else "cpu")
    return list(zip(names, labels, strict=True)), gpu


def _torch() -> Names:
    import torch

    if torch.cuda.is_available():
        return [("cuda:0", torch.cuda.get_device_name(0))], True
    return [("cpu", cpu_label())], False


def _has_bfloat16(backend: str, gpu: bool) -> bool:
    """bfloat16 needs no loss scaling; NVIDIA cards have it since compute capability 8 (Ampere, 2020)."""
    if not gpu:
        return True
    if backend == "tensorflow":
        import tensorflow as tf

        details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
        return all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    if backend == "jax":
        import jax

        # "8.0" on NVIDIA; AMD's cards name an architecture instead, and have had bfloat16 since 2018
        capabilities = [str(getattr(device, "compute_capability", "")) for device in jax.devices()]
        return all(not text.replace(".", "").isdigit() or float(text) >= 8 for text in capabilities)
    import torch

    return torch.cuda.is_bf16_supported()


def cpu_label() -> str:
    """`2 cores`: what decides the speed of a CPU, as far as this process may use it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{cores} core{'s' if cores > 1 else ''}"
