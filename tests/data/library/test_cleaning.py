"""Words in headers, and names. What a patient loses otherwise: that nobody else learns who it was."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from covseg_core.cli.data import data
from covseg_core.data.library.cleaning import copy_without_words
from covseg_core.data.library.datasets import load_dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.data.library.pseudonyms import KEY
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.data.reading.volumes import load_scan
from covseg_core.errors import DatasetError
from covseg_core.files import sha256_file

PLANTED = b"MUSTERFRAU"


def plant(path: Path, kind: type[nib.Nifti1Image] = nib.Nifti1Image) -> None:
    """The same voxels, with a name wherever a header has room for words."""
    image = nib.load(path)
    planted = kind(np.asarray(image.dataobj).copy(), image.affine, image.header)
    fields = ("descrip", "aux_file", "db_name", "intent_name", "data_type")
    for field in fields:
        if field in planted.header:
            planted.header[field] = PLANTED[: planted.header[field].dtype.itemsize]
    planted.header.extensions.append(nib.nifti1.Nifti1Extension(6, PLANTED))
    nib.save(planted, path)


def unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A case in a folder that is called as its patient is."""
    [case] = write_sample(tmp_path / "made", scans=1, size=32, slices=6)
    named = tmp_path / "MUSTERFRAU_Hans_19660606"
    case.rename(named)
    for file in named.iterdir():
        plant(file)
    return named


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_words_go_and_voxels_stay(named: Path, tmp_path: Path, ending: str, kind: type[nib.Nifti1Image]) -> None:
    source, target = tmp_path / f"in{ending}", tmp_path / f"out{ending}"
    nib.save(nib.load(named / "ct.nii.gz"), source)
    plant(source, kind)
    assert PLANTED in unpacked(source)
    assert copy_without_words(source, target)
    assert PLANTED not in unpacked(target)
    before, after = load_scan(source), load_scan(target)
    np.testing.assert_array_equal(before.voxels, after.voxels)
    assert (before.spacing, before.geometry.orientation) == (after.spacing, after.geometry.orientation)
    again = tmp_path / f"again{ending}"
    assert not copy_without_words(target, again)
    assert again.read_bytes() == target.read_bytes()


def test_the_name_in_a_gzip_file_goes(named: Path, tmp_path: Path) -> None:
    clean = tmp_path / "clean.nii"
    copy_without_words(named / "ct.nii.gz", tmp_path / "clean.nii.gz")
    clean.write_bytes(unpacked(tmp_path / "clean.nii.gz"))
    with open(tmp_path / "ct.nii.gz", "wb") as raw, gzip.GzipFile("MUSTERFRAU.nii", "wb", fileobj=raw) as packed:
        packed.write(clean.read_bytes())
    assert PLANTED in (tmp_path / "ct.nii.gz").read_bytes()
    assert copy_without_words(tmp_path / "ct.nii.gz", tmp_path / "out.nii.gz")
    assert PLANTED not in (tmp_path / "out.nii.gz").read_bytes()
    assert unpacked(tmp_path / "out.nii.gz") == clean.read_bytes()


def test_a_dataset_with_pseudonyms_has_names_in_its_key_alone(named: Path, data_folder: Path) -> None:
    done = CliRunner().invoke(data, ["add", "demo", str(named), "--allow-empty", "--pseudonyms"])
    assert done.exit_code == 0, done.output
    dataset = load_dataset("demo")
    [case] = dataset.cases
    assert (case.id, case.patient) == ("case-001", "patient-001")
    assert case.sha256["scan"] == sha256_file(named / "ct.nii.gz"), "recognised by the file that the clinic has"
    assert case.kept_sha256["scan"] == sha256_file(dataset.path(case, "scan")), "and by the copy"
    assert case.scan_sha256 == {case.sha256["scan"], case.kept_sha256["scan"]}
    found = [path for path in data_folder.rglob("*") if path.is_file() and PLANTED.lower() in unpacked(path).lower()]
    assert found == [dataset.folder / KEY]
    assert not [path for path in data_folder.rglob("*") if "muster" in path.name.lower()]
    key = json.loads((dataset.folder / KEY).read_text())
    assert key["cases"] == {named.name.lower(): "case-001"}
    assert "pass it on to nobody" in key["what"]
    assert (dataset.folder / KEY).stat().st_mode & 0o077 == 0


def test_further_cases_get_further_pseudonyms(named: Path, tmp_path: Path, data_folder: Path) -> None:
    import_dataset("demo", [named], allow_empty=True, pseudonyms=True)
    with pytest.raises(DatasetError, match="case case-001 is in dataset demo already"):
        import_dataset("demo", [named], allow_empty=True, pseudonyms=True)
    other = write_sample(tmp_path / "more", scans=1, size=32, slices=6, seed=5)
    dataset = import_dataset("demo", other, allow_empty=True, pseudonyms=True)
    assert [case.id for case in dataset.cases] == ["case-001", "case-002"]
    assert len(json.loads((dataset.folder / KEY).read_text())["cases"]) == 2


def test_without_pseudonyms_no_header_and_no_path_is_kept(named: Path, data_folder: Path) -> None:
    dataset = import_dataset("demo", [named], allow_empty=True)
    assert dataset.source == "3 files"
    for file in dataset.folder.rglob("*.nii*"):
        assert PLANTED not in unpacked(file)
    assert str(named.parent) not in (dataset.folder / "dataset.json").read_text()
