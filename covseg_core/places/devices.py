"""The devices of this machine: one training each."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import filelock

from covseg_core import paths
from covseg_core.places.settings import check_device, local

T = TypeVar("T")

CPU = "cpu"
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Slot:
    """Room for one training."""

    device: str = ""
    """A GPU's number, several joined by `+`, or `cpu`; empty: whatever is visible."""
    number: int = 0
    """Among those of the same device."""

    def lock(self) -> filelock.BaseFileLock:
        """Held by the process that trains there, for these runs, as long as it lives. Taking it does not wait."""
        device = self.device or os.environ.get(_VISIBLE, "all")
        name = f"{socket.gethostname()}-{device}" + (f"-{self.number}" if self.number else "")
        folder = paths.checkpoints_root() / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        safe = "".join(letter if letter.isalnum() else "-" for letter in name)
        return filelock.FileLock(folder / f"{safe}.lock", blocking=False)

    def choose(self) -> None:
        """Have this process see nothing else; before it imports a framework."""
        if self.device:
            os.environ[_VISIBLE] = "" if self.device == CPU else self.device.replace("+", ",")


def slots() -> list[Slot]:
    """By the setting, else one a visible GPU; one for everything that is visible, where there are not several.

    Raises
    ------
    PlaceError : a device is not the name of one
    """
    named = chosen_devices() or visible_gpus()
    return [Slot(device, named[:place].count(device)) for place, device in enumerate(named)] or [Slot()]


def chosen_devices() -> tuple[str, ...]:
    """By `COVSEG_DEVICES`, else by `places.toml`; none if nobody has said."""
    said = os.environ.get("COVSEG_DEVICES", "")
    devices = tuple(device.strip() for device in said.split(",")) if said.strip() else ()
    for device in devices:
        check_device(device, "COVSEG_DEVICES")
    return devices or local().devices


def visible_gpus() -> tuple[str, ...]:
    """By `CUDA_VISIBLE_DEVICES`, else by NVIDIA's library where it is installed; none if they are not several."""
    visible = os.environ.get(_VISIBLE)
    if visible is not None:
        found = tuple(device.strip() for device in visible.split(","))
        return found if len(found) > 1 and all(found) else ()
    found = each_gpu(lambda _, number: str(number))
    return found if len(found) > 1 else ()


def each_gpu(look: Callable[[Any, int], T]) -> tuple[T, ...]:
    """What is seen of each of NVIDIA's GPUs, by the optional package `nvidia-ml-py`; none where it, the driver or a
    card is missing.

    Parameters
    ----------
    look : called with the package and the number of a GPU
    """
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return ()
    try:
        nvml.nvmlInit()
        return tuple(look(nvml, number) for number in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError:
        return ()


def take_free(of: list[Slot]) -> tuple[Slot, filelock.BaseFileLock] | None:
    """The first one that nobody trains on, and its lock; None if all are taken."""
    for slot in of:
        try:
            return slot, slot.lock().acquire().lock
        except filelock.Timeout:
            continue
    return None
