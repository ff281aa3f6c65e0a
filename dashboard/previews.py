"""Predicted masks of a few validation slices, epoch by epoch: the user sees the model learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
from histories import Seen
from run_panel import duration  # noqa: F401

from covseg_core import rendering
from covseg_core.errors import CovsegError
from covseg_core.files import read_json
from covseg_core.runs import Run
from covseg_core.training.previews import PreviewSlice

SIDE = 384
"""Of a picture [pixels]."""
THRESHOLD = 128
"""Of 255: a probability of one half."""


@dataclass(frozen=True)
class Slices:
    """The chosen validation slices of a run."""

    images: np.ndarray
    """(K, S, S) uint8."""
    masks: np.ndarray
    """(K, S, S) bool."""
    origin: list[PreviewSlice]


def epochs(run: Run) -> list[int]:
    """Epochs of which there are predictions, in order."""
    return sorted(int(file.stem.split("_")[1]) for file in run.previews.glob("epoch_*.npy"))


def load(run: Run) -> Slices:
    """Images, true masks and origin of the slices; raises `CovsegError`."""
    folder = run.previews
    return Slices(_array(run, "images"), _array(run, "masks") > 0, read_json(folder / "slices.json", list[PreviewSlice]))


def pictures(run: Run, epoch: int) -> list[tuple[bytes, str]]:
    """Each slice with its prediction after an epoch, as an image file, and what stands below it; raises `CovsegError`."""
    slices = load(run)
    probabilities = _array(run, f"epoch_{epoch:04d}")
    found = []
    for image, mask, probability, origin in zip(slices.images, slices.masks, probabilities, slices.origin, strict=True):
        found.append((_picture(image, mask, probability), f"{origin.case}, slice {origin.z} · {dice(mask, probability)}"))
    return found


def dice(mask: np.ndarray, probability: np.ndarray) -> str:
    """Dice of one slice, in words where there is nothing to find."""
    predicted = probability >= THRESHOLD
    total = int(mask.sum()) + int(predicted.sum())
    return f"Dice {2 * int((mask & predicted).sum()) / total:.2f}" if total else "nothing to find, nothing found"


def _picture(image: np.ndarray, mask: np.ndarray, probability: np.ndarray) -> bytes:
    """Grey slice, areas in the colours of the legend, and a white line around the truth."""
    image, wide_mask, wide_probability = (
        _enlarged(plane) for plane in (image, mask.astype(np.uint8) * 255, probability)
    )
    truth = wide_mask >= THRESHOLD
    picture = rendering.overlay(image, wide_probability >= THRESHOLD, truth, "fill", 0.5)
    rim = rendering.overlay(np.zeros_like(image), None, truth, "contour", 1.0).any(axis=2)
    picture[rim] = 255
    return rendering.encode(picture)


def _enlarged(plane: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(plane, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) if len(plane) < SIDE else plane


def _array(run: Run, name: str) -> np.ndarray:
    path = run.previews / f"{name}.npy"
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise CovsegError(path, "no such file") from None
    except (OSError, ValueError):
        raise CovsegError(path, "cannot be read", "an array of uint8") from None
