"""Fine-tuning. What a user loses otherwise: a test that its model has seen, or a training from other weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from fakeruns import fake_run

from covseg_core.config import ModelConfig, PrepareConfig, SplitConfig
from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.data.library.revisions import save_revision, stored_mask
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.errors import RunError, SettingError
from covseg_core.files import write_json
from covseg_core.runs import Run, Standardisation, jobs
from covseg_core.runs.starting_point import WEIGHTS
from covseg_core.runs.training_data import INHERITED, TrainingData, read_training_data

SPLIT = SplitConfig(fractions=(0.4, 0.2, 0.4), seed=3)


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(5)


@pytest.fixture
def parent(dataset: Dataset) -> Run:
    """A finished run, with files in place of its weights."""
    network = ModelConfig(filters=4, normalization="batch")
    run = fake_run(dataset, "parent", "iou", SPLIT, 90, model=network, prepare=PrepareConfig(size=32, context=1))
    return as_trained(run, dataset)


def as_trained(run: Run, dataset: Dataset) -> Run:
    run.best_weights.write_bytes(b"weights")
    write_json(run.folder / "standardise.json", Standardisation(100.0, 50.0))
    learned = {*run.split.train, *run.split.validation}
    hashes = sorted(digest for id in learned for digest in dataset.case(id).scan_sha256)
    written = dict.fromkeys(("scans", "patients", "slices", "spacing_known"), 1)
    ranges = {name: {"low": 0, "high": 1} for name in ("rows", "slices_per_scan", "body_share", "padding_share")}
    nothing = dict.fromkeys(("slice_mm", "pixel_mm", "lung_grey", "tissue_grey"))
    write_json(run.folder / "training_data.json", written | ranges | nothing | {"scales": {}, "scan_sha256": hashes})
    return run


def test_network_slices_and_weights_are_the_parents(dataset: Dataset, parent: Run, no_training: None) -> None:
    [run] = jobs.train("phantoms", start_from="parent", epochs=2)
    config = run.config
    assert (config.prepare, config.model) == (parent.config.prepare, parent.config.model)
    assert (config.metric, config.preset, config.target) == ("iou", "quick", "infection")
    assert config.train.learning_rate == pytest.approx(2e-4), "a tenth of the preset's"
    assert config.train.epochs == 2
    assert (config.parent, config.parent_data, config.revision) == ("parent", "phantoms@1", 1)
    assert (run.folder / WEIGHTS).read_bytes() == b"weights"
    assert run.standardisation == Standardisation(100.0, 50.0)
    assert run.split == parent.split


def test_what_is_asked_for_is_taken_where_it_can_be(dataset: Dataset, parent: Run, no_training: None) -> None:
    runs = jobs.train("phantoms", ["dice", "combined"], "robust", start_from="parent", learning_rate=1e-3, size=32)
    assert [run.config.metric for run in runs] == ["dice", "combined"]
    assert {run.config.preset for run in runs} == {"robust"}
    assert {run.config.train.learning_rate for run in runs} == {1e-3}
    assert all((run.folder / WEIGHTS).exists() for run in runs)


def test_everybody_stays_on_the_side_where_the_parent_had_them(
    dataset: Dataset, parent: Run, no_training: None, tmp_path: Path
) -> None:
    """On corrected masks the same seed can deal them otherwise, and the first weights would have seen the test."""
    for case in dataset.cases[:2]:
        save_revision("phantoms", case.id, 1 - stored_mask(dataset, case, "infection"))
    write_sample(tmp_path, scans=1, size=48, slices=8, seed=7)
    (tmp_path / "phantom_001").rename(tmp_path / "newcomer")
    import_dataset("phantoms", [tmp_path / "newcomer"], allow_empty=True)
    [run] = jobs.train("phantoms", start_from="parent", split_seed=99)
    split = run.split
    assert (split.validation, split.test) == (parent.split.validation, parent.split.test)
    assert split.train == {**parent.split.train, "newcomer": tuple(range(8))}
    assert (run.config.revision, run.config.fingerprint) == (4, load_dataset("phantoms").fingerprint)
    [older] = jobs.train("phantoms@2", start_from="parent")
    assert older.split.train == parent.split.train
    assert older.config.fingerprint == load_dataset("phantoms@2").fingerprint


def test_what_is_left_out_is_left_out_of_training_alone(dataset: Dataset, parent: Run, no_training: None) -> None:
    """Parent and child are compared on one test, which must not lose a case on one side only."""
    out, tested = next(iter(parent.split.train)), next(iter(parent.split.test))
    [run] = jobs.train("phantoms", start_from="parent", leave_out=[out, tested])
    assert run.split.train == {id: zs for id, zs in parent.split.train.items() if id != out}
    assert (run.split.validation, run.split.test) == (parent.split.validation, parent.split.test)
    assert run.config.split.leave_out == (out,)
    with pytest.raises(RunError, match="nothing is left to train on"):
        jobs.train("phantoms", start_from="parent", leave_out=list(parent.split.train))


def test_of_a_fold_the_single_split_is_taken(dataset: Dataset, no_training: None) -> None:
    fold = as_trained(fake_run(dataset, "fold", "dice", SplitConfig(folds=2, fold=1), 90), dataset)
    [run] = jobs.train("phantoms", start_from="fold")
    assert (run.split.test, run.config.split.folds, run.split.config) == (fold.split.test, 0, run.config.split)
    with pytest.raises(SettingError, match=r"folds: 2; expected 0: fold has learned from those of other folds"):
        jobs.train("phantoms", start_from="fold", folds=2)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"size": 64}, r"size: 64; expected 32, as in parent, whose weights it starts from"),
        ({"filters": 8}, r"filters: 8; expected 4, as in parent"),
        ({"region": "lungs"}, r"region: 'lungs'; expected 'slice', as in parent"),
        ({"context": 0}, r"context: 0; expected 1, as in parent"),
        ({"target": "lung"}, r"target: 'lung'; expected 'infection', as in parent"),
    ],
)
def test_another_network_is_refused_in_a_line(
    settings: dict, says: str, dataset: Dataset, parent: Run, no_training: None, checkpoints_folder: Path
) -> None:
    with pytest.raises(SettingError, match=says):
        jobs.train("phantoms", start_from="parent", **settings)
    assert [path.name for path in checkpoints_folder.iterdir() if not path.name.startswith(".")] == ["parent"]


def test_a_run_without_weights_is_refused(dataset: Dataset, parent: Run, no_training: None) -> None:
    parent.best_weights.unlink()
    with pytest.raises(RunError, match=r"parent: has no best.weights.h5: .*; expected a run that was trained here"):
        jobs.train("phantoms", start_from="parent")
    with pytest.raises(RunError):
        jobs.train("phantoms", start_from="nobody")


def test_a_test_of_another_dataset_must_be_new_to_the_parent(
    dataset: Dataset, parent: Run, no_training: None, tmp_path: Path
) -> None:
    """The same scans under another name would be tested by who has learned from them."""
    import_dataset("copy", [dataset.folder / "cases"], allow_empty=True)
    with pytest.raises(RunError, match=r"parent: has learned from scans of copy that would be tested"):
        jobs.train("copy", start_from="parent")
    write_sample(tmp_path / "in", scans=4, size=48, slices=8, seed=20)
    import_dataset("strangers", [tmp_path / "in"], allow_empty=True)
    [run] = jobs.train("strangers", start_from="parent")
    assert run.config.parent_data == "phantoms@1"
    data = read_training_data(parent)
    assert isinstance(data, TrainingData)
    assert all(digest in (run.folder / INHERITED).read_text() for digest in data.scan_sha256)


@pytest.mark.training
def test_a_training_begins_with_the_parents_weights(trained: list[Run]) -> None:
    """With a learning rate of nearly nothing they stay what they were."""
    parent = trained[2]
    dataset = load_dataset("phantoms")
    case = dataset.case(next(iter(parent.split.train)))
    save_revision("phantoms", case.id, 1 - stored_mask(dataset, case, "infection"))
    [run] = jobs.train("phantoms", start_from=parent.id, epochs=1, learning_rate=1e-9)
    jobs.wait([run])
    assert run.status.state == "finished", run.log.read_text()
    assert run.standardisation == parent.standardisation
    before, after = kernels(parent.best_weights), kernels(run.best_weights)
    assert before.keys() == after.keys()
    assert all(np.allclose(before[name], after[name], atol=1e-5) for name in before)
    assert any(np.abs(value).max() > 0.01 for value in before.values())
    data, known = read_training_data(run), read_training_data(parent)
    assert data is not None
    assert known is not None
    assert set(known.scan_sha256) <= set(data.scan_sha256)
    assert run.config == dataclasses.replace(run.config, revision=2, parent=parent.id, parent_data="phantoms@1")


def kernels(path: Path) -> dict[str, np.ndarray]:
    """Weights of the convolutions: four axes."""
    found: dict[str, np.ndarray] = {}

    def look(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 4:
            found[name] = np.asarray(item)

    with h5py.File(path) as file:
        file.visititems(look)
    return found
