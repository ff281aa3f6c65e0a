"""Pages read scans and files of runs through `cache`: what is out of date, or read again each time, is found here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from covseg_core.data.library import datasets
from covseg_core.data.library.revisions import save_revision
from covseg_core.data.reading import volumes
from covseg_core.errors import CovsegError, DatasetError
from dashboard.services import cache


def test_a_scan_and_its_mask_are_the_files_content(phantoms: str) -> None:
    dataset = datasets.load_dataset(phantoms)
    case = max(dataset.cases, key=lambda case: case.positive_slices or 0)
    read = cache.volume(dataset, case)
    assert np.array_equal(read.voxels, volumes.load_scan(dataset.path(case, "scan")).voxels)
    for target in ("infection", "lung"):
        mask = cache.truth(dataset, case, target)
        assert np.array_equal(mask, volumes.load_mask(dataset.path(case, target)).voxels)
        assert tuple(mask.sum(axis=(1, 2))) == case.voxels(target)


def test_a_scan_is_read_once(phantoms: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading takes seconds, and each step of the slice slider asks for it."""
    dataset = datasets.load_dataset(phantoms)
    first = cache.volume(dataset, dataset.cases[0])
    monkeypatch.setattr(volumes, "load_scan", lambda path: pytest.fail("read again"))
    assert cache.volume(dataset, dataset.cases[0]) is first


def test_a_missing_scan_is_one_line_and_is_looked_for_again(phantoms: str) -> None:
    dataset = datasets.load_dataset(phantoms)
    case = dataset.cases[0]
    path = dataset.path(case, "scan")
    hidden = path.rename(path.with_name("hidden"))
    with pytest.raises(CovsegError, match="ct"):
        cache.volume(dataset, case)
    hidden.rename(path)
    assert cache.volume(dataset, case).voxels.shape == case.shape
    with pytest.raises(DatasetError):
        cache.truth(dataset, replace(case, infection=None))


def test_a_corrected_mask_is_read_and_its_scan_is_not(phantoms: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old mask on the page would make people correct it again; the scan takes seconds to read."""
    dataset = datasets.load_dataset(phantoms)
    case = max(dataset.cases, key=lambda case: case.positive_slices or 0)
    scan, before = cache.volume(dataset, case), cache.truth(dataset, case)
    now = save_revision(phantoms, case.id, 1 - before).dataset
    monkeypatch.setattr(volumes, "load_scan", lambda path: pytest.fail("read again"))
    assert np.array_equal(cache.truth(now, now.case(case.id)), 1 - before)
    assert cache.volume(now, now.case(case.id)) is scan
    assert cache.truth(dataset, case) is before
