"""DICOM as training data. What a user loses when it fails: masks on other voxels than they were drawn on, or a name."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicomfiles import SECRET, make_stack, stack_of, write, write_seg
from nibabel import orientations
from niftis import listing
from scipy.spatial.transform import Rotation

from covseg_core.data.library.datasets import Case, Dataset, list_datasets
from covseg_core.data.library.importing import import_dataset
from covseg_core.data.library.pairing import segment_role, series_ids
from covseg_core.data.reading.opening import open_scan
from covseg_core.data.reading.volumes import load_mask, load_scan
from covseg_core.data.slices.originals import unchanged
from covseg_core.errors import CovsegError, DatasetError, PairingError, ScanError
from covseg_core.prediction.output.dicom_seg import save_dicom_seg
from covseg_core.prediction.scan import Scan, read_scan

Make = Callable[..., Path]


@pytest.fixture
def images(phantom_files: Path) -> dict[str, nib.Nifti1Image]:
    """A chest and its masks; no two of its mirror images look alike."""
    return {
        role: nib.load(phantom_files / f"phantom_001/{role}.nii.gz") for role in ("ct", "infection_mask", "lung_mask")
    }


@pytest.fixture
def series(images: dict[str, nib.Nifti1Image], tmp_path: Path) -> list[Path]:
    """Slices of the chest in `in/case_7/dicom`, in the order of its file."""
    return write(tmp_path / "in/case_7/dicom", stack_of(images["ct"]))


@pytest.fixture
def folder(series: list[Path]) -> Path:
    return series[0].parents[2]


def planes(image: nib.Nifti1Image) -> np.ndarray:
    """(N, rows, columns) as the slices have it."""
    return np.asarray(image.dataobj).T.astype(np.uint8)


def volume(dataset: Dataset, case: Case, role: str) -> np.ndarray:
    """(Z, Y, X) of a dataset's own file."""
    path = unchanged(dataset, case, role)
    return load_scan(path).voxels if role == "scan" else load_mask(path).voxels


def in_ras(image: nib.Nifti1Image) -> np.ndarray:
    return np.asarray(nib.as_closest_canonical(image).dataobj).T


def as_scan(folder: Path) -> Scan:
    return read_scan(folder, "HU")


# --- geometry


def turned(image: nib.Nifti1Image, axes: str, degrees: Sequence[float] = (0, 0, 0)) -> nib.Nifti1Image:
    """The same picture stored along other axes, in a patient who lies askew."""
    change = orientations.ornt_transform(orientations.io_orientation(image.affine), orientations.axcodes2ornt(axes))
    image = image.as_reoriented(change)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    return nib.Nifti1Image(image.dataobj, turn @ image.affine)


@pytest.mark.parametrize("kind", ["nifti", "predicted SEG", "SEG of highdicom"])
@pytest.mark.parametrize(
    ("axes", "degrees"),
    [("LPS", (0, 0, 0)), ("RAI", (0, 0, 0)), ("PIL", (0, 0, 0)), ("LSP", (0, 0, 0)), ("LPS", (11, -6, 17))],
    ids=["usual", "flipped", "sagittal", "coronal", "oblique"],
)
def test_scan_and_masks_come_out_to_the_voxel(
    images: dict[str, nib.Nifti1Image], tmp_path: Path, kind: str, axes: str, degrees: Sequence[float]
) -> None:
    ct, infection, lung = (turned(image, axes, degrees) for image in images.values())
    slices = write(tmp_path / "in/p1/dicom", stack_of(ct))
    if kind == "nifti":
        for name, mask in (("infection_mask", infection), ("lung_mask", lung)):
            nib.save(turned(mask, "RAS") if not any(degrees) else mask, tmp_path / f"in/p1/{name}.nii.gz")
    elif kind == "predicted SEG":
        scan = as_scan(tmp_path / "in/p1/dicom")
        for target, mask in (("infection", infection), ("lung", lung)):
            save_dicom_seg(in_ras(mask), scan, tmp_path / f"in/p1/{target}.dcm", target, "model", "1")  # type: ignore[arg-type]
    else:
        both = np.stack([planes(lung), planes(infection)], axis=-1)
        write_seg(tmp_path / "in/p1/1-1.dcm", slices, both, ["Lungs", "COVID"])

    dataset = import_dataset("demo", [tmp_path / "in"])
    [case] = dataset.cases
    assert case.id == "p1"
    for role, image in {"scan": ct, "infection": infection, "lung": lung}.items():
        assert np.array_equal(volume(dataset, case, role), in_ras(image))
    stored = nib.load(dataset.path(case, "scan"))
    assert np.allclose(nib.as_closest_canonical(stored).affine, nib.as_closest_canonical(ct).affine, atol=1e-4)
    assert case.infection_voxels == tuple(in_ras(infection).sum(axis=(1, 2)))
    assert (case.scale, case.spacing_known, case.shape) == ("HU", True, in_ras(ct).shape)


def test_a_tilted_gantry_stays_tilted(images: dict[str, nib.Nifti1Image], tmp_path: Path) -> None:
    """A grid that no rotation can say."""
    affine = np.linalg.inv(np.diag([1, 1, 1, 1])) @ images["ct"].affine
    affine[1, 2] += np.tan(np.radians(15)) * abs(affine[2, 2])
    ct, infection = (nib.Nifti1Image(images[role].dataobj, affine) for role in ("ct", "infection_mask"))
    write(tmp_path / "in/p1", stack_of(ct))
    scan = as_scan(tmp_path / "in/p1")
    save_dicom_seg(in_ras(infection), scan, tmp_path / "in/p1/mask.dcm", "infection", "model", "1")
    dataset = import_dataset("demo", [tmp_path / "in"])
    assert np.array_equal(volume(dataset, dataset.cases[0], "infection"), in_ras(infection))
    assert np.allclose(nib.load(dataset.path(dataset.cases[0], "scan")).affine, scan.volume.geometry.affine, atol=1e-4)


def test_highdicom_finds_the_mask_on_the_same_voxels(
    images: dict[str, nib.Nifti1Image], series: list[Path], folder: Path
) -> None:
    """A way of its own to the same voxels: highdicom's volumes instead of frame after frame."""
    import highdicom as hd

    seg = write_seg(folder / "case_7/seg.dcm", series, planes(images["infection_mask"])[..., None], ["GGO"])
    dataset = import_dataset("demo", [folder])
    scan = hd.get_volume_from_series([pydicom.dcmread(file) for file in series])
    theirs = hd.seg.segread(seg).get_volume(combine_segments=True).match_geometry(scan)
    ours = nib.load(dataset.path(dataset.cases[0], "infection"))
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    at = np.argwhere(theirs.array) @ theirs.affine[:3, :3].T + theirs.affine[:3, 3]
    index = np.linalg.inv(to_lps @ ours.affine) @ np.c_[at, np.ones(len(at))].T
    found = {tuple(voxel) for voxel in np.rint(index[:3].T).astype(int).tolist()}
    assert found == {tuple(voxel) for voxel in np.argwhere(np.asarray(ours.dataobj)).tolist()}


def test_a_slice_that_is_missing_is_made_of_its_neighbours_in_scan_and_mask(
    images: dict[str, nib.Nifti1Image], tmp_path: Path
) -> None:
    """Left empty, the mask would teach that the lesion ends there."""
    mask = planes(images["infection_mask"])
    gap = int((mask[:-2] & mask[2:]).sum(axis=(1, 2)).argmax()) + 1
    slices = write(tmp_path / "in/p1", stack_of(images["ct"]).without(gap))
    write_seg(tmp_path / "in/p1/mask.dcm", slices, np.delete(mask, gap, axis=0)[..., None], ["Infection"])
    dataset = import_dataset("demo", [tmp_path / "in"])
    [case] = dataset.cases
    stored = np.asarray(nib.load(dataset.path(case, "infection")).dataobj).T
    order = 1 if images["ct"].affine[2, 2] > 0 else -1
    expected = mask.copy()
    expected[gap] = mask[gap - 1] & mask[gap + 1]
    assert expected[gap].any()
    assert np.array_equal(stored, expected[::order])
    assert any(warning.startswith("missing or unequally spaced slices: 1 of") for warning in case.warnings)
    assert "the infection mask is interpolated in one plane, as the scan is" in case.warnings


# --- which series, which mask


LAYOUTS = {
    "a folder beside the masks": ("case_7/dicom", "case_7"),
    "the masks among the slices": ("case_7", "case_7"),
    "called ct": ("case_7/ct", "case_7"),
    "called as the mask, and ct": ("scans/case_7_ct", "masks"),
    "a tree of UIDs": ("case_7/1.2.840.113619.2.55/1.2.840.113619.2.56", "case_7"),
    "a disc of a hospital": ("case_7/DICOM/PA000001/ST000001/SE000001", "case_7"),
    "TCIA": ("case_7/08-02-2002-NA-CT CHEST-04614/2.000000-ROUTINE CHEST-97100", "case_7"),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_layouts_of_research_groups(
    images: dict[str, nib.Nifti1Image], tmp_path: Path, layout: tuple[str, str], packed: bool
) -> None:
    scan, masks = (tmp_path / "in/study" / part for part in layout)
    write(scan, stack_of(images["ct"]))
    masks.mkdir(exist_ok=True)
    name = "case_7.nii.gz" if masks.name == "masks" else "infection_mask.nii.gz"
    nib.save(images["infection_mask"], masks / name)
    (tmp_path / "in/study/Readme.txt").write_text("What is where")
    source = tmp_path / "in/study"
    if packed:
        source = Path(shutil.make_archive(str(tmp_path / "study"), "zip", tmp_path / "in", "study"))
    dataset = import_dataset("demo", [source])
    [case] = dataset.cases
    assert case.id == "case_7"
    assert case.infection is not None
    assert np.array_equal(volume(dataset, case, "scan"), in_ras(images["ct"]))


def test_a_case_can_be_given_by_itself(images: dict[str, nib.Nifti1Image], series: list[Path]) -> None:
    nib.save(images["lung_mask"], series[0].parents[1] / "lung_mask.nii.gz")
    assert [case.id for case in import_dataset("demo", [series[0].parents[1]]).cases] == ["case_7"]


def test_folders_of_one_name_in_those_of_two_people_are_two_cases(
    images: dict[str, nib.Nifti1Image], tmp_path: Path
) -> None:
    for number, person in enumerate(("anna", "bert")):
        stack = stack_of(nib.Nifti1Image(np.asarray(images["ct"].dataobj) + number, images["ct"].affine))
        slices = write(tmp_path / f"in/{person}/chest", stack, PatientID=person)
        mask = planes(images["infection_mask"])[..., None]
        (tmp_path / f"in/{person}/result").mkdir()
        write_seg(tmp_path / f"in/{person}/result/1-1.dcm", slices, mask, ["lesion"])
    assert [case.id for case in import_dataset("demo", [tmp_path / "in"]).cases] == ["anna-chest", "bert-chest"]


def test_a_seg_says_which_of_several_series_it_belongs_to(
    images: dict[str, nib.Nifti1Image], series: list[Path], folder: Path
) -> None:
    write(folder / "case_7/dicom/sharp", make_stack((9, 64, 64)))
    nib.save(images["infection_mask"], folder / "case_7/infection_mask.nii.gz")
    with pytest.raises(ScanError, match=r"case_7/dicom: 2 series can be used \(axial, 9 slices, .*a DICOM SEG that"):
        import_dataset("demo", [folder])
    (folder / "case_7/infection_mask.nii.gz").unlink()
    write_seg(folder / "case_7/1.dcm", series, planes(images["infection_mask"])[..., None], ["infection"])
    dataset = import_dataset("demo", [folder])
    assert np.array_equal(volume(dataset, dataset.cases[0], "scan"), in_ras(images["ct"]))
    assert [case.id for case in dataset.cases] == ["case_7"]
    assert "1 folder with DICOM passed over: no mask" in dataset.cases[0].warnings
    (folder / "case_7/dicom/sharp").rename(folder / "case_7/SE2")
    [case] = import_dataset("other", [folder]).cases
    assert case.sha256 == dataset.cases[0].sha256
    assert "1 other series passed over: not chosen" in case.warnings


def test_segments_are_recognised_by_their_words(
    images: dict[str, nib.Nifti1Image], series: list[Path], folder: Path
) -> None:
    """Two that are infection make one mask; what is neither infection nor lung makes none."""
    infection, lung = planes(images["infection_mask"]), planes(images["lung_mask"])
    upper = infection.copy()
    upper[len(upper) // 2 :] = 0
    masks = np.stack([upper, lung, infection - upper, 1 - lung], axis=-1)
    write_seg(folder / "case_7/seg.dcm", series, masks, ["GGO", "Left lung", "Consolidation", "Heart"])
    both = import_dataset("both", [folder])
    first, second = (import_dataset(f"l{label}", [folder], labels=[label]) for label in (1, 3))
    assert np.array_equal(volume(both, both.cases[0], "infection"), in_ras(images["infection_mask"]))
    assert np.array_equal(volume(both, both.cases[0], "lung"), in_ras(images["lung_mask"]))
    assert np.array_equal(
        volume(first, first.cases[0], "infection") + volume(second, second.cases[0], "infection"),
        volume(both, both.cases[0], "infection"),
    )
    assert len({dataset.fingerprint for dataset in (both, first, second)}) == 3
    assert "1 segment of a DICOM SEG passed over: neither infection nor lung" in both.cases[0].warnings
    assert any(warning.startswith("labels 1, 3 of the mask all count") for warning in both.cases[0].warnings)
    with pytest.raises(ScanError, match="seg.dcm: labels 1, 3; expected at least one of 7, or --allow-empty"):
        import_dataset("l7", [folder], labels=[7])


@pytest.mark.parametrize("file", ["infection_mask.dcm", "lesion.seg.dcm", "mask.dcm"])
def test_segments_without_a_name_are_what_the_file_is_called(
    images: dict[str, nib.Nifti1Image], series: list[Path], folder: Path, file: str
) -> None:
    write_seg(folder / "case_7" / file, series, planes(images["infection_mask"])[..., None], ["Segment_1"])
    assert import_dataset("demo", [folder]).cases[0].infection is not None


@pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
def test_other_kinds_of_seg(images: dict[str, nib.Nifti1Image], series: list[Path], folder: Path, kind: str) -> None:
    mask = planes(images["infection_mask"])[..., None]
    write_seg(folder / "case_7/1.dcm", series, mask * 0.8 if kind == "FRACTIONAL" else mask, ["lesion"], kind)
    dataset = import_dataset("demo", [folder])
    assert np.array_equal(volume(dataset, dataset.cases[0], "infection"), in_ras(images["infection_mask"]))


def test_names_of_folders() -> None:
    assert series_ids(PurePath("data/p7_ct/STUDY 7/SE1")) == ("p7", "p7_ct", "SE1", "STUDY_7", "data")
    assert series_ids(PurePath("all/p7/dicom")) == ("p7", "all")
    assert series_ids(PurePath("all/1.2.3.4.5")) == ("1.2.3.4.5", "all")
    assert series_ids(PurePath("dicom/ct")) == ()


def test_names_of_segments() -> None:
    assert [segment_role([name]) for name in ("Infectious", "Lung lesion", "lung_upper_lobe_left", "Segment 2")] == [
        "",
        "infection",
        "lung",
        None,
    ]
    assert segment_role(["Noninfectious opacity"]) == ""
    assert segment_role(["Segment_1", "", "Lesion"]) == "infection"


# --- what is kept


def test_the_scan_is_recognised_again(images: dict[str, nib.Nifti1Image], series: list[Path], folder: Path) -> None:
    """As the series, its zip, or the file in the dataset: a model must not be shown what it has learned by heart."""
    nib.save(images["infection_mask"], folder / "case_7/infection_mask.nii.gz")
    dataset = import_dataset("demo", [folder])
    [case] = dataset.cases
    packed = shutil.make_archive(str(folder.parent / "packed"), "zip", series[0].parent)
    for source in (series[0].parent, packed, dataset.path(case, "scan")):
        assert open_scan(source).sha256 in case.scan_sha256
    assert case.sha256["scan"] == open_scan(series[0].parent).sha256
    stored = dataset.path(case, "scan").read_bytes()
    assert case.kept_sha256 == {"scan": hashlib.sha256(stored).hexdigest()}


def test_the_same_series_twice_is_one_scan_too_many(
    images: dict[str, nib.Nifti1Image], series: list[Path], folder: Path
) -> None:
    nib.save(images["infection_mask"], folder / "case_7/infection_mask.nii.gz")
    dataset = import_dataset("demo", [folder])
    shutil.copytree(folder / "case_7", folder / "case_8")
    with pytest.raises(PairingError, match="case case_8: the same scan as case case_7"):
        import_dataset("two", [folder])
    shutil.rmtree(folder / "case_8/dicom")
    shutil.copy(dataset.path(dataset.cases[0], "scan"), folder / "case_8/ct.nii.gz")
    with pytest.raises(PairingError, match="case case_8: the same scan as case case_7"):
        import_dataset("two", [folder])


def test_no_name_gets_into_the_dataset_and_the_bytes_are_always_the_same(
    images: dict[str, nib.Nifti1Image], series: list[Path], folder: Path, data_folder: Path
) -> None:
    both = np.stack([planes(images["lung_mask"]), planes(images["infection_mask"])], axis=-1)
    write_seg(folder / "case_7/1.dcm", series, both, ["Lung", f"{SECRET} lesion"], description=SECRET)
    sources = [SECRET.encode() in file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    assert all(sources)
    first, second = (import_dataset(name, [folder]) for name in ("first", "second"))
    for file in filter(Path.is_file, data_folder.rglob("*")):
        content = file.read_bytes()
        assert SECRET.lower().encode() not in content.lower()
        if content.startswith(b"\x1f\x8b"):
            assert content[3] == 0  # neither name nor comment
            assert content[4:8] == bytes(4)  # no time
            assert SECRET.encode() not in gzip.decompress(content)
    one, two = (listing(dataset.folder / "cases") for dataset in (first, second))
    assert list(one.values()) == list(two.values())
    assert first.fingerprint == second.fingerprint


# --- wrong input


def broken(folder: Path, series: list[Path], images: dict[str, nib.Nifti1Image], how: str) -> None:
    mask = planes(images["infection_mask"])[..., None]
    seg, nifti = folder / "case_7/1.dcm", folder / "case_7/infection_mask.nii.gz"
    if how == "no mask":
        return
    nib.save(images["infection_mask"], nifti)
    match how:
        case "MR":
            for file in series:
                slice_ = pydicom.dcmread(file)
                slice_.Modality, slice_.SOPClassUID = "MR", "1.2.840.10008.5.1.4.1.1.4"
                slice_.save_as(file)
        case "damaged slice":
            series[3].write_bytes(series[3].read_bytes()[:200])
        case "truncated pixels":
            series[3].write_bytes(series[3].read_bytes()[:-100])
        case "identity affine":
            nib.save(nib.Nifti1Image(images["infection_mask"].dataobj, np.eye(4)), nifti)
        case "displaced mask":
            affine = images["ct"].affine.copy()
            affine[0, 3] += 2
            nib.save(nib.Nifti1Image(images["infection_mask"].dataobj, affine), nifti)
        case "slices in mask":
            write(folder / "case_8/lesion_mask", make_stack((9, 64, 64)))
        case "damaged SEG":
            nifti.unlink()
            write_seg(seg, series, mask, ["lesion"])
            seg.write_bytes(seg.read_bytes()[:-600])
        case "unknown segment":
            write_seg(seg, series, mask, ["Tumour"])
        case "two masks":
            write_seg(seg, series, mask, ["lesion"])
        case "SEG alone":
            nifti.unlink()
            write_seg(seg, series, mask, ["lesion"])
            shutil.rmtree(series[0].parent)
        case "SEG of another series":
            nifti.unlink()
            other = write(folder.parent / "other", stack_of(images["ct"]))
            write_seg(seg, other, mask, ["lesion"])
        case "SEG on another grid":
            nifti.unlink()
            write_seg(seg, series, mask, ["lesion"])
            moved = pydicom.dcmread(seg)
            for group in moved.PerFrameFunctionalGroupsSequence:
                group.PlanePositionSequence[0].ImagePositionPatient[1] += 1.7
            moved.save_as(seg)
        case "SEG in another frame":
            nifti.unlink()
            write_seg(seg, series, mask, ["lesion"])
            moved = pydicom.dcmread(seg)
            moved.FrameOfReferenceUID = "1.2.3"
            moved.save_as(seg)
        case "SEG beyond the scan":
            nifti.unlink()
            write_seg(seg, series, np.ones_like(mask), ["lesion"])
            series[0].unlink()


WRONG: dict[str, tuple[type[CovsegError], str]] = {
    "no mask": (DatasetError, "dataset demo: 1 scan and no mask"),
    "MR": (ScanError, "case_7/dicom: no usable CT series .*magnetic resonance, not a CT"),
    "damaged slice": (ScanError, r"case_7/dicom/IM\d+: a damaged DICOM file; expected complete DICOM files only"),
    "truncated pixels": (ScanError, "case_7/dicom: a slice with damaged, missing or truncated pixels"),
    "identity affine": (PairingError, "infection_mask.nii.gz: a header without a position; expected the grid of"),
    "displaced mask": (PairingError, "infection_mask.nii.gz: lies up to 2 mm from the grid of dicom"),
    "slices in mask": (
        PairingError,
        "case_8/lesion_mask: a DICOM series of CT slices; expected masks as NIfTI or DICOM",
    ),
    "damaged SEG": (ScanError, r"1.dcm: a damaged or truncated DICOM SEG; expected a complete file"),
    "unknown segment": (PairingError, "case_7/1.dcm: a segment of another name; expected infection, lesion or lung in"),
    "two masks": (PairingError, "infection_mask.nii.gz: second mask of its kind with the id case_7, after .*1.dcm"),
    "SEG alone": (PairingError, "case_7/1.dcm: a DICOM SEG of a series that is not here; expected the series"),
    "SEG of another series": (PairingError, "1.dcm: a DICOM SEG of another series; expected one of the series in"),
    "SEG on another grid": (PairingError, "1.dcm: frames up to 1.7 mm beside the scan's voxels; expected the grid of"),
    "SEG in another frame": (PairingError, "1.dcm: a DICOM SEG in another frame of reference"),
    "SEG beyond the scan": (PairingError, "1.dcm: a segment that reaches out of the scan; expected the grid of"),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_imported(
    images: dict[str, nib.Nifti1Image], series: list[Path], folder: Path, data_folder: Path, how: str
) -> None:
    broken(folder, series, images, how)
    kind, text = WRONG[how]
    with pytest.raises(kind, match=text) as caught:
        import_dataset("demo", [folder])
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert list_datasets() == []
    assert not data_folder.exists() or listing(data_folder) == {}


def test_what_is_no_ct_is_passed_over_with_a_word(
    images: dict[str, nib.Nifti1Image], series: list[Path], folder: Path
) -> None:
    """Studies come with overviews, dose tables and other modalities in folders of their own."""
    nib.save(images["infection_mask"], folder / "case_7/infection_mask.nii.gz")
    write(folder / "topogram", make_stack((1, 64, 64)), ImageType=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    write(folder / "pet/p9", make_stack((9, 64, 64)), Modality="PT")
    [case] = import_dataset("demo", [folder]).cases
    assert case.id == "case_7"
    [warning] = [warning for warning in case.warnings if "DICOM passed over" in warning]
    assert warning.startswith("2 folders with DICOM passed over: PET, not a CT; a localiser")


def test_a_file_that_is_neither_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "scan.mhd").write_text("ObjectType = Image")
    with pytest.raises(ScanError, match=r"scan.mhd: neither NIfTI by its name nor DICOM; expected a .nii or .nii.gz"):
        import_dataset("demo", [tmp_path / "scan.mhd"])


def test_a_zip_names_the_file_inside(images: dict[str, nib.Nifti1Image], series: list[Path], folder: Path) -> None:
    nib.save(images["infection_mask"], folder / "case_7/infection_mask.nii.gz")
    series[3].write_bytes(series[3].read_bytes()[:-100])
    with zipfile.ZipFile(folder.parent / "all.zip", "w") as archive:
        for file in filter(Path.is_file, folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    with pytest.raises(ScanError, match="^all/case_7/dicom: a slice with damaged"):
        import_dataset("demo", [folder.parent / "all.zip"])


# --- real files


def lobes(real_data: Path) -> np.ndarray:
    """(20, rows, columns) uint8: five lobes together, a plane for each of the 20 slices, from the feet."""
    files = (real_data / "dicom/gstt_covid_20_lung_lobes").glob("*.nii.gz")
    return np.max([np.asarray(nib.load(file).dataobj).T for file in files], axis=0).astype(np.uint8)


def test_a_real_series_with_a_missing_slice(real_data: Path, tmp_path: Path) -> None:
    """Its masks' headers have another spacing and side than the slices; a SEG of the same voxels fits."""
    case = tmp_path / "in/gstt_20"
    shutil.copytree(real_data / "dicom/gstt_covid_20", case / "dicom")
    lower = real_data / "dicom/gstt_covid_20_lung_lobes/lung_lower_lobe_left.nii.gz"
    shutil.copy(lower, case / "lung_mask.nii.gz")
    with pytest.raises(PairingError, match="lung_mask.nii.gz: shape 512 x 512 x 20, not 512 x 512 x 21 as in dicom"):
        import_dataset("demo", [tmp_path / "in"])
    (case / "lung_mask.nii.gz").unlink()

    opened = open_scan(case / "dicom")
    assert opened.series is not None
    mask = lobes(real_data)[..., None]
    write_seg(case / "lobes.dcm", opened.series.files, mask, ["Lung"])
    dataset = import_dataset("demo", [tmp_path / "in"])
    [imported] = dataset.cases
    assert np.array_equal(volume(dataset, imported, "scan"), opened.volume.voxels)
    real = [z for z in range(21) if z not in opened.interpolated]
    canonical = nib.as_closest_canonical(nib.load(dataset.path(imported, "lung")))
    stored = np.asarray(canonical.dataobj).T
    assert np.array_equal(stored[real][:, ::-1, ::-1], mask[..., 0])
    assert stored[1].any()
    assert imported.sha256["scan"] == open_scan(real_data / "dicom/gstt_covid_20").sha256


@pytest.mark.parametrize("name", ["ricord1a_000082_every8", "lungpetct_A0002_8mm_B40f"])
def test_real_series_and_their_predicted_masks(real_data: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in" / name
    shutil.copytree(real_data / "dicom" / name, folder)
    scan = read_scan(folder)
    mask = (scan.volume.voxels > -500) & (np.arange(512) < 300)
    save_dicom_seg(mask, scan, folder / "mask.dcm", "infection", "model", "1")
    dataset = import_dataset("demo", [tmp_path / "in"])
    [case] = dataset.cases
    assert np.array_equal(volume(dataset, case, "infection"), mask)
    assert np.array_equal(volume(dataset, case, "scan"), scan.volume.voxels)
