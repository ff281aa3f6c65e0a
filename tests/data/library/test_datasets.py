"""Datasets on disk. What a user loses when it fails: data sets that cannot be read back, or runs compared across data
that differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from covseg_core.data.library.datasets import Case, Dataset, dataset_folder, delete_dataset, list_datasets, load_dataset
from covseg_core.errors import CovsegError, DatasetError, SettingError
from covseg_core.files import write_json

CASE = Case(
    id="a",
    patient="p",
    stacked=False,
    scan="cases/a/ct.nii.gz",
    infection="cases/a/infection_mask.nii.gz",
    lung=None,
    labels=(1, 2),
    shape=(3, 8, 8),
    spacing=(5.0, 0.7, 0.7),
    spacing_known=True,
    orientation="LPS",
    scale="HU",
    infection_voxels=(0, 4, 1),
    lung_voxels=None,
    sha256={"scan": "00", "infection": "11"},
    warnings=("w",),
)
DATASET = Dataset("demo", (CASE, replace(CASE, id="b", patient="q")), "2026-01-01T00:00:00+00:00", "a test")


def save(dataset: Dataset) -> None:
    write_json(dataset.folder / "dataset.json", dataset)


def test_a_dataset_reads_back_as_it_was_written() -> None:
    save(DATASET)
    assert load_dataset("demo") == DATASET
    assert load_dataset("demo").fingerprint == DATASET.fingerprint
    assert list_datasets() == ["demo"]


@pytest.mark.parametrize(
    "change",
    [
        {"id": "c"},
        {"patient": "r"},
        {"stacked": True},
        {"labels": (1,)},
        {"labels": None},
        {"scale": "0-255"},
        {"sha256": {"scan": "00", "infection": "12"}},
    ],
)
def test_the_fingerprint_follows_everything_a_training_sees(change: dict) -> None:
    changed = replace(DATASET, cases=(replace(CASE, **change), DATASET.cases[1]))
    assert changed.fingerprint != DATASET.fingerprint


def test_the_fingerprint_ignores_the_name_the_order_and_where_the_data_came_from() -> None:
    same = replace(DATASET, name="x", source="y", created="z", cases=DATASET.cases[::-1])
    assert same.fingerprint == DATASET.fingerprint


def test_the_fingerprint_is_what_runs_of_all_versions_have_recorded() -> None:
    """To the last digit: with another one they could not be resumed or scored."""
    assert DATASET.fingerprint == "30026596c5367722fa80d887cbb1dd713aae2515592582f8929cc15ee4952a03"


def test_every_stacked_slice_is_a_patient_of_its_own() -> None:
    stacked = replace(CASE, stacked=True)
    assert [stacked.patient_of(z) for z in range(3)] == ["p#0", "p#1", "p#2"]
    assert {CASE.patient_of(z) for z in range(3)} == {"p"}
    assert len(replace(DATASET, cases=(stacked,)).patients) == 3


def test_a_case_says_which_files_and_slices_it_has() -> None:
    assert (CASE.slices, CASE.positive_slices, CASE.voxels("infection"), CASE.voxels("lung")) == (3, 2, (0, 4, 1), None)
    assert replace(CASE, infection_voxels=None).positive_slices is None
    assert DATASET.path(CASE, "scan") == dataset_folder("demo") / "cases/a/ct.nii.gz"
    with pytest.raises(DatasetError, match="demo/a: no lung mask"):
        DATASET.path(CASE, "lung")
    assert DATASET.case("b").patient == "q"
    with pytest.raises(DatasetError, match=r"no case 'c'; expected one of a, b"):
        DATASET.case("c")


@pytest.mark.parametrize("file", ["/etc/passwd", "../../secret.nii.gz", "cases\\..\\x"])
def test_a_dataset_from_elsewhere_cannot_point_outside_its_folder(file: str) -> None:
    save(DATASET)
    path = DATASET.folder / "dataset.json"
    path.write_text(path.read_text().replace("cases/a/ct.nii.gz", file.replace("\\", "\\\\")))
    with pytest.raises(CovsegError):
        load_dataset("demo")


@pytest.mark.parametrize("name", ["../x", "/x", "", ".x", "a/b", "a\n"])
def test_names_that_are_paths_are_refused(name: str) -> None:
    with pytest.raises(SettingError):
        load_dataset(name)
    with pytest.raises(SettingError):
        delete_dataset(name)


def test_missing_and_damaged_datasets_are_said_in_one_line() -> None:
    with pytest.raises(DatasetError, match="demo: no such dataset; expected `covseg data add` first"):
        load_dataset("demo")
    save(DATASET)
    with pytest.raises(DatasetError, match="other: no such dataset; expected one of demo"):
        load_dataset("other")
    (DATASET.folder / "dataset.json").write_text('{"name": "demo"}')
    with pytest.raises(DatasetError, match=r"dataset.json: .*`cases`"):
        load_dataset("demo")
    (DATASET.folder / "dataset.json").unlink()
    with pytest.raises(DatasetError, match=r"dataset.json: no such file"):
        load_dataset("demo")


def test_delete_leaves_nothing_and_no_other_dataset_is_touched(data_folder: Path) -> None:
    save(DATASET)
    save(replace(DATASET, name="other"))
    delete_dataset("demo")
    assert [path.name for path in (data_folder / "datasets").iterdir()] == ["other"]
    with pytest.raises(DatasetError):
        delete_dataset("demo")


def test_a_folder_that_goes_while_it_is_looked_at_has_no_datasets(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import that fails removes the folders that it had made, also while a page lists what there is."""

    def gone(*_: object) -> Iterator[Path]:
        raise FileNotFoundError(2, "No such file or directory", "datasets")
        yield

    monkeypatch.setattr(Path, "glob", gone)
    assert list_datasets() == []
