"""Answers that wait. What a user loses otherwise: memory for long scans, probabilities that changed, or a full /tmp."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import numpy as np
import pytest

from covseg_core.errors import CovsegError
from covseg_core.prediction import spool
from covseg_core.prediction.spool import OnDisk, Spool
from covseg_core.temporary import temporary_root

VALUES = np.random.default_rng(0).random((10, 16, 16)).astype(np.float32)
SIZE = VALUES.nbytes


def blocks() -> Iterator[tuple[slice, np.ndarray]]:
    for start in range(0, 10, 4):
        yield slice(start, min(10, start + 4)), VALUES[start : start + 4]


def test_few_stay_in_memory_and_the_rest_goes_to_disk_unchanged() -> None:
    with Spool(in_memory=2 * SIZE) as kept_by:
        kept = [kept_by.keep(blocks(), (10, 16, 16)) for _ in range(4)]
        assert [isinstance(values, OnDisk) for values in kept] == [False, False, True, True]
        for values in kept:
            np.testing.assert_array_equal(values[0:10], VALUES)
            np.testing.assert_array_equal(values[3:7], VALUES[3:7])
            assert len(values) == 10
        assert sum(path.stat().st_size for path in temporary_root().rglob("*") if path.is_file()) == 2 * SIZE
    assert list(temporary_root().iterdir()) == []


def test_an_error_or_a_cancel_leaves_nothing_in_the_temporary_folder() -> None:
    def cancelled() -> Iterator[tuple[slice, np.ndarray]]:
        yield slice(0, 4), VALUES[:4]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Spool(in_memory=0) as kept_by:
        kept_by.keep(cancelled(), (10, 16, 16))
    assert list(temporary_root().iterdir()) == []


def test_a_full_disk_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, **_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool, "TemporaryFolder", Full)
    with pytest.raises(CovsegError, match="no room for the models' answers"), Spool(in_memory=0) as kept_by:
        kept_by.keep(blocks(), (10, 16, 16))
