"""Lungs first, from a model to a mask. What a user loses otherwise: scores of other masks than those he is given."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chests import grey
from known import node, save_between, save_known, save_line
from scipy import ndimage

from covseg_core.config import PrepareConfig, RunConfig, Target
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.reading.volumes import load_mask
from covseg_core.data.slices.cache import cache_path, case_grid, prepared
from covseg_core.data.slices.lungs import REACH, case_lungs, known_lungs
from covseg_core.data.slices.slices import to_native
from covseg_core.errors import DatasetError, RunError, ScanError
from covseg_core.files import write_json
from covseg_core.prediction.ask import Answers, ask
from covseg_core.prediction.case_lungs import case_probabilities, find_lungs
from covseg_core.prediction.inference import Segmenter
from covseg_core.prediction.masks.lung_sides import clean_lungs
from covseg_core.prediction.predict import predict
from covseg_core.prediction.scan import read_scan
from covseg_core.prediction.spool import Spool
from covseg_core.runs import Run
from covseg_core.runs.lung_model import LUNGS, shipped_lungs

LUNG_HU = (-900, -600)
SIZE = 48


def make_run(root: Path, id: str, target: Target = "infection", **prepare: object) -> Run:
    run, settings = Run(root / id), PrepareConfig(**{"size": SIZE, **prepare})  # type: ignore[arg-type]
    config = RunConfig(id, "e", "none", "f", "dice", "quick", "2026-01-01", target=target, prepare=settings)
    write_json(run.folder / "config.json", config)
    return run


@pytest.fixture
def lung_model(checkpoints_folder: Path) -> Run:
    """The lung model that comes with covseg, of the tests: lung is what is as dark as lung."""
    run = make_run(checkpoints_folder / "pretrained", LUNGS, "lung")
    save_between(run.onnx, SIZE, *map(grey, LUNG_HU))
    return run


@pytest.fixture
def looks_around(tmp_path: Path) -> Run:
    """A model of the lungs alone, with two neighbours on each side, that says how grey all of them are."""
    run = make_run(tmp_path, "grey", region="lungs", context=2)
    nodes = [
        node("Transpose", "grey", "planes", perm=[0, 3, 1, 2]),
        node("Conv", "planes weights", "mean"),
        node("Transpose", "mean", "masks", perm=[0, 2, 3, 1]),
    ]
    save_known(run.onnx, SIZE, nodes, {"weights": np.full((1, 5, 1, 1), 1 / 5 / 255)}, channels=5)
    return run


@pytest.fixture
def marks_all(tmp_path: Path) -> Run:
    """A model of the lungs alone that marks whatever it is shown."""
    run = make_run(tmp_path, "all", region="lungs")
    save_line(run.onnx, SIZE, -1, 1)
    return run


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    """Two small phantoms that came without lung masks."""
    made = small_phantoms(2, SIZE)
    hashes = [{role: sha for role, sha in case.sha256.items() if role != "lung"} for case in made.cases]
    cases = tuple(
        replace(case, lung=None, lung_voxels=None, sha256=each) for case, each in zip(made.cases, hashes, strict=True)
    )
    return replace(made, cases=cases)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What models are shown: each batch."""
    shown: list[np.ndarray] = []
    answer = Segmenter._answer

    def watched(self: Segmenter, images: np.ndarray) -> np.ndarray:
        shown.append(images)
        return answer(self, images)

    monkeypatch.setattr(Segmenter, "_answer", watched)
    return shown


def answers(dataset: Dataset, number: int, run: Run, lungs: Run) -> Answers:
    scan = read_scan(dataset.path(dataset.cases[number], "scan"))
    return ask(scan, [run], Spool(), lungs)


def test_the_lung_model_finds_the_lungs_of_cases_without_a_mask(
    dataset: Dataset, lung_model: Run, asked: list[np.ndarray]
) -> None:
    prepare, told = PrepareConfig(size=SIZE, region="lungs"), []
    find_lungs(dataset, PrepareConfig(size=SIZE))
    assert not asked, "nobody needs them"
    find_lungs(dataset, prepare, [dataset.cases[1].id])
    assert [known_lungs(case) for case in dataset.cases] == [False, True]
    find_lungs(dataset, prepare, progress=lambda *counts: told.append(counts))
    assert told == [(1, 1)], "the other case's are known"
    assert sum(map(len, asked)) == 16
    case = dataset.cases[0]
    images, whole = prepared(dataset, case, PrepareConfig(size=SIZE), "images"), PrepareConfig(size=SIZE)
    lung = (images > grey(LUNG_HU[0])) & (images < grey(LUNG_HU[1]))
    expected = to_native(lung.astype(np.float32), case_grid(dataset, case, whole)) >= 0.5
    found = case_lungs(dataset, case)
    np.testing.assert_array_equal(found, clean_lungs(expected.view(np.uint8)))
    truth = load_mask(dataset.folder / f"cases/{case.id}/lung_mask.nii.gz").voxels > 0
    assert (truth & (found > 0)).sum() > 0.9 * truth.sum()


def test_another_lung_model_finds_them_again(dataset: Dataset, lung_model: Run, asked: list[np.ndarray]) -> None:
    """Also what was prepared with the lungs of the model before."""
    prepare, case = PrepareConfig(size=SIZE, region="lungs"), dataset.cases[0]
    find_lungs(dataset, prepare)
    before = case_lungs(dataset, case), cache_path(dataset, case, prepare, "near_lungs")
    times = len(asked)
    find_lungs(dataset, prepare)
    assert len(asked) == times
    save_line(lung_model.onnx, SIZE, -1, 1)  # everything is lung
    find_lungs(dataset, prepare)
    assert len(asked) > times
    assert case_lungs(dataset, case).sum() > before[0].sum()
    assert cache_path(dataset, case, prepare, "near_lungs") != before[1]
    lung_model.onnx.unlink()
    find_lungs(dataset, prepare)
    assert len(asked) == 2 * times, "what was found stays known without the model"


def test_a_run_of_the_same_name_is_not_taken_for_the_shipped_lung_model(
    lung_model: Run, checkpoints_folder: Path
) -> None:
    """A user's training may be called `lung`, too, and may have no model yet."""
    make_run(checkpoints_folder, LUNGS, "lung")
    found = shipped_lungs()
    assert found is not None
    assert found.folder == lung_model.folder


def test_without_a_lung_mask_and_a_lung_model_it_is_said_in_one_line(dataset: Dataset) -> None:
    with pytest.raises(DatasetError) as error:
        find_lungs(dataset, PrepareConfig(region="lungs"))
    found = "no lung mask, and no model `lung` to find the lungs for `region = lungs`"
    assert str(error.value) == f"phantoms/phantom_001: {found}; expected lung masks, or `region = slice`"


@pytest.mark.parametrize("number", [0, 1])
def test_a_scan_is_answered_as_the_same_scan_in_a_dataset(
    dataset: Dataset, lung_model: Run, looks_around: Run, number: int
) -> None:
    """The scores of an evaluation are those of what `covseg predict` gives, neighbours, box and lungs included."""
    find_lungs(dataset, looks_around.config.prepare)
    case = dataset.cases[number]
    given = answers(dataset, number, looks_around, lung_model)
    [answer] = given.models
    assert answer.grid == case_grid(dataset, case, looks_around.config.prepare)
    np.testing.assert_array_equal((given.sides > 0), case_lungs(dataset, case))  # type: ignore[operator]
    found = case_probabilities(Segmenter(looks_around), dataset, case, range(case.slices))
    np.testing.assert_array_equal(answer.values[:], found)
    assert found.any()
    np.testing.assert_array_equal(case_probabilities(Segmenter(looks_around), dataset, case, [6, 1]), found[[6, 1]])


def test_a_long_scan_is_shown_with_all_neighbours(
    dataset: Dataset, lung_model: Run, looks_around: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scans are dealt with a few planes at a time; what lies on both sides of such a border must not be missed."""
    whole = answers(dataset, 0, looks_around, lung_model).models[0].values[:]
    for planes in (1, 3):
        monkeypatch.setattr("covseg_core.prediction.probabilities._PLANES", planes)
        np.testing.assert_array_equal(answers(dataset, 0, looks_around, lung_model).models[0].values[:], whole)


def test_slices_without_lungs_are_not_asked_about_and_are_empty(
    dataset: Dataset, lung_model: Run, marks_all: Run, asked: list[np.ndarray]
) -> None:
    scan = read_scan(dataset.path(dataset.cases[0], "scan"))
    scan.volume.voxels[:2] = scan.volume.voxels[-1] = 40  # no lung there
    with Spool() as spool:
        given = ask(scan, [marks_all], spool, lung_model)
        assert sum(map(len, asked)) == 8 + 5, "the lung model about all, the other about those that show lung"
        values = given.models[0].values[:]
    assert values[[0, 1, -1]].max() == 0
    assert (values[2:-1].max(axis=(1, 2)) == 1).all()


def test_a_mask_ends_a_little_beyond_the_lungs_whatever_the_model_says(
    dataset: Dataset, lung_model: Run, marks_all: Run
) -> None:
    prepare = marks_all.config.prepare
    find_lungs(dataset, prepare)
    case = dataset.cases[0]
    grid = case_grid(dataset, case, prepare)
    allowed = to_native(prepared(dataset, case, prepare, "near_lungs").astype(np.float32), grid)
    prediction = predict(dataset.path(case, "scan"), marks_all, lungs=lung_model, keep_beyond=True)
    np.testing.assert_array_equal(prediction.mask, allowed >= 0.5)
    lungs = case_lungs(dataset, case) > 0
    pixel = max(axis.padded / axis.size for axis in grid.axes)
    for marked, lung in zip(prediction.mask > 0, lungs, strict=True):
        assert marked.any() == lung.any()
        if lung.any():
            # one reach for the bays that are closed, one for the rim, and the corner of a pixel
            assert ndimage.distance_transform_edt(~lung)[marked].max() <= (2 * max(1, REACH * SIZE) + 1.5) * pixel
    assert (lungs & (prediction.mask == 0)).sum() <= 0.01 * lungs.sum(), "all of the lungs is looked at"


def test_a_model_of_the_lungs_alone_needs_a_lung_model(dataset: Dataset, marks_all: Run) -> None:
    scan = dataset.path(dataset.cases[0], "scan")
    with pytest.raises(RunError) as error:
        predict(scan, marks_all)
    assert (
        str(error.value)
        == "all: looks at the lungs alone, and no lung model was given; expected a lung model beside it"
    )


def test_a_scan_in_which_the_lung_model_finds_nothing_is_refused(
    dataset: Dataset, lung_model: Run, marks_all: Run
) -> None:
    scan = read_scan(dataset.path(dataset.cases[0], "scan"))
    scan.volume.voxels[:] = 40
    with Spool() as spool, pytest.raises(ScanError) as error:
        ask(scan, [marks_all], spool, lung_model)
    assert str(error.value).endswith("no lungs found in it; expected lungs, for a model that looks at them alone")


def test_answers_from_other_lungs_are_not_taken_over(
    dataset: Dataset, lung_model: Run, marks_all: Run, tmp_path: Path
) -> None:
    """Whoever changes the lung model on the page gets the mask of the new lungs."""
    shutil.copytree(lung_model.folder, tmp_path / "other")
    other, known = Run(tmp_path / "other"), {}
    scan = read_scan(dataset.path(dataset.cases[0], "scan"))
    with Spool() as spool:
        first = ask(scan, [marks_all], spool, lung_model, known).models[0]
        assert ask(scan, [marks_all], spool, lung_model, known).models[0] is first
        second = ask(scan, [marks_all], spool, other, known).models[0]
    assert (first.within, second.within) == (LUNGS, "other")


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        ({"size": 32}, "one input (N, 32, 32, 1) uint8 and one output (N, 32, 32, 1) float32"),
        ({"context": 1}, "one input (N, 48, 48, 3) uint8 and one output (N, 48, 48, 1) float32"),
    ],
)
def test_a_model_of_another_size_or_number_of_channels_than_its_settings_is_one_line(
    marks_all: Run, prepare: dict[str, int], expected: str
) -> None:
    """Folders are copied and edited by hand."""
    config = marks_all.config
    write_json(marks_all.folder / "config.json", replace(config, prepare=replace(config.prepare, **prepare)))
    with pytest.raises(RunError) as error:
        Segmenter(Run(marks_all.folder))
    found = "images is ('N', 48, 48, 1) tensor(uint8)"
    assert str(error.value) == f"{marks_all.onnx}: {found}; expected {expected}"
