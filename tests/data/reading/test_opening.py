"""Without these, a user's folder, zip or picture is read as something else, or fails with a riddle."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicomfiles import CORONAL, SECRET, Stack, compress, make_stack, write
from PIL import Image

from covseg_core.data.phantom.phantom import write_sample
from covseg_core.data.reading import opening
from covseg_core.data.reading.archives import Limits
from covseg_core.data.reading.opening import SeriesChoice, open_scan
from covseg_core.errors import CovsegError, ScanError
from covseg_core.prediction.scan import read_scan
from covseg_core.temporary import temporary_root

STACK = make_stack()
HU = STACK.values[:, ::-1, ::-1]


@pytest.fixture(autouse=True)
def temporary(data_folder: Path) -> Iterator[Path]:
    """The folder for temporary files, which must be empty after each test: zips hold patients."""
    yield temporary_root()
    assert not temporary_root().exists() or list(temporary_root().iterdir()) == []


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def chest_series(folder: Path, **tags: object) -> np.ndarray:
    """A phantom chest as DICOM; returns it as (Z, Y, X) HU."""
    write_sample(folder / "nifti", scans=1, size=64, slices=12)
    scan = opening.load_scan(next((folder / "nifti").rglob("ct.nii.gz")))
    values = scan.voxels[:, ::-1, ::-1].astype(np.int16)
    positions = np.array([[0, 0, 5.0 * k] for k in range(len(values))])
    write(folder / "dicom", Stack(values, positions, spacing=(5.0, 5.0)), **tags)
    return scan.voxels


# --- the same scan from everything


def test_folder_zip_and_file_by_content(tmp_path: Path) -> None:
    paths = write(tmp_path / "scan" / "deep", STACK)
    archive = zipped(tmp_path / "scan", tmp_path / "scan.nii.gz")  # a name that lies
    folder, packed = open_scan(tmp_path / "scan"), open_scan(archive)
    assert folder.kind == packed.kind == "dicom"
    assert folder.sha256 == packed.sha256
    np.testing.assert_array_equal(folder.volume.voxels, HU)
    np.testing.assert_array_equal(packed.volume.voxels, HU)
    np.testing.assert_array_equal(folder.volume.affine, packed.volume.affine)
    assert packed.volume.path == archive
    single = open_scan(paths[4])
    np.testing.assert_array_equal(single.volume.voxels, HU[4:5])
    assert "one slice only" in " ".join(single.warnings)


def test_nifti_by_itself_in_a_folder_and_in_a_zip(tmp_path: Path) -> None:
    (tmp_path / "scan").mkdir()
    nib.save(nib.Nifti1Image(HU.T, np.diag([2.0, 2.0, 3.0, 1.0])), tmp_path / "scan" / "ct.nii.gz")
    ways = [tmp_path / "scan" / "ct.nii.gz", tmp_path / "scan", zipped(tmp_path / "scan", tmp_path / "s.zip")]
    for path in ways:
        opened = open_scan(path)
        assert (opened.kind, opened.volume.path) == ("nifti", path)
        np.testing.assert_array_equal(opened.volume.voxels, HU)
    assert len({open_scan(path).sha256 for path in ways}) == 1


def test_interpolated_slices_are_counted_from_the_feet(tmp_path: Path) -> None:
    write(tmp_path, STACK.without(6))
    assert open_scan(tmp_path).interpolated == (6,)


def test_a_chest_as_dicom_passes_the_check(tmp_path: Path) -> None:
    voxels = chest_series(tmp_path)
    checked = read_scan(tmp_path / "dicom")
    assert (checked.kind, checked.scale, checked.interpolated) == ("dicom", "HU", ())
    assert checked.series is not None and checked.series.slices == 12
    np.testing.assert_array_equal(checked.volume.voxels, np.maximum(voxels, -1024))


# --- several series


def test_several_series_are_listed_and_one_is_chosen(tmp_path: Path) -> None:
    write(tmp_path / f"{SECRET}^Jane", STACK)
    write(tmp_path / "b", make_stack((20, 12, 10), seed=1))
    write(tmp_path / "l", make_stack((1, 40, 40), CORONAL), ImageType=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    with pytest.raises(SeriesChoice, match="2 series can be used") as error:
        open_scan(tmp_path)
    assert [series.slices for series in error.value.series] == [20, 9]
    assert all(series.key in str(error.value) and series.label in str(error.value) for series in error.value.series)
    opened = open_scan(tmp_path, error.value.series[1].key)
    np.testing.assert_array_equal(opened.volume.voxels, HU)
    assert "2 other series passed over: a localiser (overview picture); not chosen" in opened.warnings
    with pytest.raises(SeriesChoice, match="no series 00000000"):
        open_scan(tmp_path, "00000000")
    assert SECRET not in str(error.value) + str(opened.warnings)


def test_a_series_with_a_problem_can_be_asked_for_and_says_why(tmp_path: Path) -> None:
    write(tmp_path / "a", STACK)
    write(tmp_path / "b", make_stack((1, 40, 40), CORONAL))
    keys = {series.problem: series.key for series in opening.search(tmp_path).series}
    with pytest.raises(ScanError, match="one coronal slice"):
        open_scan(tmp_path, next(key for problem, key in keys.items() if problem))


def test_two_patients_in_one_folder(tmp_path: Path) -> None:
    """Whose mask is it?"""
    write(tmp_path / "a", STACK)
    write(tmp_path / "b", STACK, PatientID=f"{SECRET}-9")
    with pytest.raises(SeriesChoice, match="2 series of 2 patients") as error:
        open_scan(tmp_path)
    opened = open_scan(tmp_path, error.value.series[0].key)
    assert any("more than one patient" in warning for warning in opened.warnings)


# --- what is no scan


def test_nothing_to_read(tmp_path: Path) -> None:
    for folder, text in [
        ("none", "no files"),
        ("texts", "no DICOM slices among 2 files"),
        ("two", "but 2 NIfTI files"),
    ]:
        (tmp_path / folder).mkdir()
        if folder == "texts":
            (tmp_path / folder / "a.txt").write_text("a")
            (tmp_path / folder / "b.dcm").write_text("b")
        if folder == "two":
            for name in ("ct", "mask"):
                nib.save(nib.Nifti1Image(HU.T, np.eye(4)), tmp_path / folder / f"{name}.nii")
        for path in (tmp_path / folder, zipped(tmp_path / folder, tmp_path / f"{folder}.zip")):
            with pytest.raises(ScanError, match=text) as error:
                open_scan(path)
            assert error.value.what == str(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="no such file"):
        open_scan(tmp_path / "gone")


def test_a_series_of_a_nifti(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(HU.T, np.eye(4)), tmp_path / "ct.nii")
    with pytest.raises(ScanError, match="without series"):
        open_scan(tmp_path / "ct.nii", "00000000")


def test_only_a_pet(tmp_path: Path) -> None:
    write(tmp_path, STACK, Modality="PT", SOPClassUID="1.2.840.10008.5.1.4.1.1.128")
    with pytest.raises(ScanError, match=r"no usable CT series \(PT, axial, 9 slices, .*: PET, not a CT\)"):
        open_scan(tmp_path)


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2, 3], [0, 255]])
def test_a_mask_uploaded_as_a_scan(tmp_path: Path, labels: list[int]) -> None:
    mask = np.random.default_rng(0).choice(labels, (20, 24, 9)).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, np.diag([1.0, 1.0, 3.0, 1.0])), tmp_path / "m.nii.gz")
    Image.fromarray(mask[..., 0]).save(tmp_path / "m.png")
    write(tmp_path / "m", make_stack((9, 20, 24)), RescaleIntercept=0)
    for path in (tmp_path / "m.nii.gz", tmp_path / "m.png"):
        with pytest.raises(ScanError, match="a mask, not a scan"):
            read_scan(path)


def test_a_mask_as_dicom(tmp_path: Path) -> None:
    stack = make_stack()
    object.__setattr__(stack, "values", (stack.values > 0).astype(np.int16))
    write(tmp_path, stack, RescaleIntercept=0)
    with pytest.raises(ScanError, match="a mask, not a scan"):
        read_scan(tmp_path)


# --- zips from strangers


def hostile(path: Path, name: str, content: bytes = b"x", mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize("name", [f"../{SECRET}", f"/tmp/{SECRET}", f"a/../../{SECRET}", f"C:\\{SECRET}"])
def test_paths_that_leave_the_zip(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScanError, match="names that stay inside") as error:
        open_scan(hostile(tmp_path / "s.zip", name))
    assert SECRET not in str(error.value)
    assert not list(tmp_path.rglob(SECRET))


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="files and folders only") as error:
        open_scan(hostile(tmp_path / "s.zip", SECRET, b"/etc/passwd", 0o120777))
    assert SECRET not in str(error.value)


def test_a_zip_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LIMITS", Limits(files=10, bytes=2**20))
    with pytest.raises(ScanError, match="MiB when unpacked"):
        open_scan(hostile(tmp_path / "s.zip", "ct.dcm", bytes(2**24)))
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for n in range(11):
            archive.writestr(str(n), "")
    with pytest.raises(ScanError, match="11 files"):
        open_scan(tmp_path / "many.zip")


def test_a_zip_that_ends_too_early(tmp_path: Path) -> None:
    write(tmp_path / "scan", STACK)
    content = zipped(tmp_path / "scan", tmp_path / "s.zip").read_bytes()
    (tmp_path / "s.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(ScanError, match="not a zip, or damaged"):
        open_scan(tmp_path / "s.zip")


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
def test_the_temporary_folder_goes_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    write(tmp_path / "scan", STACK)
    archive = zipped(tmp_path / "scan", tmp_path / "s.zip")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(opening, "load_series", fail)
    with pytest.raises(error):
        open_scan(archive)


def test_a_truncated_slice_in_a_zip(tmp_path: Path) -> None:
    paths = write(tmp_path / "scan", STACK)
    paths[3].write_bytes(paths[3].read_bytes()[:-20])
    with pytest.raises(ScanError, match="damaged, missing or truncated pixels") as error:
        open_scan(zipped(tmp_path / "scan", tmp_path / "s.zip"))
    assert error.value.what == str(tmp_path / "s.zip")


# --- pictures


def grey_picture(shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (3 * x + y).astype(np.uint8)


@pytest.mark.parametrize("name", ["s.png", "s.jpg"])
def test_a_picture_is_one_slice_as_it_is_looked_at(tmp_path: Path, name: str) -> None:
    picture = grey_picture()
    Image.fromarray(picture).save(tmp_path / name, quality=95)
    opened = open_scan(tmp_path / name)
    assert (opened.kind, opened.volume.spacing) == ("picture", (1.0, 1.0, 1.0))
    assert opened.volume.geometry.orientation == "LPS"
    np.testing.assert_allclose(opened.volume.voxels[0, ::-1, ::-1], picture, atol=0 if name == "s.png" else 12)
    assert "no scale, size or position" in opened.warnings[0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_pictures_in_other_clothes(tmp_path: Path, mode: str) -> None:
    Image.fromarray(grey_picture()).convert(mode).save(tmp_path / "s.png")
    np.testing.assert_array_equal(open_scan(tmp_path / "s.png").volume.voxels[0, ::-1, ::-1], grey_picture())


def test_a_picture_of_16_bits_keeps_them(tmp_path: Path) -> None:
    picture = grey_picture().astype(np.uint16) * 100
    Image.fromarray(picture).save(tmp_path / "s.png")
    np.testing.assert_array_equal(open_scan(tmp_path / "s.png").volume.voxels[0, ::-1, ::-1], picture)


def test_pictures_that_are_refused(tmp_path: Path) -> None:
    coloured = np.stack([grey_picture()] * 3, axis=2)
    coloured[10:30, 10:30] = (255, 0, 0)
    Image.fromarray(coloured).save(tmp_path / "colour.png")
    clear = Image.fromarray(coloured).convert("RGBA")
    clear.putalpha(100)
    clear.save(tmp_path / "clear.png")
    Image.fromarray(grey_picture((4, 80))).save(tmp_path / "thin.png")
    content = io.BytesIO()
    Image.fromarray(grey_picture()).save(content, "PNG")
    (tmp_path / "cut.png").write_bytes(content.getvalue()[: len(content.getvalue()) // 2])
    expected = {"colour": "in colours", "clear": "transparent", "thin": "at least 8 x 8", "cut": "damaged picture"}
    for name, text in expected.items():
        with pytest.raises(ScanError, match=text):
            open_scan(tmp_path / f"{name}.png")


def test_a_picture_that_promises_too_many_pixels(tmp_path: Path) -> None:
    Image.new("L", (9000, 9000)).save(tmp_path / "bomb.png")
    with pytest.raises(ScanError, match="at most 16,777,216 pixels"):
        open_scan(tmp_path / "bomb.png")


# --- anything at all


@pytest.mark.parametrize("syntax", ["", "JPEGLosslessProcess14_1", "JPEG2000Lossless"])
def test_bytes_changed_at_random_give_a_scan_or_one_line(
    tmp_path: Path, syntax: str, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    """Whatever a disk or a network does to a file, there is no traceback and no name in the log."""
    paths = write(tmp_path, make_stack((3, 24, 24)))
    for path in paths if syntax else []:
        compress(path, syntax)
    content, random = paths[1].read_bytes(), np.random.default_rng(0)
    ends = {"read": 0, "refused": 0}
    for _ in range(150):
        changed = bytearray(content)
        for place in random.integers(128, len(content), random.integers(1, 6)):
            changed[place] = random.integers(256)
        paths[1].write_bytes(changed)
        try:
            open_scan(tmp_path)
            ends["read"] += 1
        except CovsegError as error:
            assert SECRET not in str(error)
            ends["refused"] += 1
    assert min(ends.values()) > 0, ends
    assert SECRET not in "".join(capfd.readouterr())
    assert not recwarn.list, [str(warning.message) for warning in recwarn.list]


# --- nobody's name anywhere


def test_no_tag_of_the_patient_in_warnings_or_errors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Reports and logs are passed on; patients are not."""
    texts = []
    write(tmp_path / "a" / f"{SECRET}^Jane", STACK.without(3))
    texts.append(repr(open_scan(tmp_path / "a").warnings))
    write(tmp_path / "a" / "b", make_stack(seed=2), Modality=None)
    write(tmp_path / "a" / "c", make_stack(seed=3), Modality=SECRET, ConvolutionKernel=f"{SECRET} 9")
    shutil.copy(next((tmp_path / "a").rglob("IM00001")), tmp_path / "a" / f"{SECRET}.copy")
    (tmp_path / "a" / f"{SECRET}.txt").write_text(SECRET)
    cut = write(tmp_path / "cut" / SECRET, STACK)
    cut[2].write_bytes(cut[2].read_bytes()[:-9])
    for path in (tmp_path / "a", tmp_path / "cut", zipped(tmp_path / "a", tmp_path / "z.zip")):
        try:
            open_scan(path)
        except CovsegError as error:
            texts.append(str(error))
    assert len(texts) == 4
    assert SECRET not in "".join(texts) + caplog.text


# --- real


def test_real_series_through_the_check(real_data: Path) -> None:
    folder = real_data / "dicom"
    covid = read_scan(folder / "gstt_covid_20")
    assert (covid.kind, covid.scale, covid.interpolated) == ("dicom", "HU", (1,))
    assert any("-820.2 mm" in warning for warning in covid.warnings)
    assert read_scan(folder / "lungpetct_A0002_8mm_B40f").volume.voxels.shape == (30, 512, 512)
    single = read_scan(folder / "ny_sbu_singles")
    assert single.volume.voxels.shape == (1, 512, 512)
    assert any("one coronal slice" in warning for warning in single.warnings)
    with pytest.raises(ScanError, match="no lungs found"):
        read_scan(folder / "totalseg_jpeg2000_20")
    with pytest.raises(ScanError, match="5 NIfTI files"):
        read_scan(folder / "gstt_covid_20_lung_lobes")
    with pytest.raises(ScanError, match="a mask, not a scan"):
        read_scan(next((real_data / "mosmed_masks").glob("*.nii.gz")))
