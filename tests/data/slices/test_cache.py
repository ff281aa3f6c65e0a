"""The slice cache: never out of date, never half a file, shared by processes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from covseg_core.config import PrepareConfig
from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.slices import cache
from covseg_core.data.slices.cache import cache_path, case_grid, prepare_dataset, prepared
from covseg_core.data.slices.intensity import to_uint8
from covseg_core.data.slices.slices import to_images, to_masks
from covseg_core.errors import CovsegError, DatasetError
from covseg_core.files import sha256_file, write_json

PREPARE = PrepareConfig(size=32)


@pytest.fixture
def dataset(data_folder: Path) -> Dataset:
    """Two cases of 5 slices of 40 x 48 voxels with infection labels 0 to 2; the second has no lung mask."""
    folder = data_folder / "datasets" / "chests"
    cases = []
    for number in range(2):
        random = np.random.default_rng(number)
        files = {"scan": f"{number}-ct.nii.gz", "infection": f"{number}-infection.nii.gz"}
        arrays = {"scan": random.integers(-1000, 400, (5, 40, 48)), "infection": random.integers(0, 3, (5, 40, 48))}
        if number == 0:
            files["lung"], arrays["lung"] = "lung.nii", random.integers(0, 2, (5, 40, 48))
        folder.mkdir(parents=True, exist_ok=True)
        for role, array in arrays.items():
            kind = np.int16 if role == "scan" else np.uint8
            image = nib.Nifti1Image(array.astype(kind).transpose(2, 1, 0), np.diag([2.0, 2.5, 5.0, 1.0]))
            nib.save(image, folder / files[role])
        counts = tuple(int(count) for count in (arrays["infection"] == 2).sum((1, 2)))
        case = Case(
            id=f"case{number}",
            patient=f"p{number}",
            stacked=False,
            scan=files["scan"],
            infection=files["infection"],
            lung=files.get("lung"),
            labels=(2,),
            shape=(5, 40, 48),
            spacing=(5.0, 2.5, 2.0),
            spacing_known=True,
            orientation="RAS",
            scale="HU",
            infection_voxels=counts,
            lung_voxels=(1,) * 5 if number == 0 else None,
            sha256={role: sha256_file(folder / file) for role, file in files.items()},
        )
        cases.append(case)
    dataset = Dataset("chests", tuple(cases), "2024-01-01T00:00:00+00:00", "random numbers")
    write_json(folder / "dataset.json", dataset)
    return dataset


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was read and resized, as opposed to taken from the cache."""
    built: list[str] = []

    def build(dataset: Dataset, case: Case, prepare: PrepareConfig, what: cache.What) -> np.ndarray:
        built.append(f"{case.id}/{what}")
        return original(dataset, case, prepare, what)

    original = cache._build
    monkeypatch.setattr(cache, "_build", build)
    return built


def stored(dataset: Dataset, name: str) -> np.ndarray:
    """A file's voxels as (Z, Y, X)."""
    return np.asarray(nib.load(dataset.folder / name).dataobj).T  # type: ignore[attr-defined]


@pytest.mark.parametrize("prepare", [PREPARE, PrepareConfig(size=32, resize="thesis"), PrepareConfig(32, (-1000, 0))])
def test_prepared_slices_are_those_of_the_scan(dataset: Dataset, prepare: PrepareConfig) -> None:
    """A model trained on other pixels, or another label's mask, than it was asked for learns the wrong thing."""
    for case in dataset.cases:
        grid = case_grid(dataset, case, prepare)
        images = prepared(dataset, case, prepare, "images")
        infection = prepared(dataset, case, prepare, "infection")
        grey = to_uint8(np.ascontiguousarray(stored(dataset, case.scan)), "HU", prepare.window)
        np.testing.assert_array_equal(images, to_images(grey, grid))
        label2 = (stored(dataset, f"{case.id[-1]}-infection.nii.gz") == 2).astype(np.uint8)
        np.testing.assert_array_equal(infection, to_masks(label2, grid))
        assert images.dtype == infection.dtype == np.uint8
    assert grid.shape == (40, 48)
    assert grid.spacing == (2.5, 2.0)


def test_a_second_start_reads_no_scan(dataset: Dataset, builds: list[str]) -> None:
    """Waiting for all scans to be resized once more at each start is what the cache is for."""
    seen: list[tuple[int, int]] = []
    prepare_dataset(dataset, PREPARE, progress=lambda done, total: seen.append((done, total)))
    assert sorted(builds) == ["case0/images", "case0/infection", "case1/images", "case1/infection"]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    prepare_dataset(dataset, PREPARE)
    assert len(builds) == 4


def test_slices_are_mapped_not_read_and_cannot_be_changed(dataset: Dataset) -> None:
    """A write into the shared cache would change everybody's training data."""
    images = prepared(dataset, dataset.cases[0], PREPARE, "images")
    assert isinstance(images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0, 0, 0] = 1


def test_only_what_changes_a_pixel_is_built_again(dataset: Dataset) -> None:
    """Stale masks after a change of labels would be silent; redoing images for it would be slow."""

    def paths(case: Case, prepare: PrepareConfig) -> tuple[Path, Path, Path]:
        return tuple(cache_path(dataset, case, prepare, what) for what in ("images", "infection", "lung"))  # type: ignore[return-value]

    case = dataset.cases[0]
    before = paths(case, PREPARE)
    assert len({path.parent for path in before}) == 3

    def changed(case: Case, prepare: PrepareConfig) -> str:
        pairs = zip(("images", "infection", "lung"), before, paths(case, prepare), strict=True)
        return " ".join(what for what, old, new in pairs if old != new)

    replace = dataclasses.replace
    assert changed(replace(case, id="other", patient="q", warnings=("x",)), PREPARE) == ""
    assert changed(replace(case, labels=(1,)), PREPARE) == "infection"
    assert changed(replace(case, scale="0-255"), PREPARE) == "images"
    assert changed(case, PrepareConfig(32, (-1000.0, 0.0))) == "images"
    assert changed(case, PrepareConfig(32, (-1250, 250))) == ""
    assert changed(case, PrepareConfig(48)) == "images infection lung"
    assert changed(case, PrepareConfig(32, resize="thesis")) == "images infection lung"
    assert changed(replace(case, spacing=(5.0, 2.0, 2.0)), PREPARE) == "images infection lung"
    assert changed(replace(case, sha256=case.sha256 | {"lung": "0"}), PREPARE) == "lung"


def test_keys_are_the_same_in_every_version() -> None:
    """An update that changes no pixel must not make users resize all their scans again."""
    case = Case(
        *("c", "p", False, "ct.nii", "mask.nii", None, (1, 2), (30, 512, 512), (5.0, 0.7, 0.7), True, "LPS", "HU"),
        infection_voxels=None,
        lung_voxels=None,
        sha256={"scan": "aa", "infection": "bb"},
    )
    keys = [cache_path(dataset, case, PrepareConfig(), what).parent.name[:16] for what in ("images", "infection")]
    assert keys == ["19f9eb15867747fe", "83c07504bd8581e6"]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def zero_end(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-2000] + bytes(2000))


def other_array(path: Path) -> None:
    np.save(path, np.zeros((5, 32, 32), np.float32))


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        flip,
        zero_end,
        other_array,
        pickled,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\x93N"),
    ],
)
def test_a_damaged_file_is_built_again(dataset: Dataset, builds: list[str], damage: Callable[[Path], None]) -> None:
    """After a power cut or a disk error the user goes on with right pixels and without deleting anything by hand."""
    case = dataset.cases[0]
    right = np.array(prepared(dataset, case, PREPARE, "images"))
    damage(cache_path(dataset, case, PREPARE, "images"))
    np.testing.assert_array_equal(prepared(dataset, case, PREPARE, "images"), right)
    assert builds == ["case0/images"] * 2


def test_slices_in_use_survive_the_cache_being_cleared(dataset: Dataset, data_folder: Path) -> None:
    """Deleting `data/cache` while something trains must not crash it."""
    import shutil

    images = prepared(dataset, dataset.cases[0], PREPARE, "images")
    right = np.array(images)
    shutil.rmtree(data_folder / "cache")
    np.testing.assert_array_equal(images, right)


PREPARE_ALL = """
import hashlib, sys, time
from covseg_core.data.slices.cache import prepare_dataset, prepared
from covseg_core.config import PrepareConfig
from covseg_core.data.library.datasets import load_dataset
dataset, config = load_dataset("chests"), PrepareConfig(size=32)
print("ready", flush=True)
sys.stdin.readline()
prepare_dataset(dataset, config)
for case in dataset.cases:
    for what in ("images", "infection"):
        print(hashlib.sha256(prepared(dataset, case, config, what)).hexdigest())
"""


def test_processes_may_prepare_the_same_case_at_once(dataset: Dataset, data_folder: Path) -> None:
    """A training and the dashboard that start together both get whole slices."""
    command = [sys.executable, "-c", PREPARE_ALL]
    run = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in run:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in run:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=100)[0].split() for process in run]
    right = [
        hashlib.sha256(prepared(dataset, case, PREPARE, what)).hexdigest()  # type: ignore[arg-type]
        for case in dataset.cases
        for what in ("images", "infection")
    ]
    assert outputs == [right] * 3
    assert [path.name for path in (data_folder / "cache").rglob(".*")] == []


def test_a_process_killed_while_writing_leaves_no_broken_slices(dataset: Dataset, data_folder: Path) -> None:
    """Half a scan under its final name would be trained on."""
    kill = "import os, signal; os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)\n"
    killed = subprocess.run([sys.executable, "-c", kill + PREPARE_ALL], input="go\n", text=True, capture_output=True)
    assert killed.returncode == -9
    assert list((data_folder / "cache").rglob("[!.]*.npy")) == []
    expected = to_masks(
        (stored(dataset, "0-infection.nii.gz") == 2).astype(np.uint8), case_grid(dataset, dataset.cases[0], PREPARE)
    )
    np.testing.assert_array_equal(prepared(dataset, dataset.cases[0], PREPARE, "infection"), expected)


def test_a_full_disk_is_one_clear_line(dataset: Dataset, data_folder: Path) -> None:
    """A file size limit stands for a full disk: the write fails in the middle."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
    catch = "import sys; sys.excepthook = lambda kind, error, trace: print(kind.__name__, error)\n"
    done = subprocess.run(
        [sys.executable, "-c", limit + catch + PREPARE_ALL], input="go\n", text=True, capture_output=True
    )
    assert "CovsegError" in done.stdout
    assert "cannot write the slice cache (File too large)" in done.stdout
    assert list((data_folder / "cache").rglob("*.npy")) == []


@pytest.mark.parametrize(
    ("change", "says"), [("write", "has changed since it was imported"), ("unlink", "no such file")]
)
def test_a_file_that_is_not_the_imported_one_is_refused(dataset: Dataset, change: str, says: str) -> None:
    """Its pixels would be filed under the imported one's hash, and the run could never be repeated."""
    case = dataset.cases[1]
    file = dataset.folder / case.scan
    if change == "write":
        file.write_bytes(file.read_bytes() + b"x")
    else:
        file.unlink()
    with pytest.raises(DatasetError, match=says):
        prepared(dataset, case, PREPARE, "images")
    with pytest.raises(DatasetError, match=says):
        prepare_dataset(dataset, PREPARE)


def test_a_mask_whose_scan_is_gone_is_refused_in_the_same_words(dataset: Dataset) -> None:
    """Images and masks are made side by side: which of them fails first must not decide what the user reads."""
    case = dataset.cases[1]
    (dataset.folder / case.scan).unlink()
    with pytest.raises(DatasetError, match=r"no such file; expected the scan of case case1 as imported into"):
        prepared(dataset, case, PREPARE, "infection")


def test_asking_for_a_mask_that_is_not_there_is_an_error_of_the_user(dataset: Dataset) -> None:
    """Training for the lung without lung masks is refused by name, not by a traceback."""
    with pytest.raises(DatasetError, match="case case1: no lung mask"):
        prepared(dataset, dataset.cases[1], PREPARE, "lung")


def test_a_cache_that_cannot_be_written_is_one_clear_line(dataset: Dataset, data_folder: Path) -> None:
    """A file where the folder should be: the user learns which."""
    (data_folder / "cache").write_text("not a folder")
    with pytest.raises(CovsegError, match="cannot write the slice cache"):
        prepared(dataset, dataset.cases[0], PREPARE, "images")


def test_masks_without_geometry_take_the_scans(dataset: Dataset) -> None:
    """Masks exported without a header are stored in the scan's axes; unflipped they would label the wrong lung."""
    scan = nib.load(dataset.folder / dataset.cases[1].scan)
    lps = nib.Nifti1Image(np.asarray(scan.dataobj)[::-1, ::-1], np.diag([-2.0, -2.5, 5.0, 1.0]))  # type: ignore[attr-defined]
    blob = np.zeros((48, 40, 5), np.uint8)
    blob[:20, :10] = 2
    bare = nib.Nifti1Image(blob, np.eye(4))
    bare.set_sform(None, 0)
    bare.set_qform(None, 0)
    nib.save(lps, dataset.folder / "lps.nii.gz")
    nib.save(bare, dataset.folder / "bare.nii.gz")
    hashes = {
        role: sha256_file(dataset.folder / f"{name}.nii.gz") for role, name in (("scan", "lps"), ("infection", "bare"))
    }
    case = dataclasses.replace(dataset.cases[1], scan="lps.nii.gz", infection="bare.nii.gz", sha256=hashes)
    infection = prepared(dataset, case, PREPARE, "infection")
    rows, columns = np.nonzero(infection[0])
    assert columns.max() < 16, "the patient's right is on the left of the image"
    assert rows.max() < 16, "and the front is up"
