"""Bad input to an import. What a user loses when it fails: data sets harmed by a bad file or a hostile name, or an hour
with a traceback."""

from __future__ import annotations

import gzip
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from niftis import listing, rewrite

from covseg_core.cli import main
from covseg_core.data.library.importing import import_dataset
from covseg_core.errors import CovsegError, DatasetError, PairingError


def spoil_truncated(folder: Path) -> None:
    path = folder / "ct.nii.gz"
    path.write_bytes(path.read_bytes()[:-2000])


def spoil_not_nifti(folder: Path) -> None:
    (folder / "ct.nii.gz").write_bytes(gzip.compress(b"a letter to the editor" * 100))


def spoil_4d(folder: Path) -> None:
    rewrite(folder / "ct.nii.gz", lambda ct: np.stack([ct, ct], axis=-1))


def spoil_zero_slices(folder: Path) -> None:
    path = folder / "ct.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[46:48] = (0).to_bytes(2, "little")  # dim[3]
    path.write_bytes(gzip.compress(bytes(content)))


def spoil_nan(folder: Path) -> None:
    def change(ct: np.ndarray) -> np.ndarray:
        changed = ct.astype(np.float32)
        changed[3, 4, 2] = np.nan
        return changed

    rewrite(folder / "ct.nii.gz", change)


def spoil_rgb(folder: Path) -> None:
    colour = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    rewrite(folder / "ct.nii.gz", lambda ct: np.zeros(ct.shape, colour))


def spoil_abdomen(folder: Path) -> None:
    """A body without lungs, with some gas in the bowel."""

    def change(ct: np.ndarray) -> np.ndarray:
        i, j = np.ogrid[-1 : 1 : ct.shape[0] * 1j, -1 : 1 : ct.shape[1] * 1j]
        body, gas = i**2 + j**2 < 0.7, (i - 0.2) ** 2 + (j - 0.1) ** 2 < 0.01
        plane = np.where(gas, -990, np.where(body, 40, -1000))
        return (plane[:, :, None] + np.random.default_rng(0).integers(-20, 20, ct.shape)).astype(np.int16)

    rewrite(folder / "ct.nii.gz", change)


def spoil_mask_shape(folder: Path) -> None:
    rewrite(folder / "infection_mask.nii.gz", lambda mask: mask[:, :, :-1])


def spoil_mask_affine(folder: Path) -> None:
    path = folder / "lung_mask.nii.gz"
    moved = nib.load(path).affine.copy()
    moved[:3, 3] += 40
    rewrite(path, lambda mask: mask, moved)


def spoil_mask_flipped(folder: Path) -> None:
    path = folder / "infection_mask.nii.gz"
    rewrite(path, lambda mask: mask, nib.load(path).affine @ np.diag([-1.0, 1, 1, 1]))


def spoil_no_labels(folder: Path) -> None:
    rewrite(folder / "infection_mask.nii.gz", np.zeros_like)


def spoil_no_lung_labels(folder: Path) -> None:
    rewrite(folder / "lung_mask.nii.gz", np.zeros_like)


def spoil_probabilities(folder: Path) -> None:
    rewrite(folder / "infection_mask.nii.gz", lambda mask: mask.astype(np.float32) * 0.4)


def spoil_two_scans(folder: Path) -> None:
    nib.save(nib.load(folder / "ct.nii.gz"), folder / "ct.nii")


def spoil_no_scan(folder: Path) -> None:
    (folder / "ct.nii.gz").unlink()


def spoil_copied_scan(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("the_same_again"))


def spoil_unreadable_scale(folder: Path) -> None:
    rewrite(folder / "ct.nii.gz", lambda ct: (ct + 1024).clip(0).astype(np.int16) * 9)


BAD_INPUT = [
    (spoil_truncated, r"phantom_003/ct.nii.gz: truncated"),
    (spoil_not_nifti, r"phantom_003/ct.nii.gz: .*expected a .nii or .nii.gz file"),
    (spoil_4d, r"phantom_003/ct.nii.gz: .*64 x 64 x 8 x 2"),
    (spoil_zero_slices, r"phantom_003/ct.nii.gz: .*64 x 64 x 0"),
    (spoil_nan, r"phantom_003/ct.nii.gz: NaN"),
    (spoil_rgb, r"phantom_003/ct.nii.gz: .*RGB"),
    (spoil_abdomen, r"phantom_003/ct.nii.gz: no lungs found"),
    (spoil_mask_shape, r"phantom_003/infection_mask.nii.gz: shape 64 x 64 x 7, not 64 x 64 x 8 .*ct.nii.gz"),
    (spoil_mask_affine, r"phantom_003/lung_mask.nii.gz: lies up to 69.28 mm from .*ct.nii.gz"),
    (spoil_mask_flipped, r"phantom_003/infection_mask.nii.gz: lies up to .*ct.nii.gz"),
    (spoil_no_labels, r"phantom_003/infection_mask.nii.gz: no labels, only zeros; .*--allow-empty"),
    (spoil_no_lung_labels, r"phantom_003/lung_mask.nii.gz: no labels, only zeros"),
    (spoil_probabilities, r"phantom_003/infection_mask.nii.gz: value 0.4"),
    (spoil_two_scans, r"phantom_003/ct.nii.gz: second scan with the id phantom_003, after .*phantom_003/ct.nii"),
    (spoil_no_scan, r"phantom_003/infection_mask.nii.gz: one of 2 masks without a scan; expected .* id phantom_003"),
    (spoil_copied_scan, r"case the_same_again: the same scan as case phantom_003"),
    (spoil_unreadable_scale, r"phantom_003/ct.nii.gz: values from 0 to .*HU"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_INPUT, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_bad_input_is_one_line_exit_2_and_an_unchanged_data_folder(
    spoil: Callable[[Path], Any],
    message: str,
    existing: bool,
    cases: Path,
    phantom_files: Path,
    data_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if existing:
        import_dataset("demo", [phantom_files / "phantom_002"], allow_empty=True)
    spoil(cases / "phantom_003")
    before = listing(data_folder)
    monkeypatch.setattr(sys, "argv", ["covseg", "data", "add", "demo", str(cases)])
    with pytest.raises(SystemExit) as end:
        main()
    output = capfd.readouterr()
    assert end.value.code == 2
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert re.search(f"^covseg: .*{message}", output.err), output.err
    assert listing(data_folder) == before
    assert data_folder.exists() == existing


def test_a_zip_cannot_write_elsewhere(cases: Path, tmp_path: Path, data_folder: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.write(cases / "phantom_001/ct.nii.gz", "../../../../escaped/ct.nii.gz")
    before = listing(tmp_path)
    with pytest.raises(CovsegError, match=r"evil.zip"):
        import_dataset("demo", [tmp_path / "evil.zip"])
    assert listing(tmp_path) == before


HOSTILE = ["a..b", "-rf *", "a b", "$(touch x)", "é\u0301\u202e病例", "x" * 230, "[red]bold[/red]", "c\nd", "A"]


def test_hostile_names_stay_inside_the_dataset(cases: Path, tmp_path: Path, data_folder: Path) -> None:
    """Every name becomes one plain folder; nothing appears beside the dataset."""
    for index, name in enumerate(HOSTILE):
        for file, suffix in (("ct", "_ct"), ("infection_mask", "_mask")):
            target = tmp_path / "hostile" / f"{name}{suffix}.nii.gz"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(cases / f"phantom_001/{file}.nii.gz", target)
            if file == "ct":  # the same scan twice is refused
                rewrite(target, lambda ct, index=index: ct + np.int16(index))
    before = set(listing(tmp_path))
    dataset = import_dataset("demo", [tmp_path / "hostile"])
    assert len(dataset.cases) == len(HOSTILE)
    inside = {path.name for path in (dataset.folder / "cases").iterdir()}
    assert inside == {case.id for case in dataset.cases}
    prefix = str(data_folder.relative_to(tmp_path))
    assert all(path.startswith(prefix) for path in set(listing(tmp_path)) - before)


@pytest.mark.parametrize("name", ["../x", "/tmp/x", ".hidden", "a/b", "", "x" * 101, "a b"])
def test_dataset_names_that_are_paths_are_refused(name: str, cases: Path, data_folder: Path) -> None:
    with pytest.raises(CovsegError):
        import_dataset(name, [cases])
    assert not data_folder.exists()


def test_what_is_no_scan_is_said(tmp_path: Path, phantom_files: Path, data_folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    for path, message in (
        (tmp_path / "missing", r"missing: no such file or folder"),
        (tmp_path / "empty", r"empty: no scan in it; expected at least one .nii, .nii.gz or DICOM file"),
        (tmp_path / "notes.txt", r"notes.txt: neither NIfTI by its name nor DICOM"),
        (phantom_files / "phantom_001/ct.nii.gz", r"dataset demo: 1 scan and no mask"),
    ):
        with pytest.raises(CovsegError, match=message):
            import_dataset("demo", [path])
    assert not data_folder.exists()


def test_a_folder_that_is_no_dataset_is_not_overwritten(cases: Path, data_folder: Path) -> None:
    keep = data_folder / "datasets/demo/thesis.txt"
    keep.parent.mkdir(parents=True)
    keep.write_text("three years of work")
    with pytest.raises(DatasetError, match=r"demo/dataset.json: no such file"):
        import_dataset("demo", [cases])
    assert keep.read_text() == "three years of work"
    assert [path.name for path in keep.parent.parent.iterdir()] == ["demo"]


def test_the_real_masks_without_scans(real_data: Path, data_folder: Path) -> None:
    with pytest.raises(PairingError, match=r"one of 3 masks without a scan"):
        import_dataset("mosmed", [real_data / "mosmed_masks"])
    assert not data_folder.exists()
