"""What a worker finds in its environment, wherever it runs."""

from __future__ import annotations

import os

from covseg_core import paths

_KEEP_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(2**32 - 1), "MALLOC_TRIM_THRESHOLD_": str(2**33)}
"""For glibc, unless the user has set them. Without it every activation is given back to the kernel and asked for again,
and clearing those pages took a third of the time of long trainings on one machine, and nothing on another."""
_USUAL = {"TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow", **_KEEP_MEMORY}


def environment() -> dict[str, str]:
    """Of a process on this machine: the same folders wherever it starts, no start-up notices, memory that is kept."""
    return _USUAL | os.environ | _folders()


def own_environment() -> dict[str, str]:
    """Only what is covseg's, for a process on a machine that has an environment of its own."""
    return {name: os.environ.get(name, usual) for name, usual in _USUAL.items()} | _folders()


def _folders() -> dict[str, str]:
    return {
        "COVSEG_DATA": str(paths.data_root()),
        "COVSEG_CHECKPOINTS": str(paths.checkpoints_root()),
        "COVSEG_PRETRAINED": str(paths.pretrained_root()),
        "COVSEG_PLACES": str(paths.places_file()),
        "PYTHONPATH": paths.python_path(),
        "PYTHONUNBUFFERED": "1",
    }
