"""Files that ask for gigabytes or minutes. What a user loses otherwise: the machine, with everybody's work on it."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from bombs import (
    BOMBS,
    deep_zip,
    hidden_deflated_dicom,
    large_png,
    long_named_zip,
    sloped_nifti,
    wide_dicom,
    wide_packed_dicom,
)

from covseg_core.data.library.importing import import_dataset
from covseg_core.data.reading.archives import DEPTH, extract_zip
from covseg_core.data.reading.archives import Limits as ZipLimits
from covseg_core.data.reading.opening import open_scan
from covseg_core.errors import CovsegError, DatasetError, ScanError
from covseg_core.isolation import Limits, isolated, size_of
from covseg_core.prediction.scan import read_scan
from covseg_core.temporary import temporary_root


@pytest.mark.parametrize(
    ("make", "name", "words"),
    [
        (hidden_deflated_dicom, "slice.dcm", "no readable DICOM slices, but 1 damaged file;"),
        (wide_dicom, "slice.dcm", r"slices of 36000 x 36000 pixels in files of 1,\d\d\d bytes"),
        (wide_packed_dicom, "slice.dcm", r"slices of 36000 x 36000 pixels in files of 1,\d\d\d bytes"),
        (sloped_nifti, "ct.nii.gz", r"1024 x 1024 x 1000 voxels \(1,000.0 MiB\); expected at most 858,993,459 voxels"),
        (large_png, "slice.png", "8192 x 8192 pixels; expected at most 16,777,216 pixels"),
        (deep_zip, "scan.zip", "an entry in 1,500 folders; expected at most 32 in each other"),
        (long_named_zip, "scan.zip", "an entry with a name of 60,004 characters; expected at most 255 bytes"),
    ],
)
def test_what_cannot_be_is_seen_before_anything_is_allocated(make, name: str, words: str, tmp_path: Path) -> None:
    make(tmp_path / name)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ScanError, match=words):
        open_scan(tmp_path / name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "KiB"
    assert time.process_time() - started < 5


def test_a_zip_of_as_many_folders_as_allowed_is_unpacked(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as archive:
        archive.writestr("a/" * DEPTH + "x" * 255, b"x")
    assert len(extract_zip(tmp_path / "deep.zip", tmp_path / "out")) == 1


def test_a_zip_of_nothing_but_folders_has_a_limit(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "folders.zip", "w") as archive:
        for number in range(41):
            archive.writestr(f"{number}/", b"")
    with pytest.raises(DatasetError, match="41 entries; expected at most 20 files"):
        extract_zip(tmp_path / "folders.zip", tmp_path / "out", ZipLimits(files=20))


@pytest.mark.parametrize("which", [name for name in BOMBS if name != "packed zip"])
def test_in_another_process_no_bomb_costs_more_than_it_may(which: str, tmp_path: Path) -> None:
    """Goal: 100 MB here, 1.5 GB and 20 s there, one line."""
    name, make = BOMBS[which]
    make(tmp_path / name)
    size = size_of(tmp_path / name)
    assert size < 10e6
    before = psutil.Process().memory_info().rss
    with pytest.raises(CovsegError) as error:
        isolated(read_scan, tmp_path / name, named=name, limits=Limits.of(size))
    assert "\n" not in str(error.value)
    assert psutil.Process().memory_info().rss - before < 100e6
    assert Limits.of(size).memory < 1.6e9
    assert not list(temporary_root().iterdir())


def test_an_import_of_bombs_leaves_nothing(tmp_path: Path, data_folder: Path) -> None:
    deep_zip(tmp_path / "scans.zip")
    with pytest.raises(CovsegError, match="an entry in 1,500 folders"):
        isolated(import_dataset, "x", [tmp_path / "scans.zip"], named="x", limits=Limits.of(10**6))
    assert not [path for path in data_folder.rglob("*") if path.is_file()]


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    deep_zip(tmp_path / "scans.zip")
    command = [sys.executable, "-m", "covseg_core", "data", "add", "new", str(tmp_path / "scans.zip")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "an entry in 1,500 folders; expected at most 32 in each other" in line
