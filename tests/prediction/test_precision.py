"""Asking models in bfloat16: only where the processor can, only those that passed, and never mixed up with float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakeruns import fake_run

from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.errors import RunError, SettingError
from covseg_core.evaluation.stored_predictions.bfloat16_check import check_bfloat16
from covseg_core.files import read_json, sha256_file, write_json
from covseg_core.prediction import engines
from covseg_core.prediction.ask import ask
from covseg_core.prediction.engines import has_bfloat16
from covseg_core.prediction.inference import Segmenter
from covseg_core.prediction.predict import predict
from covseg_core.prediction.scan import read_scan
from covseg_core.prediction.spool import Spool
from covseg_core.runs import Run
from covseg_core.runs.bfloat16 import FILE, VERSION, Bfloat16Check, read_check, require_check

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints" / "pretrained"
needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="this processor does not compute in bfloat16")


@pytest.fixture
def run(small_phantoms: Callable[..., Dataset]) -> Run:
    return fake_run(small_phantoms(6), "bright", "dice", SplitConfig(fractions=(0.2, 0.4, 0.4)), 150)


def checked(run: Run, **values: float) -> Bfloat16Check:
    """A stored check that passes, unless values say otherwise."""
    check = Bfloat16Check(VERSION, "2026-01-01T00:00:00+00:00", sha256_file(run.onnx), 9, 0.5, 0.999, 0.7, 0.7, 0.01)
    check = dataclasses.replace(check, **values)  # type: ignore[arg-type]
    write_json(run.folder / FILE, check)
    return check


@needs_bfloat16
def test_a_real_model_answers_nearly_the_same_in_bfloat16() -> None:
    """On two smooth slices; and not exactly the same, or it would not be bfloat16."""
    run = Run(SHIPPED / "infection-dice")
    y, x = np.mgrid[: run.config.prepare.size, : run.config.prepare.size]
    image = (120 + 100 * np.sin(x / 9) * np.cos(y / 13)).astype(np.uint8)
    images = np.stack([image, image.T, image[::-1]] * 3)
    full, half = (Segmenter(run, precision=each).probabilities(images) for each in ("float32", "bfloat16"))
    assert 1e-6 < np.abs(full - half).max() < 0.3
    assert np.abs(full - half).mean() < 2e-3
    marked = (full >= 0.5).sum() + (half >= 0.5).sum()
    assert marked
    assert 2 * ((full >= 0.5) & (half >= 0.5)).sum() / marked > 0.98
    np.testing.assert_array_equal(half[:3], half[3:6], err_msg="several threads, one answer")


@needs_bfloat16
def test_the_check_compares_on_the_validation_part_and_stays_in_the_run(run: Run) -> None:
    """The model of this test marks by one comparison, which no rounding changes."""
    told: list[tuple[int, int]] = []
    check = check_bfloat16(run, lambda done, total: told.append((done, total)))
    slices = sum(map(len, run.split.validation.values()))
    assert (check.slices, check.agreement, check.largest_difference) == (slices, 1, 0)
    assert 0 < check.score == check.score_bfloat16 < 1
    assert told[-1] == (slices, slices)
    assert check.passed
    assert read_json(run.folder / FILE, Bfloat16Check) == read_check(run) == require_check(run) == check


@pytest.mark.parametrize(
    ("values", "passed"),
    [
        ({"agreement": 0.995}, True),
        ({"agreement": 0.9949}, False),
        ({"score_bfloat16": 0.7019}, True),
        ({"score_bfloat16": 0.7021}, False),
        ({"score_bfloat16": 0.6979}, False),
    ],
)
def test_a_model_that_changes_is_not_asked_in_bfloat16(run: Run, values: dict[str, float], passed: bool) -> None:
    assert checked(run, **values).passed == passed
    if passed:
        require_check(run)
    else:
        with pytest.raises(RunError, match="bright: changes too much in bfloat16: masks agree to 0.99"):
            require_check(run)


def test_the_check_of_other_weights_is_none(run: Run) -> None:
    checked(run, model_sha256="0" * 64)
    with pytest.raises(RunError, match="bright: was not checked in bfloat16; expected `covseg bfloat16 bright`"):
        require_check(run)


@needs_bfloat16
def test_a_prediction_says_what_it_was_computed_in(run: Run, tmp_path: Path) -> None:
    [case] = write_sample(tmp_path / "new", scans=1, size=48, seed=3)
    checked(run)
    full = predict(case / "ct.nii.gz", run)
    half = predict(case / "ct.nii.gz", run, tmp_path / "out", precision="bfloat16")
    np.testing.assert_array_equal(full.mask, half.mask)
    assert [prediction.report.models[0].precision for prediction in (full, half)] == ["float32", "bfloat16"]
    assert "bfloat16" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@needs_bfloat16
def test_answers_of_one_precision_are_never_taken_for_the_other(run: Run, tmp_path: Path) -> None:
    [case] = write_sample(tmp_path / "new", scans=1, size=48, seed=3)
    checked(run)
    known: dict = {}
    scan = read_scan(case / "ct.nii.gz")
    with Spool() as spool:
        for precision in ("float32", "bfloat16", "float32"):
            answers = ask(scan, [run], spool, known=known, precision=precision)  # type: ignore[arg-type]
            assert [answer.precision for answer in answers.models] == [precision]
    assert len(known) == 2


def test_where_it_cannot_be_computed_in_one_line_says_so(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [case] = write_sample(tmp_path / "new", scans=1, size=48, seed=3)
    monkeypatch.setattr(engines, "has_bfloat16", lambda: False)
    checked(run)
    with pytest.raises(SettingError, match="precision: bfloat16, which this processor does not compute in"):
        predict(case / "ct.nii.gz", run, tmp_path / "out", precision="bfloat16")
    assert not (tmp_path / "out").exists()
    with pytest.raises(SettingError, match="'half'; expected float32 or bfloat16"):
        predict(case / "ct.nii.gz", run, precision="half")  # type: ignore[arg-type]
