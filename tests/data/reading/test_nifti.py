"""Bad files. If this fails, a damaged file is believed, fills the memory, or ends in a traceback."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from niftis import LPS, noise, patch, write

from covseg_core.data.reading.volumes import load_scan
from covseg_core.errors import ScanError


def _truncated_gzip(path: Path) -> None:
    content = write(path, noise()).read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def _damaged_gzip(path: Path) -> None:
    content = bytearray(write(path, noise()).read_bytes())
    content[-6] ^= 255  # in the checksum: every voxel can be read, and none be trusted
    path.write_bytes(content)


def _scrambled_gzip(path: Path) -> None:
    content = bytearray(write(path, noise((40, 40, 40))).read_bytes())
    content[400:900] = bytes(500)
    path.write_bytes(content)


def _plain(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        change(write(path.with_suffix(""), noise()))
        shutil.move(path.with_suffix(""), path)

    return make


def _colour(path: Path) -> None:
    rgb = np.zeros((12, 10, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(rgb, LPS), path)


def _with(value: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        values = noise(kind=np.float32)
        values[3, 4, 2] = value
        write(path, values)

    return make


def _foreign(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


BAD = {
    "truncated gzip": (_truncated_gzip, "truncated or damaged gzip"),
    "wrong checksum": (_damaged_gzip, "truncated or damaged gzip"),
    "scrambled gzip": (_scrambled_gzip, "truncated or damaged gzip"),
    "truncated, not packed": (_plain(lambda p: p.write_bytes(p.read_bytes()[:-100])), "more than the file can hold"),
    "packed, fewer voxels": (
        lambda p: p.write_bytes(gzip.compress(write(p.with_suffix(""), noise()).read_bytes()[:-100], 0)),
        "the file ends after 1,340 of 1,440 bytes",
    ),
    "more voxels than the header says": (_plain(lambda p: patch(p, 46, "<h", 4)), "data for more slices follow"),
    "huge": (
        _plain(lambda p: patch(p, 42, "<hhh", 30000, 30000, 30000)),
        "expected at most 715,827,882 voxels",
    ),
    "larger than the file": (_plain(lambda p: patch(p, 42, "<hhh", 512, 512, 300)), "more than the file can hold"),
    "4-D": (lambda p: write(p, noise((8, 8, 4, 2))), "4 dimensions (8 x 8 x 4 x 2); expected 3 dimensions"),
    "1-D": (lambda p: write(p, noise((8,))), "1 dimensions"),
    "zero slices": (_plain(lambda p: patch(p, 46, "<h", 0)), "no voxels (12 x 10 x 0)"),
    "negative length": (_plain(lambda p: patch(p, 42, "<h", -12)), "no voxels"),
    "no axes": (_plain(lambda p: patch(p, 40, "<h", 0)), "no voxels"),
    "absurd number of axes": (_plain(lambda p: patch(p, 40, "<h", 9000)), ""),
    "unknown type": (_plain(lambda p: patch(p, 70, "<h", 77)), "voxels of type <unknown code 77>"),
    "voxels nowhere": (_plain(lambda p: patch(p, 108, "<f", np.nan)), "NIfTI header with wrong values"),
    "voxels far away": (_plain(lambda p: patch(p, 108, "<f", 1e9)), "NIfTI header with wrong values"),
    "infinite slope": (_plain(lambda p: patch(p, 112, "<ff", 1, np.inf)), "NIfTI header with wrong values"),
    "NaN": (_with(np.nan), "NaN or infinite values (first in slice 2)"),
    "infinite": (_with(np.inf), "NaN or infinite values"),
    "too large for float32": (lambda p: write(p, noise(kind=np.float64) * 1e300), "NaN or infinite values"),
    "colour": (_colour, "RGB"),
    "complex": (lambda p: write(p, noise().astype(np.complex64)), "complex"),
    "constant": (lambda p: write(p, np.full((12, 10, 6), -1000, np.int16)), "every voxel is -1000"),
    "metres": (lambda p: write(p, noise(), LPS / 1000), "voxels of 0.0007 x 0.0007 x 0.0025 mm"),
    "no voxel size": (
        _plain(lambda p: patch(patch(p, 80, "<3f", 0, 0, 0), 252, "<hh", 0, 0)),
        "no usable affine",
    ),
    "singular affine": (_plain(lambda p: patch(p, 280, "<4f", 0, 0, 0, 0)), "no usable affine"),
    "axes in one plane": (
        _plain(lambda p: patch(p, 296, "<8f", 0, -0.7, 0.5, 90, 0, 0, 0, 0)),
        "no usable affine",
    ),
    "one coronal slice": (lambda p: write(p, noise((12, 1, 10))), "axial slices of 1 x 12 voxels"),
    "empty": (_foreign(b""), "an empty file"),
    "half a header": (_foreign(struct.pack("<i", 348) + bytes(100)), "not NIfTI"),
    "text": (_foreign(b"hello" * 200), "not NIfTI; expected a .nii or .nii.gz file"),
    "packed text": (_foreign(gzip.compress(b"hello" * 200)), "not NIfTI"),
    "PNG": (_foreign(b"\x89PNG\r\n" + bytes(500)), "a PNG image"),
    "DICOM": (_foreign(bytes(128) + b"DICM" + bytes(500)), "a DICOM file"),
    "LFS pointer": (_foreign(b"version https://git-lfs.github.com/spec/v1\n"), "a Git LFS pointer"),
    "web page": (_foreign(b"<!DOCTYPE html>" + bytes(500)), "a web page"),
    "folder": (Path.mkdir, "a folder"),
    "missing": (lambda p: None, "no such file"),
    "circular link": (lambda p: p.symlink_to(p), "cannot be read"),
    "pipe": (os.mkfifo, "not a regular file"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_gives_one_line_with_its_name(tmp_path: Path, case: str) -> None:
    make, message = BAD[case]
    path = tmp_path / "ct.nii.gz"
    make(path)
    with pytest.raises(ScanError) as caught:
        load_scan(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_analyze_pairs_are_refused_by_name(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(noise(), LPS), tmp_path / "ct.hdr")
    with pytest.raises(ScanError, match="NIfTI pair"):
        load_scan(tmp_path / "ct.hdr")


def test_a_name_that_no_file_can_have_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="cannot be read \\(File name too long\\)"):
        load_scan(tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_gives_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.nii", noise())
    path.chmod(0)
    with pytest.raises(ScanError, match="cannot be read"):
        load_scan(path)
