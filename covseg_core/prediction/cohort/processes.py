"""How many processes predict at the same time, and what each of them may use.

A scan is read, asked about and written by one process: most of the steps in between use one core, and with a scan on
each core none of them waits. Several processes cost memory, so that there are no more than fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from covseg_core.isolation import MEMORY, Limits, most_memory
from covseg_core.prediction.cohort.found import FoundScan
from covseg_core.prediction.cohort.one import KEPT_MODELS
from covseg_core.prediction.inference import memory_needed, usable_cores
from covseg_core.prediction.request import Request

_BASE = 500 * 2**20
"""Bytes that a process takes at least: Python, libraries, a small scan."""
_FOR_A_BYTE = 6
"""Bytes that a process takes for each byte of a packed scan."""
_HOURS = 6
"""Of processor time for one scan: more takes only what never ends."""


@dataclass(frozen=True)
class Processes:
    """A number of processes."""

    number: int
    cores: int
    """That each may use."""
    limits: Limits
    """Of each, and each scan."""


def plan(scans: Sequence[FoundScan], request: Request, number: int | None = None) -> Processes:
    """As many as there are cores and scans, and fit into the memory that is free; `number` if that is said.

    Raises
    ------
    RunError : as `inference.memory_needed`
    """
    largest = max((scan.size for scan in scans), default=0)
    cores = usable_cores()
    models = {run.onnx: run.config.prepare for run in request.all[:KEPT_MODELS]}
    each = sum(memory_needed(path, prepare, 1) for path, prepare in models.items())
    if number is None:
        free = min(psutil.virtual_memory().available, most_memory())
        fit = free // (_BASE + each + _FOR_A_BYTE * largest)
        number = max(1, min(cores, len(scans), fit))
    own = max(1, cores // number)
    needed = sum(memory_needed(path, prepare, own) for path, prepare in models.items())
    memory = min(MEMORY[0] + MEMORY[1] * largest + needed, most_memory())
    return Processes(number, own, Limits(memory, 3600.0 * _HOURS))
