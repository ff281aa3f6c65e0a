"""Reading NIfTI files byte by byte, so that every damaged or foreign file gives one clear line.

nibabel interprets the header; the voxels are read here, since Intel's ISA-L unpacks gzip three times as fast as zlib
and since a header is not to be believed before the file's size agrees with it.
"""

from __future__ import annotations

import math
import zlib
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
"""Largest volume that is read: 512 x 512 x 8192 voxels of int16."""
_GZIP_RATIO = 1032
"""deflate cannot shrink data further than this."""
_MAX_OFFSET = 2**26
"""Farthest start of the voxels: header extensions are seldom above a few MiB."""
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
    if path.is_dir():
        raise ScanError(path, "a folder", _EXPECTED)
    if path.exists() and not path.is_file():
        raise ScanError(path, "not a regular file", _EXPECTED)
    try:
        with open(path, "rb") as handle:
            packed = handle.read(2) == b"\x1f\x8b"
            handle.seek(0)
            limit = path.stat().st_size * (_GZIP_RATIO if packed else 1)
            return _read(igzip.IGzipFile(fileobj=handle) if packed else handle, limit, path)
    except FileNotFoundError:
        raise ScanError(path, "no such file", _EXPECTED) from None
    except (EOFError, zlib.error, BadGzipFile, IsalError) as error:  # type: ignore[misc] # the stub hides the class
        raise ScanError(path, f"truncated or damaged gzip data ({error})", "a complete file") from None
    except OSError as error:
        raise ScanError(path, f"cannot be read ({error.strerror or error})") from None


def _read(stream: BufferedIOBase, limit: int, path: Path) -> tuple[nib.Nifti1Header, np.ndarray]:
    """Read header and voxels from an unpacked stream that holds at most `limit` bytes."""
    header = _header(stream, path)
    length = len(header.binaryblock)
    dtype = _dtype(header, path)
    try:
        offset = max(int(header["vox_offset"]), length + 4)
        shape = _three(header.get_data_shape(), path)
        header.get_slope_inter()
        if offset > _MAX_OFFSET:
            raise ValueError(f"voxels start at byte {offset:,}")
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise ScanError(path, f"NIfTI header with wrong values ({error})", "a valid header") from None
    size = math.prod(shape) * dtype.itemsize
    claim = f"the header promises {' x '.join(map(str, shape))} voxels ({size / 2**20:,.1f} MiB)"
    if size > MAX_BYTES:
        raise ScanError(path, claim, f"at most {MAX_BYTES // 2**20:,} MiB")
    if offset + size > limit:
        raise ScanError(path, f"{claim}, more than the file can hold", "a complete file")
    stream.read(offset - length)
    stored = np.empty(shape, dtype, order="F")
    body = stored.reshape(-1, order="F").view(np.uint8).data
    done = 0
    while done < size:
        count = stream.readinto(body[done : done + 2**22])
        if not count:
            raise ScanError(path, f"{claim}, the file ends after {done:,} of {size:,} bytes", "a complete file")
        done += count
    _check_end(stream, size // shape[2], claim, path)
    return header, stored


def _header(stream: BufferedIOBase, path: Path) -> nib.Nifti1Header:
    """The header at the start of the stream, which must be that of a single-file NIfTI."""
    start = stream.read(348)
    length = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    if 348 in length and start[344:348] == b"n+1\0":
        return nib.Nifti1Header(start, check=False)
    if 348 in length and start[344:348] == b"ni1\0":
        raise ScanError(path, "the header of a NIfTI pair (.hdr and .img)", _EXPECTED)
    if 540 in length and start[4:8] == b"n+2\0" and len(start := start + stream.read(540 - 348)) == 540:
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
