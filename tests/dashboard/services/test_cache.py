"""Pages read scans and files of runs through `cache`: what is out of date, or read again each time, is found here."""

from __future__ import annotations

import numpy as np
import pytest

from covseg_core.data.library import datasets
from covseg_core.data.reading import volumes
from covseg_core.errors import CovsegError, DatasetError
from dashboard.services import cache


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
