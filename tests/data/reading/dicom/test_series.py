"""Without these, a folder from a hospital may be read as another series, with other values, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomfiles import AXIAL, CORONAL, SECRET, compress, make_stack, rotated, write
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset
from pydicom.uid import RLELossless

from covseg_core.data.reading.dicom import Series, decoding, find_series, load_series, pixels, search
from covseg_core.data.reading.dicom import headers as headers_module
from covseg_core.errors import ScanError

STACK = make_stack()
HU = STACK.values[:, ::-1, ::-1]
"""The values of `STACK` as a volume has them."""


def one(folder: Path) -> Series:
    (series,) = find_series(folder)
    assert not series.problem, series.problem
    return series


def usable(folder: Path) -> list[Series]:
    return [series for series in find_series(folder) if not series.problem]


# --- finding


def test_files_are_found_by_content_at_any_depth(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b.c" / "d", STACK)
    (tmp_path / "notes.dcm").write_text("no DICOM")
    (tmp_path / "empty").touch()
    found = search(tmp_path)
    assert (len(found.series), found.others, found.damaged) == (1, 2, 0)
    np.testing.assert_array_equal(load_series(found.series[0]).voxels, HU)


def test_of_files_that_are_no_dicom_almost_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand files of which one is a CT, on a slow disk."""
    write(tmp_path, make_stack((1, 12, 10)))
    for n in range(300):
        (tmp_path / f"{n:04d}").write_bytes(bytes([n % 256]) * 2000)
    read, parsed = [], []
    real = pydicom.dcmread
    monkeypatch.setattr(headers_module.pydicom, "dcmread", lambda file, **how: parsed.append(how) or real(file, **how))
    monkeypatch.setattr(headers_module, "looks_like_dicom", lambda start, is_it=headers_module.looks_like_dicom: (
        read.append(len(start)), is_it(start))[1])  # fmt: skip
    found = search(tmp_path)
    assert (len(found.series), found.others) == (1, 300)
    assert max(read) == 132
    assert [how["stop_before_pixels"] for how in parsed] == [True]
    assert not {"PatientName", "PatientBirthDate"} & set(parsed[0]["specific_tags"])


def test_a_file_without_preamble(tmp_path: Path) -> None:
    for path in write(tmp_path, STACK):
        dataset = pydicom.dcmread(path)
        with open(path, "wb") as stream:
            write_dataset(DicomIO(stream), dataset)
        assert path.read_bytes()[:2] == b"\x08\0"
    np.testing.assert_array_equal(load_series(one(tmp_path)).voxels, HU)


def test_pipes_and_links_do_not_hang_the_search(tmp_path: Path) -> None:
    write(tmp_path / "scan", STACK)
    os.mkfifo(tmp_path / "scan" / "pipe")
    (tmp_path / "scan" / "up").symlink_to(tmp_path)
    (tmp_path / "scan" / "nowhere").symlink_to(tmp_path / "gone")
    assert len(one(tmp_path).files) == 9


def test_damaged_headers_are_counted(tmp_path: Path) -> None:
    paths = write(tmp_path, STACK)
    paths[3].write_bytes(paths[3].read_bytes()[:300])
    paths[5].write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 500)
    found = search(tmp_path)
    assert found.damaged >= 1
    assert sum(len(series.files) for series in found.series) + found.damaged == 9


def test_a_file_packed_as_a_whole_is_not_unpacked(tmp_path: Path) -> None:
    """A few KiB of it could fill the memory."""
    (path,) = write(tmp_path, make_stack((1, 12, 10)))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    assert search(tmp_path).damaged == 1


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="no such file"):
        find_series(tmp_path / "gone")


# --- telling series apart


def test_series_are_told_apart_and_named_without_the_patient(tmp_path: Path) -> None:
    write(tmp_path, STACK, uid="1.2.3", names=[f"a{n}" for n in range(9)])
    write(tmp_path, make_stack((20, 12, 10)), uid="1.2.4", names=[f"b{n}" for n in range(20)])
    first, second = find_series(tmp_path)
    assert (first.slices, second.slices) == (20, 9)
    assert second.key == hashlib.sha256(b"1.2.3").hexdigest()[:8]
    assert second.label == "axial, 9 slices, 10 x 12, 0.70 x 0.80 x 2.50 mm, kernel B40f"
    assert SECRET not in repr(first.label) + repr(first.warnings) + first.key


def test_a_kernel_that_is_a_sentence_is_not_shown(tmp_path: Path) -> None:
    write(tmp_path, STACK, ConvolutionKernel=f"{SECRET} Jane")
    assert one(tmp_path).kernel == ""


def test_two_directions_under_one_uid(tmp_path: Path) -> None:
    write(tmp_path / "a", STACK, uid="1.2.3")
    write(tmp_path / "b", make_stack((30, 12, 10), CORONAL, seed=1), uid="1.2.3")
    first, second = usable(tmp_path)
    assert (first.plane, second.plane) == ("coronal", "axial")
    assert second.key == f"{first.key}-2"
    np.testing.assert_array_equal(load_series(second).voxels, HU)


def test_two_matrices_under_one_uid(tmp_path: Path) -> None:
    write(tmp_path / "a", STACK, uid="1.2.3")
    write(tmp_path / "b", make_stack((9, 16, 16)), uid="1.2.3")
    assert sorted(series.rows for series in usable(tmp_path)) == [12, 16]


@pytest.mark.parametrize("tell", [{"AcquisitionNumber": (1, 2)}, {"AcquisitionTime": ("101112", "101142")}, {}])
def test_two_phases_under_one_uid(tmp_path: Path, tell: dict[str, tuple]) -> None:
    """Mixed, every second slice would be of another breath."""
    other = make_stack(seed=1)
    for n, (name, stack) in enumerate([("a", STACK), ("b", other)]):
        tags = {key: values[n] for key, values in tell.items()}
        write(tmp_path / name, stack, uid="1.2.3", InstanceNumber=[9 * n + k for k in range(9)], **tags)
    volumes = [load_series(series).voxels for series in usable(tmp_path)]
    assert len(volumes) == 2
    for stack in (STACK, other):
        assert any(np.array_equal(voxels, stack.values[:, ::-1, ::-1]) for voxels in volumes)


def test_a_slice_that_was_sent_twice(tmp_path: Path) -> None:
    paths = write(tmp_path, STACK)
    shutil.copy(paths[2], tmp_path / "copy")
    series = one(tmp_path)
    assert len(series.files) == 9 and "twice" in " ".join(series.warnings)
    np.testing.assert_array_equal(load_series(series).voxels, HU)


def test_one_position_twice_is_no_phase(tmp_path: Path) -> None:
    write(tmp_path / "a", STACK, uid="1.2.3")
    stray = STACK.without(*range(1, 9))
    write(tmp_path / "b", stray, uid="1.2.3", InstanceNumber=99)
    main, rest = find_series(tmp_path)
    assert (main.problem, len(main.files)) == ("", 9)
    assert "larger part" in rest.problem
    np.testing.assert_array_equal(load_series(main).voxels, HU)


def test_two_patients_under_one_uid(tmp_path: Path) -> None:
    write(tmp_path, STACK, PatientID=["A"] * 4 + ["B"] * 5)
    assert sorted(len(series.files) for series in find_series(tmp_path)) == [4, 5]


def test_series_without_uid(tmp_path: Path) -> None:
    write(tmp_path, STACK, SeriesInstanceUID=None, PatientID=None, Modality=None, InstanceNumber=None)
    series = one(tmp_path)
    assert (series.modality, len(series.files)) == ("", 9)
    assert "no Modality tag" in " ".join(series.warnings)
    np.testing.assert_array_equal(load_series(series).voxels, HU)


# --- what is no CT


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"Modality": "PT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128"}, "PET, not a CT"),
        ({"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "magnetic resonance, not a CT"),
        ({"Modality": "SEG", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "a segmentation, not a CT"),
        ({"Modality": "SR", "Rows": None}, "a structured report, not a CT"),
        ({"Modality": f"{SECRET}"}, "another kind of object, not a CT"),
        ({"Modality": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "not a CT"),
        ({"ImageType": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "localiser"),
        ({"ImageType": ("DERIVED", "SECONDARY", "MIP")}, "projections"),
        ({"NumberOfFrames": 9}, "several slices in one file"),
        ({"SamplesPerPixel": 3}, "colour"),
        ({"RescaleType": "Z_EFF"}, "other values than HU"),
        ({"ImagePositionPatient": None}, "without position"),
        ({"ImageOrientationPatient": (1, 0, 0, 1, 0, 0)}, "without position, direction"),
        ({"ImageOrientationPatient": (0, 0, 0, 0, 0, 0)}, "without position, direction"),
        ({"PixelSpacing": None}, "pixel size"),
        ({"PixelSpacing": (0, 0)}, "pixel size"),
    ],
    ids=str,
)
def test_what_cannot_be_used_says_why(tmp_path: Path, tags: dict, why: str) -> None:
    write(tmp_path, STACK, **tags)
    (series,) = find_series(tmp_path)
    assert why in series.problem
    assert SECRET not in series.problem + series.label
    with pytest.raises(ScanError, match=why):
        load_series(series)


def test_a_localiser_in_the_series_folder_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "s", STACK, uid="1.2.3")
    scout = make_stack((1, 40, 40), CORONAL)
    write(tmp_path / "l", scout, uid="1.2.3", ImageType=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    assert len(usable(tmp_path)) == 1


@pytest.mark.parametrize("slices", [1, 5])
def test_few_coronal_slices_make_no_axial_ones(tmp_path: Path, slices: int) -> None:
    write(tmp_path, make_stack((slices, 12, 10), CORONAL))
    (series,) = find_series(tmp_path)
    assert "coronal slice" in series.problem


def test_planes_are_named(tmp_path: Path) -> None:
    directions = {"axial": AXIAL, "coronal": CORONAL, "sagittal": (0, 1, 0, 0, 0, -1), "oblique": rotated(40, 0, 0)}
    for name, orientation in directions.items():
        write(tmp_path / name, make_stack(orientation=orientation))
        series = one(tmp_path / name)
        assert series.plane == name
        assert any(name in warning for warning in series.warnings) == (name != "axial")


# --- values


def test_slope_and_intercept_of_each_slice(tmp_path: Path) -> None:
    """Scanners that rescale slice by slice exist; one slope for all would shift the others."""
    write(tmp_path, STACK, RescaleIntercept=[-1024 - 10 * n for n in range(9)])
    np.testing.assert_array_equal(load_series(one(tmp_path)).voxels, HU)


def test_a_slope_that_is_no_whole_number(tmp_path: Path) -> None:
    write(tmp_path, STACK, RescaleSlope=[1] * 4 + [0.5] * 5, RescaleIntercept=[-1024] * 4 + [-1024.5] * 5)
    volume = load_series(one(tmp_path))
    assert volume.voxels.dtype == np.float32
    np.testing.assert_allclose(volume.voxels, HU, atol=0.5)
    np.testing.assert_array_equal(volume.voxels[:4], HU[:4])


def test_a_slope_of_zero(tmp_path: Path) -> None:
    (path, *_) = write(tmp_path, STACK)
    dataset = pydicom.dcmread(path)
    dataset.RescaleSlope = 0
    dataset.save_as(path)
    with pytest.raises(ScanError, match="slope 0"):
        load_series(one(tmp_path))


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("padding", [-2000, -3024, -32768])
def test_padding_is_as_dark_as_air(tmp_path: Path, padding: int, tagged: bool) -> None:
    stored = STACK.values.copy()
    stored[:, :3] = padding
    stack = make_stack()
    object.__setattr__(stack, "values", stored)
    tags = {"PixelPaddingValue": padding} if tagged else {}
    write(tmp_path, stack, RescaleIntercept=0, **tags)
    voxels = load_series(one(tmp_path)).voxels
    assert np.all(voxels[:, -3:] == -1024)
    np.testing.assert_array_equal(voxels[:, :-3], HU[:, :-3])


def test_a_bright_padding_value(tmp_path: Path) -> None:
    stored = STACK.values.copy()
    stored[:, :3] = 32000
    stack = make_stack()
    object.__setattr__(stack, "values", stored)
    write(tmp_path, stack, RescaleIntercept=0, PixelPaddingValue=32000)
    assert np.all(load_series(one(tmp_path)).voxels[:, -3:] == -1024)


def test_a_padding_value_within_tissue_makes_no_holes(tmp_path: Path) -> None:
    """Written by converters that put 0 there, which is water."""
    stack = make_stack((9, 60, 60))
    assert (stack.values == 0).any()
    write(tmp_path, stack, RescaleIntercept=0, PixelPaddingValue=0)
    np.testing.assert_array_equal(load_series(one(tmp_path)).voxels, stack.values[:, ::-1, ::-1])


# --- packed and damaged pixels


@pytest.mark.parametrize(
    "syntax", ["RLE", "JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEG2000Lossless", "JPEGLSLossless"]
)
def test_packed_pixels(tmp_path: Path, syntax: str) -> None:
    for path in write(tmp_path, STACK):
        if syntax == "RLE":
            dataset = pydicom.dcmread(path)
            dataset.compress(RLELossless)
            dataset.save_as(path)
        else:
            compress(path, syntax)
    np.testing.assert_array_equal(load_series(one(tmp_path)).voxels, HU)


@pytest.mark.parametrize("syntax", ["", "JPEGLosslessProcess14_1", "JPEG2000Lossless"])
@pytest.mark.parametrize("keep", [0.2, 0.6, 0.98])
def test_truncated_pixels(tmp_path: Path, syntax: str, keep: float, capfd: pytest.CaptureFixture[str]) -> None:
    """Half a slice of air would be a lung without infection."""
    stack = make_stack((9, 60, 60))
    paths = write(tmp_path, stack)
    for path in paths if syntax else []:
        compress(path, syntax)
    content = paths[4].read_bytes()
    head = content.rindex(b"\xe0\x7f\x10\x00")
    paths[4].write_bytes(content[: head + int((len(content) - head) * keep)])
    (series,) = find_series(tmp_path)
    with pytest.raises(ScanError, match=r"damaged, missing or truncated"):
        load_series(series)
    assert SECRET not in "".join(capfd.readouterr())


def test_slices_unpacked_by_several_processes_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And those of a series that are not packed lie between them. One process stays for the next series."""
    monkeypatch.setattr(pixels, "_ENOUGH", 8)
    monkeypatch.setattr(pixels, "_DECODERS", 3)
    stack = make_stack((45, 12, 10))
    for number, path in enumerate(write(tmp_path, stack)):
        if number % 5:
            compress(path, "JPEGLosslessProcess14_1")
    np.testing.assert_array_equal(load_series(one(tmp_path)).voxels, stack.values[:, ::-1, ::-1])
    assert len(decoding._idle) == 1


def test_a_crash_of_the_decoder_costs_the_file_and_not_the_dashboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GDCM does crash on some damaged files; so does whatever else is killed for memory."""
    for path in write(tmp_path, STACK):
        compress(path, "JPEG2000Lossless")
    load_series(one(tmp_path))
    decoding._end()
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "COMMAND", (sys.executable, "-c", "import os; input(); os.abort()"))
        with pytest.raises(ScanError, match="damaged"):
            load_series(one(tmp_path))
        patch.setattr(decoding, "COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
        patch.setattr(decoding, "PATIENCE", 0.2)
        with pytest.raises(ScanError, match="damaged"):
            load_series(one(tmp_path))
    load_series(one(tmp_path))
    for decoder in decoding._idle:  # between two files
        decoder.process.kill()
        decoder.process.wait()
    load_series(one(tmp_path))


def test_no_pixels_at_all(tmp_path: Path) -> None:
    write(tmp_path, STACK, PixelData=None)
    with pytest.raises(ScanError, match="missing or truncated"):
        load_series(one(tmp_path))


def test_odd_tags_do_not_print_what_is_in_them(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """pydicom warns of values that break the standard, and quotes them."""
    paths = write(tmp_path, STACK)
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(content.replace(f"{SECRET}-4711".encode(), f"{SECRET}\\4711".encode()))
    load_series(one(tmp_path))
    assert not recwarn.list


# --- real series


@pytest.mark.parametrize(
    ("name", "slices", "interpolated"),
    [("gstt_covid_20", 21, (1,)), ("lungpetct_A0002_8mm_B40f", 30, ()), ("lungmask_2_minimal_tags", 2, ())],
)
def test_real_series(real_data: Path, name: str, slices: int, interpolated: tuple[int, ...]) -> None:
    series = one(real_data / "dicom" / name)
    volume = load_series(series)
    assert (series.slices, series.interpolated) == (slices, interpolated)
    assert volume.geometry.orientation == "LPS"
    assert volume.voxels.min() == -1024
    assert np.mean((volume.voxels > -950) & (volume.voxels < -600)) > 0.05  # lung


def test_the_lobes_of_a_real_series_lie_on_its_lungs(real_data: Path) -> None:
    """The lobe masks have the 20 slices of the files in their order: turned or moved, they would cover no lung."""
    import nibabel as nib

    volume = load_series(one(real_data / "dicom" / "gstt_covid_20"))
    lobes = sum(
        np.asarray(nib.load(file).dataobj) > 0 for file in (real_data / "dicom/gstt_covid_20_lung_lobes").iterdir()
    )
    lobes = lobes.T[:, :, ::-1]  # columns run to the left, rows to the front
    lung = volume.voxels[[0, *range(2, 21)]]
    right = np.mean(lung[lobes > 0] < -300)
    assert right > 0.9
    for wrong in (lung[::-1], lung[:, ::-1], lung[:, :, ::-1]):
        assert np.mean(wrong[lobes > 0] < -300) < right


def test_the_real_coronal_slice(real_data: Path) -> None:
    axial, coronal = find_series(real_data / "dicom" / "ny_sbu_singles")
    assert (axial.problem, coronal.problem) == ("", "one coronal slice: too few to make axial ones")
    assert load_series(axial).voxels.min() == -1024
    with pytest.raises(ScanError, match="one coronal slice"):
        load_series(coronal)
