"""What a training takes of this machine: processor, memory and, where NVIDIA's library is installed, its GPUs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import psutil

from covseg_core.places.devices import each_gpu
from covseg_core.runs.liveness import host, process_lives
from covseg_core.runs.run import Status


@dataclass(frozen=True)
class GpuUsage:
    """A GPU of this machine, whoever uses it: in a container its processes have other numbers than ours."""

    number: int
    load: float
    """Share of the last moment in which it computed."""
    memory: int
    """In use [bytes]."""
    memory_total: int


@dataclass(frozen=True)
class Usage:
    """Of a training's process and its children."""

    cores: float
    """Processors that were busy with it, since the last look, or at the first look since it began."""
    memory: int
    """Resident [bytes]."""
    gpus: tuple[GpuUsage, ...]


_seen: dict[str, tuple[float, float]] = {}
"""Name of a process -> Unix time of the last look, and the processor time that it had taken until then [s]."""


def usage(status: Status) -> Usage | None:
    """Of the process behind a status; None if there is none on this machine."""
    if status.host != host() or not status.pid or not process_lives(status.process):
        return None
    try:
        main = psutil.Process(status.pid)
        began = main.create_time()
        processes = [main, *main.children(recursive=True)]
        taken = [_of(process) for process in processes]
    except psutil.Error:
        return None
    now, seconds, memory = time.time(), sum(one[0] for one in taken), sum(one[1] for one in taken)
    last, before = _seen.get(status.process, (began, 0.0))
    _seen[status.process] = now, seconds
    # a child that has ended takes its time along
    cores = max(0.0, seconds - before) / max(now - last, 1e-3)
    return Usage(cores, memory, gpus() if "GPU" in status.device.upper() else ())


def gpus() -> tuple[GpuUsage, ...]:
    """NVIDIA's; as `each_gpu`."""
    return each_gpu(_gpu)


def _gpu(nvml: Any, number: int) -> GpuUsage:
    handle = nvml.nvmlDeviceGetHandleByIndex(number)
    memory, rates = nvml.nvmlDeviceGetMemoryInfo(handle), nvml.nvmlDeviceGetUtilizationRates(handle)
    return GpuUsage(number, rates.gpu / 100, memory.used, memory.total)


def _of(process: psutil.Process) -> tuple[float, int]:
    """Processor time [s] and resident memory [bytes]; nothing of one that has just ended."""
    try:
        times = process.cpu_times()
        return times.user + times.system, process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0.0, 0
