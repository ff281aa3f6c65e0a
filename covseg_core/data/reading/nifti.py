"""Reading NIfTI files byte by byte, so that every damaged or foreign file gives one clear line.

nibabel interprets the header; the voxels are read here, since Intel's ISA-L unpacks gzip three times as fast as zlib
and since a header is not to be believed before the file's size agrees with it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from gzip import BadGzipFile
from io import BufferedIOBase
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from nibabel.spatialimages import HeaderDataError

from covseg_core.errors import ScanError

MAX_BYTES = 4 * 2**30
"""Largest volume that is read: as it is stored, and with four bytes a voxel as it is used. 512 x 512 x 2730 int16."""
_GZIP_RATIO = 1032
"""deflate cannot shrink data further than this."""
_MAX_OFFSET = 2**26
"""Farthest start of the voxels: header extensions are seldom above a few MiB."""
_CHUNK = 2**22
"""Bytes read at once."""
_EXPECTED = "a .nii or .nii.gz file"
_FOREIGN = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"PK\x03\x04": "a zip archive",
    b"NRRD": "an NRRD file",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
}


def read_header(path: Path) -> tuple[nib.Nifti1Header, tuple[int, int, int]]:
    """Header and shape (i, j, k) of a file, without its voxels; raises as `read_nifti` does."""
    with _unpacked(path) as (stream, _):
        header, shape, _, _ = _layout(stream, path)
        return header, shape


def read_nifti(path: Path) -> tuple[nib.Nifti1Header, np.ndarray]:
    """Header and stored values of a single-file NIfTI-1 or NIfTI-2, packed or not (by content, not by name).

    Returns
    -------
    header : Nifti1Header or Nifti2Header
    stored : (i, j, k) in the file's type and byte order, Fortran order, not scaled

    Raises
    ------
    ScanError : the file is missing, unreadable, damaged, not NIfTI, not 3-D, or not of real numbers
    """
    with _unpacked(path) as (stream, limit):
        header, shape, dtype, offset = _layout(stream, path)
        size = math.prod(shape) * dtype.itemsize
        claim = f"the header promises {' x '.join(map(str, shape))} voxels ({size / 2**20:,.1f} MiB)"
        if size + 4 * math.prod(shape) > MAX_BYTES:
            most = MAX_BYTES // (dtype.itemsize + 4)
            raise ScanError(path, claim, f"at most {most:,} voxels of this type")
        if offset + size > limit:
            raise ScanError(path, f"{claim}, more than the file can hold", "a complete file")
        stream.read(offset - len(header.binaryblock))
        stored = np.empty(shape, dtype, order="F")
        done = _fill(stored.reshape(-1, order="F").view(np.uint8).data, stream)
        if done < size:
            raise ScanError(path, f"{claim}, the file ends after {done:,} of {size:,} bytes", "a complete file")
        _check_end(stream, size // shape[2], claim, path)
    return header, stored


def affine_of(header: nib.Nifti1Header, path: Path) -> np.ndarray:
    """Affine of a header: the sform if set and usable, else the qform; with neither set, from voxel sizes alone.

    Returns
    -------
    affine : (4, 4) float64, file index (i, j, k) -> RAS+ position [mm]

    Raises
    ------
    ScanError : all that is set has a zero or non-finite axis, or axes in one plane
    """
    coded = {"sform": header["sform_code"] > 0, "qform": header["qform_code"] > 0}
    for name in [name for name in coded if coded[name]] or ["base_affine"]:
        try:
            affine = np.asarray(getattr(header, f"get_{name}")(), np.float64)
        except (HeaderDataError, ValueError):
            continue
        if np.isfinite(affine).all():
            sizes = nib.affines.voxel_sizes(affine)
            if (sizes > 0).all() and abs(np.linalg.det(affine[:3, :3] / sizes)) > 1e-3:
                return affine
    raise ScanError(path, "the header gives no usable affine", "three axes of voxels larger than 0 mm")


def scaled(stored: np.ndarray, header: nib.Nifti1Header, path: Path) -> np.ndarray:
    """Stored values times the header's slope plus its intercept, in the smallest type that holds them.

    Parameters
    ----------
    stored : (a, b, c) any integer or float type, byte order and strides

    Returns
    -------
    values : (a, b, c) C order; uint8, int16 or int32 if integers stay whole, else float32

    Raises
    ------
    ScanError : NaN or infinite values
    """
    slope, intercept = header.get_slope_inter()
    slope, intercept = (1.0, 0.0) if slope is None else (float(slope), float(intercept))
    kind = _integer_type(stored, slope, intercept)
    result = np.empty(stored.shape, kind or np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found as infinite
        for index, (plane, source) in enumerate(zip(result, stored, strict=True)):
            if (slope, intercept) == (1.0, 0.0):
                plane[...] = source
            elif kind:
                plane[...] = source.astype(np.int64) * int(slope) + int(intercept)
            else:
                plane[...] = source.astype(np.float64) * slope + intercept
            if kind is None and not np.isfinite(plane).all():
                raise ScanError(path, f"NaN or infinite values (first in slice {index})", "finite values")
    return result


@contextmanager
def _unpacked(path: Path) -> Iterator[tuple[BufferedIOBase, int]]:
    """The file's content as a stream, and the most bytes it can hold; what goes wrong inside becomes a `ScanError`."""
    try:
        if path.is_dir():
            raise ScanError(path, "a folder", _EXPECTED)
        if path.exists() and not path.is_file():
            raise ScanError(path, "not a regular file", _EXPECTED)
        with open(path, "rb") as handle:
            packed = handle.read(2) == b"\x1f\x8b"
            handle.seek(0)
            limit = path.stat().st_size * (_GZIP_RATIO if packed else 1)
            yield (igzip.IGzipFile(fileobj=handle) if packed else handle), limit
    except FileNotFoundError:
        raise ScanError(path, "no such file", _EXPECTED) from None
    except (EOFError, zlib.error, BadGzipFile, IsalError) as error:  # type: ignore[misc] # the stub hides the class
        raise ScanError(path, f"truncated or damaged gzip data ({error})", "a complete file") from None
    except OSError as error:
        raise ScanError(path, f"cannot be read ({error.strerror or error})") from None


def _layout(stream: BufferedIOBase, path: Path) -> tuple[nib.Nifti1Header, tuple[int, int, int], np.dtype, int]:
    """Header, shape and type of the voxels, and the byte they start at."""
    header = _header(stream, path)
    dtype = _dtype(header, path)
    try:
        offset = max(int(header["vox_offset"]), len(header.binaryblock) + 4)
        shape = _three(header.get_data_shape(), path)
        header.get_slope_inter()
        if offset > _MAX_OFFSET:
            raise ValueError(f"voxels start at byte {offset:,}")
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise ScanError(path, f"NIfTI header with wrong values ({error})", "a valid header") from None
    return header, shape, dtype, offset


def _fill(body: memoryview, stream: BufferedIOBase) -> int:
    """Read until `body` is full or the stream ends; returns the bytes read."""
    done = 0
    while done < len(body) and (count := stream.readinto(body[done : done + _CHUNK])):
        done += count
    return done


def _header(stream: BufferedIOBase, path: Path) -> nib.Nifti1Header:
    """The header at the start of the stream, which must be that of a single-file NIfTI."""
    start = stream.read(348)
    sizes = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    if 348 in sizes and start[344:348] == b"n+1\0":
        return nib.Nifti1Header(start, check=False)
    if 348 in sizes and start[344:348] == b"ni1\0":
        raise ScanError(path, "the header of a NIfTI pair (.hdr and .img)", _EXPECTED)
    if 540 in sizes and start[4:8] == b"n+2\0" and len(start := start + stream.read(540 - 348)) == 540:
        return nib.Nifti2Header(start, check=False)
    foreign = "a DICOM file" if start[128:132] == b"DICM" else "an empty file" if not start else ""
    foreign = foreign or next((kind for magic, kind in _FOREIGN.items() if start.startswith(magic)), "")
    raise ScanError(path, f"not NIfTI{f' but {foreign}' if foreign else ''}", _EXPECTED)


def _dtype(header: nib.Nifti1Header, path: Path) -> np.dtype:
    """Type of the stored voxels, in their byte order; integers and floats only."""
    try:
        dtype = header.get_data_dtype()
    except KeyError:
        dtype = np.dtype("V")
    if dtype.kind not in "iuf":
        raise ScanError(path, f"voxels of type {header.get_value_label('datatype')}", "one real number a voxel")
    return dtype


def _three(shape: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    """Three lengths, all above 0: further axes of length 1 are dropped, a 2-D image is one slice."""
    text = " x ".join(map(str, shape))
    if min(shape, default=0) < 1:
        raise ScanError(path, f"no voxels ({text or 'no axes'})", "at least one slice")
    if len(shape) < 2 or math.prod(shape[3:]) > 1:
        raise ScanError(path, f"{len(shape)} dimensions ({text})", "3 dimensions")
    i, j, k = (*shape, 1)[:3]
    return i, j, k


def _check_end(stream: BufferedIOBase, plane: int, claim: str, path: Path) -> None:
    """Read what follows the voxels, which also checks the gzip checksum; a whole plane of it means a wrong header."""
    extra = 0
    while chunk := stream.read(2**16):
        extra += len(chunk)
        if extra >= plane:
            raise ScanError(path, f"{claim}, but data for more slices follow", "a header that fits the data")


def _integer_type(stored: np.ndarray, slope: float, intercept: float) -> type[np.integer] | None:
    """uint8, int16 or int32 if it holds all scaled values exactly, else None."""
    if stored.dtype.kind not in "iu" or not (slope.is_integer() and intercept.is_integer()):
        return None
    if (slope, intercept) == (1.0, 0.0) and stored.dtype.newbyteorder("=") in (np.uint8, np.int16):
        return stored.dtype.newbyteorder("=").type
    ends = [int(end) * int(slope) + int(intercept) for end in (stored.min(), stored.max())]
    kinds: tuple[type[np.integer], ...] = (np.int16, np.int32)
    if stored.dtype == np.uint8:
        kinds = (np.uint8, *kinds)
    return next((kind for kind in kinds if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max), None)
