"""Corrected masks. What a user loses when it fails: hours of drawing, a mask on the wrong side of the body, or a run
whose data nobody can name any more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicomfiles import stack_of, write
from niftis import listing
from scipy.spatial.transform import Rotation

from covseg_core.config import PrepareConfig
from covseg_core.data.library import revisions
from covseg_core.data.library.datasets import Dataset, dataset_folder, load_dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.data.library.revisions import history, read_revision, restore_revision, save_revision, stored_mask
from covseg_core.data.reading.volumes import load_mask, load_scan
from covseg_core.data.slices.cache import cache_path, prepared
from covseg_core.errors import CovsegError, DatasetError, PairingError, SettingError
from covseg_core.files import read_json

CASE = "phantom_001"


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(3)


def mask_of(dataset: Dataset, role: str = "infection") -> np.ndarray:
    return stored_mask(dataset, dataset.case(CASE), role)  # type: ignore[arg-type]


def drawn(dataset: Dataset, z: int = 2) -> np.ndarray:
    """The stored mask with a block added, and one voxel of it removed."""
    mask = mask_of(dataset).copy()
    first = tuple(np.argwhere(mask)[0])
    mask[z, 3:6, 4:9] = 1
    mask[first] = 0
    return mask


# --- what is stored


def test_a_corrected_mask_counts_from_then_on_and_the_old_one_stays(dataset: Dataset) -> None:
    before, files = mask_of(dataset), listing(dataset.folder)
    mask = drawn(dataset)
    saved = save_revision("phantoms", CASE, mask, author=" Ada ", minutes=3.27)
    now = load_dataset("phantoms")
    assert saved.dataset == now
    assert (now.revision, now.reference) == (2, "phantoms@2")
    assert np.array_equal(mask_of(now), mask)
    assert now.fingerprint != dataset.fingerprint
    case = now.case(CASE)
    assert case.infection_voxels == tuple(int(plane.sum()) for plane in mask)
    assert case.labels is None
    one = saved.revision
    assert (one.author, one.minutes, one.parent, one.number, one.origin) == ("Ada", 3.3, 1, 2, "editor")
    assert one.added == np.count_nonzero(mask > before)
    assert one.removed == np.count_nonzero(mask < before) > 0
    left = listing(dataset.folder)
    assert {name: content for name, content in left.items() if name in files and name != "dataset.json"} == {
        name: content for name, content in files.items() if name != "dataset.json"
    }, "an old file was touched"
    assert left.keys() - files.keys() == {f"cases/{CASE}/infection.r2.nii.gz"}


def test_each_revision_can_be_read_as_it_was(dataset: Dataset, phantom_files: Path) -> None:
    first = dataset.fingerprint
    masks = [mask_of(dataset)]
    for z in (1, 4):
        masks.append(drawn(load_dataset("phantoms"), z))
        save_revision("phantoms", CASE, masks[-1])
    lungs = mask_of(dataset, "lung").copy()
    lungs[4] = 0
    save_revision("phantoms", CASE, lungs, "lung")
    import_dataset("phantoms", [phantom_files / "phantom_004"], allow_empty=True)
    newest = load_dataset("phantoms")
    assert newest.revision == 5
    assert len(newest.cases) == 4
    for number, mask in enumerate(masks, start=1):
        then = load_dataset(f"phantoms@{number}")
        assert (then.revision, len(then.cases)) == (number, 3)
        assert np.array_equal(mask_of(then), mask)
    assert load_dataset("phantoms@1").fingerprint == first
    assert load_dataset("phantoms@1").cases == dataset.cases
    assert np.array_equal(mask_of(load_dataset("phantoms@3"), "lung"), mask_of(dataset, "lung"))
    assert np.array_equal(mask_of(load_dataset("phantoms@4"), "lung"), lungs)
    assert len({load_dataset(f"phantoms@{number}").fingerprint for number in range(1, 6)}) == 5
    assert load_dataset("phantoms", first) == load_dataset("phantoms@1"), "what a run was made from is found"
    assert load_dataset("phantoms", "0" * 64) == newest


def test_an_earlier_mask_is_brought_back_as_a_new_one(dataset: Dataset) -> None:
    first = mask_of(dataset)
    second = drawn(dataset)
    save_revision("phantoms", CASE, second, author="Ada")
    saved = restore_revision("phantoms", CASE, 1, author="Bob")
    one = saved.revision
    assert (one.number, one.parent, one.origin, one.author) == (3, 2, "revision 1", "Bob")
    assert not one.by_model
    assert (one.added, one.removed) == (np.count_nonzero(first > second), np.count_nonzero(first < second))
    now = load_dataset("phantoms")
    assert np.array_equal(mask_of(now), first)
    assert np.array_equal(mask_of(now.as_of(2)), second), "the later one stays"
    restore_revision("phantoms", CASE, 2)
    assert np.array_equal(mask_of(load_dataset("phantoms")), second)
    for number, said in ((4, "nothing was changed"), (9, "no revision 9")):
        with pytest.raises(DatasetError, match=said):
            restore_revision("phantoms", CASE, number)
    assert load_dataset("phantoms").revision == 4


def test_a_mask_that_was_not_there_yet_cannot_be_brought_back(phantom_files: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom_files / CASE, tmp_path / CASE)
    (tmp_path / CASE / "lung_mask.nii.gz").unlink()
    made = import_dataset("phantoms", [tmp_path / CASE])
    save_revision("phantoms", CASE, np.ones(made.case(CASE).shape, np.uint8), "lung")
    with pytest.raises(DatasetError, match="no mask of the lung"):
        restore_revision("phantoms", CASE, 1, "lung")


def test_a_dataset_of_an_earlier_version_is_its_first_revision(dataset: Dataset) -> None:
    """Runs recorded its fingerprint; with another one they could not be resumed or scored."""
    path = dataset.folder / "dataset.json"
    written = json.loads(path.read_text())
    del written["revision"]
    for case in written["cases"]:
        del case["since"], case["revisions"]
    path.write_text(json.dumps(written))
    old = load_dataset("phantoms")
    assert old == dataset
    assert (old.revision, old.fingerprint) == (1, dataset.fingerprint)
    save_revision("phantoms", CASE, drawn(old))
    assert load_dataset("phantoms@1").fingerprint == dataset.fingerprint


def test_labels_hold_for_the_mask_that_they_were_chosen_for(phantom_files: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom_files / CASE, tmp_path / "in" / CASE)
    path = tmp_path / "in" / CASE / "infection_mask.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj).astype(np.uint8) * 2, image.affine), path)
    dataset = import_dataset("phantoms", [tmp_path / "in"], labels=[2])
    save_revision("phantoms", CASE, drawn(dataset))
    assert load_dataset("phantoms").case(CASE).labels is None
    assert load_dataset("phantoms@1").case(CASE).labels == (2,)
    assert load_dataset("phantoms@1").fingerprint == dataset.fingerprint


def test_a_mask_can_be_begun_where_there_was_none(phantom_files: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom_files / CASE, tmp_path / "in" / CASE)
    (tmp_path / "in" / CASE / "lung_mask.nii.gz").unlink()
    dataset = import_dataset("phantoms", [tmp_path / "in"])
    lungs = load_mask(phantom_files / CASE / "lung_mask.nii.gz").voxels
    save_revision("phantoms", CASE, lungs, "lung", origin="lung-model")
    assert np.array_equal(mask_of(load_dataset("phantoms"), "lung"), lungs)
    assert "lung" not in load_dataset("phantoms@1").case(CASE).files
    assert load_dataset("phantoms@1").fingerprint == dataset.fingerprint


def test_slices_follow_the_new_mask(dataset: Dataset) -> None:
    """A cache that holds the old mask would train on it."""
    prepare = PrepareConfig(size=48)
    before = prepared(dataset, dataset.case(CASE), prepare, "infection").copy()
    mask = drawn(dataset)
    now = save_revision("phantoms", CASE, mask).dataset
    after = prepared(now, now.case(CASE), prepare, "infection")
    assert np.array_equal(after, mask[:, ::-1, ::-1])
    assert np.array_equal(prepared(dataset, dataset.case(CASE), prepare, "infection"), before)
    case, was = now.case(CASE), dataset.case(CASE)
    assert cache_path(now, case, prepare, "images") == cache_path(dataset, was, prepare, "images"), (
        "the scan is as it was"
    )


def test_lungs_that_slices_are_cut_to_follow_a_new_lung_mask(dataset: Dataset) -> None:
    lungs = mask_of(dataset, "lung").copy()
    lungs[:, : lungs.shape[1] // 2] = 0
    prepare = PrepareConfig(size=48, region="lungs")
    before = prepared(dataset, dataset.case(CASE), prepare, "images").copy()
    now = save_revision("phantoms", CASE, lungs, "lung").dataset
    assert not np.array_equal(prepared(now, now.case(CASE), prepare, "images"), before)


# --- geometry


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "SPL", "ARI"])
@pytest.mark.parametrize("tilt", [(0, 0, 0), (12, -7, 5)], ids=["straight", "oblique"])
@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_a_mask_lies_where_it_was_drawn_in_the_scan_s_own_file(
    kind: str, tilt: tuple[int, int, int], axes: str, tmp_path: Path
) -> None:
    """To the voxel, read again by nibabel and by covseg: a flip would teach a model the healthy side."""
    rng = np.random.default_rng(1)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix() @ np.diag([0.8, 0.9, 2.5])
    affine[:3, 3] = (-20, 13, 100)
    from covseg_core.data.phantom.phantom import write_sample

    write_sample(tmp_path / "made", scans=1, size=48, slices=8)
    source = tmp_path / "made" / CASE
    folder = tmp_path / "in" / CASE
    folder.mkdir(parents=True)
    for name in ("ct", "infection_mask"):
        values = np.asarray(nib.as_closest_canonical(nib.load(source / f"{name}.nii.gz")).dataobj)
        image = nib.Nifti1Image(values, affine)
        change = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(axes))
        image = image.as_reoriented(change)
        if name == "ct" and kind == "dicom":
            write(folder / "dicom", stack_of(image))
        else:
            nib.save(image, folder / f"{name}.nii.gz")
    dataset = import_dataset("phantoms", [tmp_path / "in"])
    case = dataset.case(CASE)
    mask = (rng.random(case.shape) < 0.02).astype(np.uint8)
    saved = save_revision("phantoms", CASE, mask).dataset
    path = saved.path(saved.case(CASE), "infection")
    scan, again = load_scan(saved.path(case, "scan")), load_mask(path)
    assert np.array_equal(again.voxels, mask)
    assert np.array_equal(stored_mask(saved, saved.case(CASE), "infection"), mask)
    stored, ct = nib.load(path), nib.load(saved.path(case, "scan"))
    assert stored.shape == ct.shape
    assert np.allclose(stored.affine, ct.affine, atol=1e-4)
    assert stored.get_data_dtype() == np.uint8
    for index in np.argwhere(np.asarray(stored.dataobj))[:20]:
        place = stored.affine @ [*index, 1]
        x, y, z = np.rint(np.linalg.inv(scan.affine) @ place)[:3].astype(int)
        assert mask[z, y, x]
    assert (kind == "dicom") == ("scan" in case.kept_sha256)


# --- from files


def test_a_file_of_another_program_is_taken_in_any_order_of_axes(dataset: Dataset, tmp_path: Path) -> None:
    case = dataset.case(CASE)
    mask = drawn(dataset)
    scan = load_scan(dataset.path(case, "scan"))
    image = nib.Nifti1Image(mask.T.astype(np.uint8), scan.affine)
    turned = image.as_reoriented(nib.orientations.axcodes2ornt("SPL"))
    nib.save(turned, tmp_path / "corrected.nii.gz")
    read, warning = read_revision("phantoms", CASE, tmp_path / "corrected.nii.gz")
    assert np.array_equal(read, mask)
    assert warning is None


def test_a_file_that_was_taken_away_comes_back_as_it_was(dataset: Dataset) -> None:
    """What the page hands out and what it takes are one format."""
    path = dataset.path(dataset.case(CASE), "infection")
    read, _ = read_revision("phantoms", CASE, path)
    with pytest.raises(DatasetError, match="nothing was changed"):
        save_revision("phantoms", CASE, read)


@pytest.mark.parametrize("change", ["shape", "place"])
def test_a_file_on_another_grid_is_refused(change: str, dataset: Dataset, tmp_path: Path) -> None:
    case = dataset.case(CASE)
    scan = load_scan(dataset.path(case, "scan"))
    mask, affine = drawn(dataset), scan.affine.copy()
    if change == "shape":
        mask = mask[1:]
    else:
        affine[:3, 3] += 5
    nib.save(nib.Nifti1Image(mask.T, affine), tmp_path / "mask.nii.gz")
    with pytest.raises(PairingError, match=rf"mask.nii.gz: .*; expected the grid of the scan of {CASE}"):
        read_revision("phantoms", CASE, tmp_path / "mask.nii.gz")


# --- two people


def test_who_saves_over_a_stale_mask_is_told_and_nothing_is_lost(dataset: Dataset) -> None:
    one, other = drawn(dataset, 1), drawn(dataset, 5)
    first = save_revision("phantoms", CASE, one, author="Ada", parent=1)
    assert first.beside == ()
    second = save_revision("phantoms", CASE, other, author="Bob", parent=1)
    assert [(each.number, each.author) for each in second.beside] == [(2, "Ada")]
    assert np.array_equal(mask_of(load_dataset("phantoms@2")), one)
    assert np.array_equal(mask_of(load_dataset("phantoms")), other)
    entries = history(load_dataset("phantoms"), CASE)
    infection = [entry for entry in entries if entry.revision.role == "infection"]
    told = [(entry.revision.number, entry.revision.author, entry.beside) for entry in infection]
    assert told == [(1, "", ()), (2, "Ada", ()), (3, "Bob", (2,))]


def test_masks_of_other_cases_and_roles_are_no_conflict(dataset: Dataset) -> None:
    save_revision(
        "phantoms", "phantom_003", 1 - stored_mask(dataset, dataset.case("phantom_003"), "infection"), parent=1
    )
    lungs = mask_of(dataset, "lung").copy()
    lungs[4] = 0
    save_revision("phantoms", CASE, lungs, "lung", parent=1)
    assert save_revision("phantoms", CASE, drawn(dataset), parent=1).beside == ()


def test_people_who_save_at_once_wait_for_each_other(dataset: Dataset) -> None:
    def save(z: int) -> None:
        save_revision("phantoms", CASE, drawn(dataset, z), parent=1)

    threads = [threading.Thread(target=save, args=(z,)) for z in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now = load_dataset("phantoms")
    assert now.revision == 5
    masks = {mask_of(load_dataset(f"phantoms@{number}")).tobytes() for number in range(2, 6)}
    assert masks == {drawn(dataset, z).tobytes() for z in range(4)}


# --- what goes wrong


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"case_id": "nobody"}, DatasetError, r"phantoms: no case 'nobody'; expected one of phantom_001, "),
        (
            {"mask": np.zeros((2, 3, 4), np.uint8)},
            DatasetError,
            r"a mask of 4 x 3 x 2 voxels; expected the 48 x 48 x 8",
        ),
        ({"parent": 7}, DatasetError, r"dataset phantoms: no revision 7; expected 1$"),
        ({"parent": 0}, DatasetError, r"no revision 0"),
        ({"role": "liver"}, SettingError, r"role: 'liver'; expected infection or lung"),
        ({"author": "x" * 101}, SettingError, r"expected up to 100 printable characters"),
        ({"author": "a\nb"}, SettingError, r"printable"),
        ({"minutes": -1.0}, SettingError, r"minutes: -1.0; expected 0 to 10000"),
        ({"minutes": float("nan")}, SettingError, r"minutes: nan"),
        ({"name": "nowhere"}, DatasetError, r"dataset nowhere: no such dataset"),
        ({"name": "phantoms@1"}, SettingError, r"dataset: 'phantoms@1'"),
        ({"role": "lung", "mask": "empty"}, DatasetError, r"a lung mask without a voxel"),
        ({"mask": "same"}, DatasetError, rf"phantoms/{CASE}: nothing was changed"),
    ],
)
def test_what_cannot_be_saved_is_said_in_a_line_and_changes_nothing(
    change: dict, error: type[CovsegError], says: str, dataset: Dataset, data_folder: Path
) -> None:
    before = listing(data_folder)
    arguments = {"name": "phantoms", "case_id": CASE, "mask": drawn(dataset)} | change
    if isinstance(arguments["mask"], str):
        arguments["mask"] = mask_of(dataset) * (arguments["mask"] == "same")
    with pytest.raises(error, match=says) as raised:
        save_revision(**arguments)
    assert "\n" not in str(raised.value)
    assert listing(data_folder) == before


def test_an_unknown_revision_is_said(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"dataset phantoms: no revision 4; expected 1$"):
        load_dataset("phantoms@4")
    save_revision("phantoms", CASE, drawn(dataset))
    with pytest.raises(DatasetError, match=r"no revision 4; expected 1 to 2"):
        load_dataset("phantoms@4")
    for name in ("phantoms@0", "phantoms@", "phantoms@x", "phantoms@-1"):
        with pytest.raises(CovsegError):
            load_dataset(name)


SAVE = """
import resource, sys
import numpy as np
from covseg_core.data.library import revisions
from covseg_core.data.library.datasets import load_dataset
from covseg_core.errors import CovsegError

dataset = load_dataset("phantoms")
case = dataset.case("phantom_001")
mask = revisions.stored_mask(dataset, case, "infection").copy()
mask[0, 3, 4] ^= 1
if sys.argv[1] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
else:
    def wait(*_):
        print("half", flush=True)
        sys.stdin.read()
    setattr(revisions, sys.argv[2], wait)
try:
    revisions.save_revision("phantoms", case.id, mask)
except CovsegError as error:
    sys.exit(f"refused: {error}")
"""


def saving(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SAVE, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=dict(os.environ))


@pytest.mark.parametrize("room", [100, 2000], ids=["for no mask", "for no description"])
def test_a_full_disk_leaves_the_old_state(room: int, dataset: Dataset, data_folder: Path) -> None:
    before = listing(data_folder)
    process = saving("full", room)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("refused: ")
    assert "File too large" in errors
    assert errors.count("\n") == 1
    assert listing(data_folder) == before


@pytest.mark.parametrize("step", ["sha256_file", "write_json"], ids=["before it is moved", "before it is listed"])
def test_kill_9_leaves_the_old_state_and_the_next_one_saves(step: str, dataset: Dataset, data_folder: Path) -> None:
    process = saving("kill", step)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.communicate()
    assert load_dataset("phantoms") == dataset
    mask = drawn(dataset)
    save_revision("phantoms", CASE, mask)
    assert np.array_equal(mask_of(load_dataset("phantoms")), mask)
    assert not list(data_folder.rglob(".import-*"))


def test_a_mask_that_was_changed_by_hand_is_not_taken_for_the_stored_one(dataset: Dataset) -> None:
    mask = drawn(dataset)
    path = dataset.path(dataset.case(CASE), "infection")
    image = nib.load(path)
    nib.save(nib.Nifti1Image(1 - np.asarray(image.dataobj), image.affine), path)
    with pytest.raises(DatasetError, match="has changed since it was imported"):
        save_revision("phantoms", CASE, mask)


def test_files_of_revisions_cannot_lead_out_of_the_folder(dataset: Dataset) -> None:
    save_revision("phantoms", CASE, drawn(dataset))
    path = dataset_folder("phantoms") / "dataset.json"
    path.write_text(path.read_text().replace(f"cases/{CASE}/infection_mask.nii.gz", "../../secret.nii.gz"))
    with pytest.raises(CovsegError, match="a path inside the dataset's folder"):
        load_dataset("phantoms")


def test_deleted_and_made_again_it_begins_anew(dataset: Dataset) -> None:
    from covseg_core.data.library.datasets import delete_dataset

    save_revision("phantoms", CASE, drawn(dataset))
    delete_dataset("phantoms")
    with pytest.raises(DatasetError, match="no such dataset"):
        load_dataset("phantoms@1")


def test_nothing_of_a_dataset_is_lost_between_writing_and_reading(dataset: Dataset) -> None:
    save_revision("phantoms", CASE, drawn(dataset), author="Ada")
    now = load_dataset("phantoms")
    assert read_json(now.folder / "dataset.json", Dataset) == now
    assert [entry.case for entry in history(now)] == [CASE]
    assert revisions.history(load_dataset("phantoms@1")) == []
