"""Small chests, and models whose answers are known, for the tests of prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from known import save_line

from covseg_core.config import PrepareConfig, RunConfig
from covseg_core.files import write_json
from covseg_core.runs import Run

SIDE, SLICES = 48, 6
AIR, LUNG, TISSUE, LESION = -1000, -800, 40, 200


def grey(hu: float) -> float:
    """Of the default window."""
    return 255 * (hu + 1250) / 1500


BRIGHT = grey(120)


def chest() -> np.ndarray:
    """(x, y, z) int16 HU in RAS+: tissue on a table, two lungs, a lesion without any symmetry in one of them."""
    voxels = np.full((SIDE, SIDE, SLICES), TISSUE, np.int16)
    voxels[:, :3] = AIR
    voxels[5:20, 10:40] = voxels[28:43, 10:40] = LUNG
    voxels[32:36, 12:30, 3:5] = voxels[36:40, 12:15, 4:6] = LESION
    return voxels


def save_scan(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(voxels, np.diag([0.8, 0.8, 5.0, 1.0]) if affine is None else affine), path)
    return path


def make_run(root: Path, id: str, above: float, slope: float = 1e4, **config: Any) -> Run:
    """A model with a known answer: `slope` * (grey - `above`), as a probability 0..1."""
    run = Run(root / id)
    config = {"prepare": PrepareConfig(size=SIDE), "metric": "dice", "dataset": "none", "preset": "quick", **config}
    write_json(run.folder / "config.json", RunConfig(id, "e", fingerprint="f", created="2026-01-01", **config))
    save_line(run.onnx, config["prepare"].size, above, slope)
    return run


def stored(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)
