"""The folder `previews/` of a run: a few fixed validation slices, and what the model says of them after each epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covseg_core.errors import CovsegError
from covseg_core.files import atomic_path, read_json, write_json
from covseg_core.runs.run import Run


@dataclass(frozen=True)
class PreviewSlice:
    """Where a preview comes from."""

    case: str
    z: int


@dataclass(frozen=True, eq=False)
class PreviewSlices:
    """The chosen validation slices of a run."""

    images: np.ndarray
    """(K, S, S) uint8."""
    masks: np.ndarray
    """(K, S, S) uint8 0/1."""
    origin: list[PreviewSlice]


def write_preview_slices(run: Run, slices: PreviewSlices) -> None:
    """Keep images, true masks and their origin."""
    for name, array in (("images", slices.images), ("masks", slices.masks)):
        with atomic_path(run.previews / f"{name}.npy") as temporary:
            np.save(temporary, array)
    write_json(run.previews / "slices.json", slices.origin)


def read_preview_slices(run: Run) -> PreviewSlices:
    """Images, true masks and origin; raises `CovsegError`."""
    origin = read_json(run.previews / "slices.json", list[PreviewSlice])
    return PreviewSlices(_array(run, "images"), _array(run, "masks"), origin)


def preview_epochs(run: Run) -> list[int]:
    """Epochs of which there are predictions, in order."""
    return sorted(int(file.stem.split("_")[1]) for file in run.previews.glob("epoch_*.npy"))


def read_preview(run: Run, epoch: int) -> np.ndarray:
    """(K, S, S) uint8, probability 1 is 255: what the model says after an epoch; raises `CovsegError`."""
    return _array(run, f"epoch_{epoch:04d}")


def _array(run: Run, name: str) -> np.ndarray:
    path = run.previews / f"{name}.npy"
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise CovsegError(path, "no such file") from None
    except (OSError, ValueError):
        raise CovsegError(path, "cannot be read", "an array of uint8") from None
