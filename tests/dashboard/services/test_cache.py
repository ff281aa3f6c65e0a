"""Pages read scans and files of runs through `cache`: what is out of date, or read again each time, is found here."""

from __future__ import annotations

import numpy as np
import pytest

from covseg_core import runs
from covseg_core.config import RunConfig, SplitConfig
from covseg_core.data.library import datasets
from covseg_core.data.reading import volumes
from covseg_core.data.splitting.split import Split
from covseg_core.errors import CovsegError, DatasetError, RunError
from dashboard.services import cache


@pytest.fixture
def run() -> runs.Run:
    config = RunConfig("one", "first", "phantoms", "0" * 64, "dice", "quick", "2026-01-02T03:04:05.000006+00:00")
    return runs.create_run(config, Split(SplitConfig(), {}, {}, {}))


def test_a_scan_and_its_mask_are_the_files_content(phantoms: str) -> None:
    dataset = datasets.load_dataset(phantoms)
    case = max(dataset.cases, key=lambda case: case.positive_slices or 0)
    read = cache.volume(phantoms, dataset.fingerprint, case.id)
    assert np.array_equal(read.voxels, volumes.load_scan(dataset.path(case, "scan")).voxels)
    for target in ("infection", "lung"):
        mask = cache.truth(phantoms, dataset.fingerprint, case.id, target)
        assert np.array_equal(mask, volumes.load_mask(dataset.path(case, target)).voxels)
        assert tuple(mask.sum(axis=(1, 2))) == case.voxels(target)


def test_a_scan_is_read_once(phantoms: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading takes seconds, and each step of the slice slider asks for it."""
    dataset = datasets.load_dataset(phantoms)
    first = cache.volume(phantoms, dataset.fingerprint, dataset.cases[0].id)
    monkeypatch.setattr(volumes, "load_scan", lambda path: pytest.fail("read again"))
    assert cache.volume(phantoms, dataset.fingerprint, dataset.cases[0].id) is first


def test_a_missing_scan_is_one_line_and_is_looked_for_again(phantoms: str) -> None:
    dataset = datasets.load_dataset(phantoms)
    case = dataset.cases[0]
    path = dataset.path(case, "scan")
    hidden = path.rename(path.with_name("hidden"))
    with pytest.raises(CovsegError, match="ct"):
        cache.volume(phantoms, dataset.fingerprint, case.id)
    hidden.rename(path)
    assert cache.volume(phantoms, dataset.fingerprint, case.id).voxels.shape == case.shape
    with pytest.raises(DatasetError):
        cache.volume(phantoms, dataset.fingerprint, "no such case")


def test_a_run_without_evaluation_says_what_to_do(run: runs.Run) -> None:
    assert cache.evaluation("one") is None
    with pytest.raises(RunError, match="covseg evaluate one"):
        cache.test_probabilities("one")
    with pytest.raises(RunError, match=r"model\.onnx"):
        cache.segmenter("one")


def test_a_broken_evaluation_is_one_line(run: runs.Run) -> None:
    run.evaluation.write_text("{}")
    with pytest.raises(CovsegError, match="evaluation.json"):
        cache.evaluation("one")
