"""Which scans lie below a path. What a user loses otherwise: a patient who is not in the table, and nobody notices."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
from chests import chest, save_scan
from cohorts import save_localiser, save_scans, save_series
from PIL import Image

from covseg_core.errors import ScanError
from covseg_core.prediction.cohort.found import finding
from covseg_core.prediction.cohort.names import name_scans, number_patients
from covseg_core.temporary import temporary_root


def names(*paths: Path, leave_out: Path | None = None, pseudonyms: bool = False) -> list[str]:
    with finding(paths, leave_out) as found:
        return name_scans(found.scans, {}, (), pseudonyms)


def test_scans_are_found_at_any_depth_and_masks_are_passed_over(tmp_path: Path) -> None:
    save_scans(tmp_path / "in" / "deep" / "er", 10, 20)
    for name in ("case_7/ct.nii.gz", "case_7/infection_mask.nii.gz", "case_7/lung_mask.nii.gz", "a_mask.nii.gz"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        save_scan(tmp_path / "in" / name, chest())
    (tmp_path / "in" / "notes.txt").write_text("nothing")
    with finding([tmp_path / "in"]) as found:
        assert name_scans(found.scans, {}, (), False) == ["case_7", "scan1", "scan2"]
        assert found.notes == ("3 masks passed over, by the names of files and folders", "1 file that is no scan")
        assert all(scan.digest() == scan.open().sha256 for scan in found.scans)
    assert names(tmp_path / "in", pseudonyms=True) == ["scan-001", "scan-002", "scan-003"]


def test_three_scans_among_ten_thousand_files(tmp_path: Path) -> None:
    scans = save_scans(tmp_path / "disc", 1, 2, 3)
    for number in range(10_000):
        (tmp_path / "disc" / f"{number}.dat").touch()
    with finding([tmp_path / "disc"]) as found:
        assert [scan.path for scan in found.scans] == scans
        assert found.notes == ("10,000 files that are no scan",)


def test_what_is_found_by_two_paths_is_one_scan(tmp_path: Path) -> None:
    scans = save_scans(tmp_path / "a", 1, 2)
    assert names(tmp_path, scans[1], tmp_path / "a") == ["scan1", "scan2"]


def test_scans_of_one_name_get_names_of_their_own(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save_scans(tmp_path / folder, 1)
    assert names(tmp_path / "a" / "scan1.nii.gz", tmp_path / "b" / "scan1.nii.gz") == ["scan1", "scan1-2"]
    save_scan(tmp_path / "ct.nii.gz", chest())
    save_scan(tmp_path / "Scan1.nii.gz", chest())
    assert names(tmp_path / "ct.nii.gz", tmp_path / "a", tmp_path / "Scan1.nii.gz")[1:] == ["scan1", "Scan1-2"], (
        "some disks know no difference"
    )


def test_results_are_no_scans(tmp_path: Path) -> None:
    """A second call on the folder that holds the results of the first must not predict masks."""
    save_scans(tmp_path, 1)
    save_scans(tmp_path / "out" / "x", 1)
    (tmp_path / "old").mkdir()
    for name in ("mask.nii.gz", "lung_mask.nii.gz", "disagreement.nii.gz"):
        save_scan(tmp_path / "old" / name, chest())
    (tmp_path / "old" / "report.json").write_text("{}")
    with finding([tmp_path], tmp_path / "out") as found:
        assert len(found.scans) == 1
        assert "3 masks passed over" in found.notes[0]


def test_series_of_many_patients(tmp_path: Path) -> None:
    """In one tree, as a hospital's disc has them; nothing that names anybody is their name."""
    root = tmp_path / "disc"
    save_series(root / "DOE" / "S1", 10, "doe", "20200401")
    save_series(root / "DOE" / "S2", 20, "doe", "20200411")
    save_series(root / "ROE" / "S1", 30, "roe", "20200405")
    save_localiser(root / "ROE" / "S0", "roe")
    save_series(root / "ROE" / "S3", 30, "roe", "20200405", PixelSpacing=None)
    (root / "LOST").mkdir()
    (root / "LOST" / "1.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 64)
    with finding([root]) as found:
        usable = [scan for scan in found.scans if not scan.problem]
        people = number_patients(usable, ["", "", ""])
        assert sorted(people) == [("patient-1", 0), ("patient-1", 10), ("patient-2", 0)] or sorted(people) == [
            ("patient-1", 0),
            ("patient-2", 0),
            ("patient-2", 10),
        ]
        problems = sorted(scan.problem for scan in found.scans if scan.problem)
        assert problems[0].startswith("no readable DICOM slices, but 1 damaged file")
        assert problems[1] == "slices without position, direction or pixel size"
        assert found.notes == ("1 DICOM series passed over: a localiser (overview picture) (1)",)
        called = name_scans(found.scans, {}, (), False)
        assert all(name.startswith("series-") or name == "damaged" for name in called)
        assert usable[0].digest() == usable[0].open().sha256
        assert usable[0].open().warnings == (), "the other series are scans of their own, not passed over"


def test_a_series_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    save_series(tmp_path / "a", 10, "doe", "20200401")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with finding([tmp_path]) as found:
        assert len(found.scans) == 1
    with finding([tmp_path / "a", tmp_path / "b"]) as found:
        assert len({scan.digest() for scan in found.scans}) == 1


def test_zips_are_unpacked_for_as_long_as_they_are_needed(tmp_path: Path) -> None:
    save_series(tmp_path / "p1" / "dicom", 10, "doe", "20200401")
    save_scans(tmp_path / "p2" / "nifti", 10, 20)
    (tmp_path / "in").mkdir()
    for name in ("p1", "p2"):
        shutil.make_archive(str(tmp_path / "in" / name), "zip", tmp_path / name)
    (tmp_path / "in" / "broken.zip").write_bytes(b"PK\x03\x04 and nothing more")
    with finding([tmp_path / "in"]) as found:
        assert [bool(scan.problem) for scan in found.scans] == [True, False, False, False]
        assert found.scans[0].problem.startswith("not a zip, or damaged")
        assert all(scan.open().volume.voxels.shape == (6, 48, 48) for scan in found.scans[1:])
        first = [(scan.place, scan.stamp) for scan in found.scans]
        assert all(str(temporary_root()) not in place for place, _ in first)
    assert not list(temporary_root().iterdir())
    with finding([tmp_path / "in"]) as found:
        assert [(scan.place, scan.stamp) for scan in found.scans] == first, "they are known again"
    with zipfile.ZipFile(tmp_path / "in" / "p2.zip", "a") as archive:
        archive.writestr("more.txt", "changed")
    with finding([tmp_path / "in"]) as found:
        assert [scan.stamp for scan in found.scans] != [stamp for _, stamp in first]


def test_pictures_count_where_there_is_nothing_better(tmp_path: Path) -> None:
    """A disc's logo is no scan, a folder of exported slices is nothing else."""
    picture = Image.fromarray((chest()[..., 3].T / 8 + 128).astype("uint8"))
    for name in ("slices/a.png", "slices/b.jpg", "disc/logo.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture.save(tmp_path / name)
    save_scans(tmp_path / "disc", 1)
    assert names(tmp_path / "slices") == ["a", "b"]
    assert names(tmp_path / "disc") == ["scan1"]
    assert names(tmp_path / "disc" / "logo.png") == ["logo"]


def test_where_there_is_no_scan_the_error_says_what_there_is(tmp_path: Path) -> None:
    save_scan(tmp_path / "a_mask.nii.gz", chest())
    (tmp_path / "x.txt").touch()
    with pytest.raises(ScanError, match="no scan, but 1 mask passed over, .*; 1 file that is no scan; expected NIfTI"):
        names(tmp_path)
    with pytest.raises(ScanError, match="no such file or folder"):
        names(tmp_path / "nowhere")


def test_patients_keep_their_numbers(tmp_path: Path) -> None:
    """A second call with one more patient must not call the first by another number."""
    save_series(tmp_path / "b", 10, "doe", "20200401")
    with finding([tmp_path]) as found:
        [before] = number_patients(found.scans, [""])
    save_series(tmp_path / "a", 10, "aaa", "20200401", SeriesInstanceUID="1.2")
    save_series(tmp_path / "c", 10, "doe", "20200321", SeriesInstanceUID="1.3")
    with finding([tmp_path]) as found:
        known = [before[0] if scan.path.name == "b" else "" for scan in found.scans]
        numbered = number_patients(found.scans, known)
        people = {scan.path.name: who for scan, who in zip(found.scans, numbered, strict=True)}
    assert people == {"a": ("patient-2", 0), "b": ("patient-1", 11), "c": ("patient-1", 0)}
