"""Prepared slices on disk, so that reading, windowing and resizing a scan is paid once.

One file for each scan or mask and each way of preparing it, under `<data>/cache/<key>/`. The key is a SHA-256 over
everything that changes a pixel, so nothing is ever out of date, and an entry can be deleted at any time. Files are
written beside their place and renamed: two processes may prepare the same case at once. Each file ends with a checksum
of its pixels; what does not match is built again.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
from numpy.lib import format as npy

from covseg_core.config import PrepareConfig, Target
from covseg_core.data.reading.volumes import load_geometry, load_mask, load_scan
from covseg_core.data.slices.context import with_context
from covseg_core.data.slices.intensity import to_uint8
from covseg_core.data.slices.lungs import MARGIN, REACH, case_box, case_lungs, lungs_hash, near_lungs
from covseg_core.data.slices.originals import present, unchanged
from covseg_core.data.slices.slices import Grid, to_images, to_masks
from covseg_core.errors import CovsegError, DatasetError
from covseg_core.files import atomic_path
from covseg_core.paths import data_root
from covseg_core.progress import Progress

if TYPE_CHECKING:
    from covseg_core.data.library.datasets import Case, Dataset

What = Literal["images", "infection", "lung", "near_lungs"]

CACHE_VERSION = 1
"""Raise when the same scan and configuration give other pixels than before."""
_THREADS = 2
"""Files read at once; each is resized in threads of its own, so more would mostly cost memory."""


def prepared(dataset: Dataset, case: Case, prepare: PrepareConfig, what: What) -> np.ndarray:
    """Slices of a case, from the cache or built now.

    Parameters
    ----------
    dataset, case : where the files are
    prepare : size, window and resize
    what : the scan's images, one of its masks, or where infection is looked for with `prepare.region = lungs`

    Returns
    -------
    slices : (Z, S, S) uint8, memory-mapped, read-only; 0..255 for images, 0 and 1 for masks; radiological view

    Raises
    ------
    DatasetError : the case has no such mask, or its file is missing or not the one that was imported
    ScanError : the file cannot be read
    CovsegError : the cache cannot be written, such as on a full disk
    """
    path = cache_path(dataset, case, prepare, what)
    shape = (case.shape[0], prepare.size, prepare.size)
    slices = _read(path, shape)
    if slices is None:
        _write(path, _build(dataset, case, prepare, what))
        slices = _read(path, shape)
        if slices is None:
            raise CovsegError(path, "reads back as something else than was written", "a disk that works")
    return slices


def network_images(dataset: Dataset, case: Case, prepare: PrepareConfig, zs: Sequence[int]) -> np.ndarray:
    """Slices of a case as a network is shown them, from the cache or built now; raises as `prepared`.

    Returns
    -------
    (n, S, S) uint8, or (n, S, S, 2k + 1) with a context of k
    """
    images = prepared(dataset, case, prepare, "images")
    return with_context(images, zs, prepare, case.spacing[0] if case.spacing_known else None, case.stacked)


def prepare_dataset(
    dataset: Dataset, prepare: PrepareConfig, target: Target = "infection", progress: Progress | None = None
) -> None:
    """Fill the cache with the images and masks that it lacks, of all cases that have the target's mask.

    Whether a file that is there is whole is seen when it is used. `progress` counts files to be made; none, no call.
    """
    cases = [case for case in dataset.cases if target in case.files]
    whats: tuple[What, ...] = ("images", target)
    todo = [(case, what) for case in cases for what in whats if not cache_path(dataset, case, prepare, what).exists()]
    with ThreadPoolExecutor(_THREADS) as pool:
        jobs = [pool.submit(prepared, dataset, case, prepare, what) for case, what in todo]
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                job.result()
                if progress is not None:
                    progress(done, len(jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def case_grid(dataset: Dataset, case: Case, prepare: PrepareConfig) -> Grid:
    """How the case's axial planes map to its prepared slices, and back; raises as `lungs.case_box`."""
    box = case_box(dataset, case) if prepare.region == "lungs" else None
    return Grid(case.shape[1:], case.spacing[1:], prepare.size, prepare.resize, box)


def cache_path(dataset: Dataset, case: Case, prepare: PrepareConfig, what: What) -> Path:
    """Where the slices are kept; images do not depend on labels, nor masks on the window.

    Raises
    ------
    DatasetError : the case has no such mask, or nothing is known of its lungs where slices are cut to them
    """
    role = "scan" if what in ("images", "near_lungs") else what
    if role not in case.files:
        raise DatasetError(f"case {case.id}", f"no {what} mask", f"a case with a mask of the {what}")
    parts: list[object] = [
        CACHE_VERSION,
        what,
        case.sha256[role],
        case.shape,
        case.spacing,
        prepare.size,
        prepare.resize,
    ]
    if what == "images":
        parts += [case.scale, [float(end) for end in prepare.window]]
    elif what == "near_lungs":
        parts += [lungs_hash(case), MARGIN, REACH]
    else:
        parts += [case.sha256["scan"], case.labels if what == "infection" else None]
    if (box := case_grid(dataset, case, prepare).box) is not None:
        parts += [box.rows, box.columns]
    key = hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
    return data_root() / "cache" / key / f"{what}.npy"


def _build(dataset: Dataset, case: Case, prepare: PrepareConfig, what: What) -> np.ndarray:
    grid = case_grid(dataset, case, prepare)
    if what == "near_lungs":
        return near_lungs(case_lungs(dataset, case), grid)
    if what == "images":
        scan = load_scan(unchanged(dataset, case, "scan"))
        return to_images(to_uint8(scan.voxels, case.scale, prepare.window), grid)
    labels = case.labels if what == "infection" else None
    # only the header of the scan is read, for masks that have no position of their own
    like = load_geometry(present(dataset, case, "scan"))
    return to_masks(load_mask(unchanged(dataset, case, what), labels, like=like).voxels, grid)


def _write(path: Path, slices: np.ndarray) -> None:
    """An `.npy` file with 4 bytes more: the CRC-32 of the pixels."""
    slices = np.ascontiguousarray(slices, np.uint8)
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as handle:
            npy.write_array_header_1_0(handle, npy.header_data_from_array_1_0(slices))
            handle.write(slices.data)  # unlike tofile, says why it fails
            handle.write(_checksum(slices))
    except OSError as error:
        raise CovsegError(path, f"cannot write the slice cache ({error.strerror or error})", "room on disk") from error


def _read(path: Path, shape: tuple[int, int, int]) -> np.ndarray | None:
    """The file's slices, or None if there is no such file or it is not whole."""
    try:
        slices = np.load(path, mmap_mode="r", allow_pickle=False)
        with open(path, "rb") as handle:
            handle.seek(-4, os.SEEK_END)
            checksum = handle.read()
    except (OSError, ValueError, EOFError):
        return None
    whole = slices.shape == shape and slices.dtype == np.uint8 and checksum == _checksum(slices)
    return slices if whole else None


def _checksum(slices: np.ndarray) -> bytes:
    return zlib.crc32(slices.data).to_bytes(4, "little")
