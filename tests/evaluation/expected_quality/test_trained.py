"""Seeds that were trained, from the first epoch to an expected Dice. What a user loses otherwise: all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import covseg_core
from covseg_core.data.library.datasets import Dataset
from covseg_core.evaluation.expected_quality import ensembles_of, measure_quality
from covseg_core.evaluation.expected_quality.relation import FEWEST_PATIENTS
from covseg_core.evaluation.grouping import finished_models
from covseg_core.prediction.predict import predict

pytestmark = pytest.mark.training


def test_five_trained_seeds_say_what_to_expect_or_why_not(
    small_phantoms: Callable[..., Dataset], tmp_path: Path
) -> None:
    """Tiny models of 48 phantoms, a third of whom none learns from; whether they are good enough, the figures tell."""
    dataset = small_phantoms(48, 32)
    runs = covseg_core.train(dataset.name, metrics=["dice"], epochs=2, size=32, filters=2, batch=8, seeds=5)
    covseg_core.wait(runs)
    assert [run.status.state for run in runs] == ["finished"] * 5, runs[0].log.read_text()
    [model] = finished_models(runs)
    [members] = ensembles_of(model)
    quality = measure_quality([members])
    unseen = {*runs[0].split.validation, *runs[0].split.test}
    used = {scan.case for scan in quality.scans}
    assert used <= unseen and all(any(case in note for note in quality.notes) for case in unseen - used)
    assert all(0 <= scan.agreement <= 1 and 0 <= scan.dice <= 1 for scan in quality.scans)
    if quality.patients >= FEWEST_PATIENTS:
        assert quality.error is not None and all(scan.expected is not None for scan in quality.scans)
    seen = next(iter(runs[0].split.train))
    found = predict(dataset.path(dataset.case(seen), "scan"), runs, tmp_path / "out").report.expected_dice
    assert found is not None
    if quality.refused:
        assert found.reason == quality.refused
    elif not found.reason:
        assert found.value == pytest.approx(quality.at(found.agreement))
