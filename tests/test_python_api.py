"""The Python API as a notebook uses it: data, trainings, scores and masks by the names of `covseg_core` alone."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import covseg_core
from covseg_core.runs import Run

pytestmark = pytest.mark.training


def test_from_a_dataset_to_the_scores_and_a_mask(trained: list[Run], tmp_path: Path) -> None:
    """`trained` comes from `train` and `wait`; what they leave behind must be enough for all that follows."""
    dataset = covseg_core.load_dataset("phantoms")
    assert len(dataset.cases) == 6
    assert [run.config.metric for run in trained] == ["accuracy", "iou", "dice"]
    assert {run.config.fingerprint for run in trained} == {dataset.fingerprint}

    comparison = covseg_core.evaluate(trained)
    assert [evaluation.run for evaluation in comparison.evaluations] == [run.id for run in trained]
    assert not comparison.leaky
    for evaluation in comparison.evaluations:
        assert 0 <= (evaluation.model.pooled["dice"] or 0) <= 1
        assert evaluation.slices == sum(map(len, trained[0].split.test.values()))

    run = covseg_core.open_run(trained[2].id)
    assert (run.status.state, run.status.epoch, run.config.metric) == ("finished", 2, "dice")
    scan = dataset.path(dataset.cases[0], "scan")
    one = covseg_core.predict(scan, run)
    assert one.mask.shape == nib.load(scan).shape[::-1], "Z, Y, X"
    assert one.mask.dtype == np.uint8
    covseg_core.predict(scan, trained, tmp_path / "out")
    written = nib.load(tmp_path / "out" / "mask.nii.gz")
    assert np.array_equal(written.affine, nib.load(scan).affine)
