"""Pages read scans and files of runs through `access`: what is out of date, or read again each time, is found here."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from covseg_core import runs
from covseg_core.config import RunConfig, SplitConfig
from covseg_core.data import datasets, volumes
from covseg_core.data.split import Split
from covseg_core.errors import CovsegError, DatasetError, RunError

DASHBOARD = Path(__file__).resolve().parents[2] / "dashboard"


@pytest.fixture
def access(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DASHBOARD))
    return importlib.import_module("access")


@pytest.fixture
def run() -> runs.Run:
    config = RunConfig("one", "first", "phantoms", "0" * 64, "dice", "quick", "2026-01-02T03:04:05.000006+00:00")
    return runs.create_run(config, Split(SplitConfig(), {}, {}, {}))


def test_a_scan_and_its_mask_are_the_files_content(access: ModuleType, phantoms: str) -> None:
    dataset = datasets.load_dataset(phantoms)
    case = max(dataset.cases, key=lambda case: case.positive_slices or 0)
    read = access.volume(phantoms, dataset.fingerprint, case.id)
    assert np.array_equal(read.voxels, volumes.load_scan(dataset.path(case, "scan")).voxels)
    for target in ("infection", "lung"):
        mask = access.truth(phantoms, dataset.fingerprint, case.id, target)
        assert np.array_equal(mask, volumes.load_mask(dataset.path(case, target)).voxels)
        assert tuple(mask.sum(axis=(1, 2))) == case.voxels(target)


def test_a_scan_is_read_once(access: ModuleType, phantoms: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading takes seconds, and each step of the slice slider asks for it."""
    dataset = datasets.load_dataset(phantoms)
    first = access.volume(phantoms, dataset.fingerprint, dataset.cases[0].id)
    monkeypatch.setattr(volumes, "load_scan", lambda path: pytest.fail("read again"))
    assert access.volume(phantoms, dataset.fingerprint, dataset.cases[0].id) is first


def test_a_missing_scan_is_one_line_and_is_looked_for_again(access: ModuleType, phantoms: str) -> None:
    dataset = datasets.load_dataset(phantoms)
    case = dataset.cases[0]
    path = dataset.path(case, "scan")
    hidden = path.rename(path.with_name("hidden"))
    with pytest.raises(CovsegError, match="ct"):
        access.volume(phantoms, dataset.fingerprint, case.id)
    hidden.rename(path)
    assert access.volume(phantoms, dataset.fingerprint, case.id).voxels.shape == case.shape
    with pytest.raises(DatasetError):
        access.volume(phantoms, dataset.fingerprint, "no such case")


def test_a_run_without_evaluation_says_what_to_do(access: ModuleType, run: runs.Run) -> None:
    assert access.evaluation("one") is None
    with pytest.raises(RunError, match="covseg evaluate one"):
        access.test_probabilities("one")
    with pytest.raises(RunError, match=r"model\.onnx"):
        access.segmenter("one")


def test_a_broken_evaluation_is_one_line(access: ModuleType, run: runs.Run) -> None:
    run.evaluation.write_text("{}")
    with pytest.raises(CovsegError, match="evaluation.json"):
        access.evaluation("one")
