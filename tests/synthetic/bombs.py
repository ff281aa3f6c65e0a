"""Files of a few MB that ask for gigabytes or minutes: what a stranger may send."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

_ZEROS = bytes(2**24)
_CT = b"1.2.840.10008.5.1.4.1.1.2"


def _element(group: int, element: int, kind: bytes, value: bytes) -> bytes:
    """A DICOM element, explicit and little endian."""
    value += b"\0" * (len(value) % 2)
    long = kind in (b"OB", b"OW", b"UN")
    length = struct.pack("<2xI", len(value)) if long else struct.pack("<H", len(value))
    return struct.pack("<HH", group, element) + kind + length + value


def _dicom(syntax: bytes, body: bytes, version: bytes = b"\0\1") -> bytes:
    """A DICOM file; the version of its head may be as long as one likes."""
    head = _element(2, 1, b"OB", version) + _element(2, 2, b"UI", _CT) + _element(2, 0x10, b"UI", syntax)
    return bytes(128) + b"DICM" + _element(2, 0, b"UL", struct.pack("<I", len(head))) + head + body


def _slice(rows: int, columns: int, pixels: bytes, z: float = 0.0) -> bytes:
    """The elements of a CT slice."""
    return b"".join(
        [
            _element(8, 0x16, b"UI", _CT),
            _element(8, 0x60, b"CS", b"CT"),
            _element(0x20, 0xE, b"UI", b"1.2.3"),
            _element(0x20, 0x32, b"DS", b"0\\0\\%d" % z),
            _element(0x20, 0x37, b"DS", b"1\\0\\0\\0\\1\\0"),
            _element(0x28, 2, b"US", struct.pack("<H", 1)),
            _element(0x28, 4, b"CS", b"MONOCHROME2"),
            _element(0x28, 0x10, b"US", struct.pack("<H", rows)),
            _element(0x28, 0x11, b"US", struct.pack("<H", columns)),
            _element(0x28, 0x30, b"DS", b"1\\1"),
            _element(0x28, 0x100, b"US", struct.pack("<H", 16)),
            _element(0x28, 0x101, b"US", struct.pack("<H", 16)),
            _element(0x28, 0x102, b"US", struct.pack("<H", 15)),
            _element(0x28, 0x103, b"US", struct.pack("<H", 1)),
            _element(0x7FE0, 0x10, b"OW", pixels),
        ]
    )


def hidden_deflated_dicom(path: Path, mb: int = 2) -> None:
    """A long version pushes the transfer syntax behind the first kilobyte; the rest unpacks to a thousand times."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = packer.compress(_slice(64, 64, bytes(8192))) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(_ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)  # these bytes can follow themselves
    packed = start + zeros * (mb * 10**6 // len(zeros)) + packer.flush()
    path.write_bytes(_dicom(b"1.2.840.10008.1.2.1.99", packed, bytes(4096)))


def wide_dicom(path: Path, mb: int = 0) -> None:
    """A slice of 36,000 x 36,000 pixels in a kilobyte and a half."""
    path.write_bytes(_dicom(b"1.2.840.10008.1.2.1", _slice(36_000, 36_000, bytes(600)), bytes(128)))


def wide_packed_dicom(path: Path, mb: int = 0) -> None:
    """The same, said to be JPEG 2000."""
    path.write_bytes(_dicom(b"1.2.840.10008.1.2.4.90", _slice(36_000, 36_000, bytes(600)), bytes(128)))


def _nifti(path: Path, shape: tuple[int, int, int], kind: type, slope: float) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(kind)
    header.set_data_shape(shape)
    header.set_zooms((0.7, 0.7, 0.5))
    header.set_slope_inter(slope, 0)
    header["magic"], header["vox_offset"] = b"n+1", 352
    left = int(np.prod([float(side) for side in shape])) * np.dtype(kind).itemsize
    members = [header.binaryblock + bytes(4), _ZEROS, bytes(left % len(_ZEROS))]
    start, zeros, end = (gzip.compress(member, 9) for member in members)
    path.write_bytes(start + zeros * (left // len(_ZEROS)) + end)


def sloped_nifti(path: Path, mb: int = 1) -> None:
    """Bytes with a slope of 0.5, which become floats: a MB, a GB, and four."""
    _nifti(path, (1024, 1024, 1000 * mb), np.uint8, 0.5)


def tall_nifti(path: Path, mb: int = 2) -> None:
    """Within all limits of size, and still two GB for one and a half MB."""
    _nifti(path, (512, 512, 1350), np.float32, 1)


def large_png(path: Path, mb: int = 0) -> None:
    """8192 x 8192 grey pixels with colours in 200 KB."""
    _png(path, 8192)


def largest_png(path: Path, mb: int = 0) -> None:
    """As large as is allowed."""
    _png(path, 4096)


def _png(path: Path, side: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 3 * side)) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def deep_zip(path: Path, mb: int = 0) -> None:
    """A file in 1,500 folders."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/" * 1500 + "ct.nii", b"x")


def long_named_zip(path: Path, mb: int = 0) -> None:
    """A name that no file system takes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a" * 60_000 + ".nii", b"x")


def packed_zip(path: Path, mb: int = 0) -> None:
    """One NIfTI file of five GB, as its directory says, which is what counts: nobody reads further than that."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ct.nii", _ZEROS)
        archive.getinfo("ct.nii").file_size = 5 * 2**30


BOMBS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "hidden deflated DICOM": ("slice.dcm", hidden_deflated_dicom),
    "wide DICOM": ("slice.dcm", wide_dicom),
    "wide packed DICOM": ("slice.dcm", wide_packed_dicom),
    "sloped NIfTI": ("ct.nii.gz", sloped_nifti),
    "tall NIfTI": ("ct.nii.gz", tall_nifti),
    "large PNG": ("slice.png", large_png),
    "largest PNG": ("slice.png", largest_png),
    "deep zip": ("scans.zip", deep_zip),
    "zip with a long name": ("scans.zip", long_named_zip),
    "packed zip": ("scans.zip", packed_zip),
}
"""File name and maker of each, in order of how fast they are made."""
