"""Small NIfTI files, and ways to make them odd or bad."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

LPS = np.array([[-0.7, 0, 0, 120], [0, -0.7, 0, 90], [0, 0, 2.5, -300], [0, 0, 0, 1]])


def noise(shape: tuple[int, ...] = (12, 10, 6), kind: type = np.int16) -> np.ndarray:
    """Values of a CT scan in file order, all different enough to tell positions apart."""
    return np.random.default_rng(0).integers(-1000, 1000, shape).astype(kind)


def write(path: Path, values: np.ndarray, affine: np.ndarray = LPS) -> Path:
    """Save a NIfTI-1 file in the array's own type."""
    nib.save(nib.Nifti1Image(values, affine, dtype=values.dtype), path)
    return path


def patch(path: Path, offset: int, layout: str, *values: float) -> Path:
    """Overwrite bytes of an uncompressed file, for headers that nibabel would refuse to write."""
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, offset, *values)
    path.write_bytes(content)
    return path


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
    """Replace a file's voxels, (i, j, k)."""
    image = nib.load(path)
    voxels = change(np.asanyarray(image.dataobj))
    nib.save(nib.Nifti1Image(voxels, image.affine if affine is None else affine), path)


def listing(folder: Path) -> dict[str, str]:
    """Everything below a folder, and the folder itself, with the content of files."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in (folder, *folder.rglob("*"))
        if path.exists()
    }
