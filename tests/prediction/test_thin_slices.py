"""Lungs of thin slices. What a user loses otherwise: minutes, or a part of the lungs that was never looked at."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chests import BRIGHT, chest, grey, make_run, save_scan

from covseg_core.config import PrepareConfig
from covseg_core.data.slices.slices import to_native
from covseg_core.errors import Cancelled
from covseg_core.prediction import thin_slices
from covseg_core.prediction.ask import ask, unanswered
from covseg_core.prediction.inference import Segmenter
from covseg_core.prediction.masks.lung_sides import clean_lungs
from covseg_core.prediction.probabilities import grid_of, segment
from covseg_core.prediction.scan import Scan, read_scan
from covseg_core.prediction.spool import Spool
from covseg_core.prediction.thin_slices import FARTHEST_MM, segment_some, stride
from covseg_core.runs import Run

SIZE = 16


class Told:
    """Stands for a segmenter: its answer about a slice depends on the grey value that is the slice's number."""

    prepare = PrepareConfig(size=SIZE)

    def __init__(self, answers: np.ndarray) -> None:
        self.answers, self.asked = answers, list[int]()

    def probabilities(self, images: np.ndarray, cancel: Any = None) -> np.ndarray:
        zs = images[:, 0, 0].tolist()
        assert not set(zs) & set(self.asked), "asked twice"
        self.asked += zs
        return self.answers[zs]


def numbered(slices: int) -> Scan:
    """A scan of which each slice has its number as its grey value."""
    voxels = np.repeat(np.arange(slices, dtype=np.uint8), SIZE * SIZE).reshape(slices, SIZE, SIZE)
    volume: Any = type("Volume", (), {"voxels": voxels, "spacing": (1.0, 0.8, 0.8), "voxel_ml": 0.001})()
    return Scan(volume, "0-255", "", ())


def answers_of(radii: np.ndarray) -> np.ndarray:
    """Probabilities (n, S, S) of which those above 0.5 are a disk."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
    return (1 / (1 + np.exp(np.hypot(x, y) - radii[:, None, None]))).astype(np.float32)


def collected(told: Told, slices: int, every: int) -> np.ndarray:
    found, done = np.full((slices, SIZE, SIZE), np.nan, np.float32), list[int]()
    for part, block in segment_some(numbered(slices), told, every, done.append):  # type: ignore[arg-type]
        assert np.isnan(found[part]).all(), "a block twice"
        found[part] = block
    assert sum(done) == slices
    return found


@pytest.mark.parametrize("slices", [1, 2, 5, 9, 33, 64, 65, 66, 81, 200])
@pytest.mark.parametrize("every", [2, 4, 6])
def test_between_asked_slices_answers_follow_in_proportion(slices: int, every: int) -> None:
    inside = np.linspace(0.6, 0.9, slices, dtype=np.float32)[:, None, None]
    told = Told(np.where(answers_of(np.full(slices, 5.0)) >= 0.5, inside, np.float32(0.1)))
    found = collected(told, slices, every)
    np.testing.assert_allclose(found, told.answers, atol=1e-6)
    assert set(told.asked) == {*range(0, slices, every), slices - 1}


@pytest.mark.parametrize("every", [3, 4, 5])
def test_where_lungs_change_every_slice_is_asked_about(every: int) -> None:
    """Else the dome of the diaphragm would be a blur of what lies 5 mm below and above."""
    radii = np.where(np.arange(60) < 23, 6.0, 0.0)
    radii[40:43] = 3.0
    told = Told(answers_of(radii))
    found = collected(told, 60, every)
    np.testing.assert_array_equal(found >= 0.5, told.answers >= 0.5)
    assert {22, 23, 39, 40, 42, 43} & set(told.asked) >= {22, 23}
    assert len(told.asked) < 40


def test_asked_slices_keep_their_answers_to_the_last_digit() -> None:
    random = np.random.default_rng(0)
    told = Told(random.random((50, SIZE, SIZE), np.float32))
    np.testing.assert_array_equal(collected(told, 50, 4), told.answers)  # they all differ


def test_slices_farther_apart_or_at_unknown_places_are_all_asked_about(tmp_path: Path) -> None:
    prepare = PrepareConfig(size=SIZE)
    scan = read_scan(save_scan(tmp_path / "ct.nii.gz", chest()))
    found = {}
    for mm in (0.8, 1.25, 2.5, 2.6, 5.0):
        found[mm] = stride(dataclasses.replace(scan, volume=_apart(scan, mm)), prepare)
        assert found[mm] * mm <= FARTHEST_MM
    assert found == {0.8: 6, 1.25: 4, 2.5: 2, 2.6: 1, 5.0: 1}
    thin = dataclasses.replace(scan, volume=_apart(scan, 1.25))
    assert stride(thin, dataclasses.replace(prepare, context=1)) == 1
    assert stride(thin, dataclasses.replace(prepare, region="lungs")) == 1
    unknown = dataclasses.replace(scan.volume, spacing=(1.0, 1.0, 1.0))
    assert stride(dataclasses.replace(scan, volume=unknown), prepare) == 1


def _apart(scan: Scan, mm: float) -> Any:
    return dataclasses.replace(scan.volume, spacing=(mm, *scan.volume.spacing[1:]))


def test_a_lung_model_asked_for_itself_is_asked_about_every_slice(checkpoints_folder: Path, tmp_path: Path) -> None:
    """Its answer must not depend on whether it was asked beside others before."""
    lung = make_run(checkpoints_folder, "lung", grey(-300), slope=-1000.0, target="lung")
    lesions = make_run(checkpoints_folder, "lesions", BRIGHT)
    scan = read_scan(save_scan(tmp_path / "ct.nii.gz", chest()))
    thin = dataclasses.replace(scan, volume=_apart(scan, 0.8))
    with Spool() as spool:
        known: dict[Any, Any] = {}
        ask(thin, [lesions], spool, lung, known)
        assert known[lung.id, False, "float32"].beside
        assert unanswered([lesions], lung, False, known) == []
        assert [question.run.id for question in unanswered([lung], None, False, known)] == ["lung"]
        alone = ask(thin, [lung], spool, None, known).models[0]
        assert not alone.beside
        segmenter = Segmenter(lung)
        for part, block in segment(thin, segmenter, lambda _: None):
            np.testing.assert_array_equal(alone.values[part], block)


def test_cancelled_between_blocks(checkpoints_folder: Path, tmp_path: Path) -> None:
    lung = make_run(checkpoints_folder, "lung", grey(-300), slope=-1000.0, target="lung")
    scan = read_scan(save_scan(tmp_path / "ct.nii.gz", chest()))
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        list(segment_some(scan, Segmenter(lung), 2, lambda _: None, cancel))


def test_real_lungs_are_those_of_every_slice(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a scan with slices 0.8 mm apart, and on one of 10 mm that is taken for one of 2.5 mm."""
    segmenter = Segmenter(Run(Path(__file__).parents[2] / "checkpoints" / "pretrained" / "lung"))
    monkeypatch.setattr(thin_slices, "_TOGETHER", 3)
    for name, every in (("gstt_covid_20", 6), ("ricord1a_000082_every8", 4)):
        scan = read_scan(real_data / "dicom" / name)
        grid, masks = grid_of(scan, segmenter.prepare), []
        for blocks in (segment(scan, segmenter, int), segment_some(scan, segmenter, every, int)):  # type: ignore[arg-type]
            values = np.concatenate([block for _, block in blocks])
            masks.append(clean_lungs((to_native(values, grid) >= 0.5).astype(np.uint8)) > 0)
        assert 2 * np.count_nonzero(masks[0] & masks[1]) / (masks[0].sum() + masks[1].sum()) >= 0.995
