"""Several models in one file: who uses it gets the mean of their answers, and no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakeruns import save_model

from covseg_core.config import PrepareConfig
from covseg_core.errors import CovsegError
from covseg_core.prediction.inference import Segmenter
from covseg_core.runs import Run
from covseg_core.training.combine import combine_onnx

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints" / "pretrained"


def test_the_combined_model_answers_with_the_mean_of_its_parts(tmp_path: Path) -> None:
    """Real networks, whose float16 weights are half the size and cost less than a thousandth of a probability."""
    runs = [Run(SHIPPED / name) for name in ("infection-accuracy", "infection-dice", "infection-iou")]
    prepare = runs[0].config.prepare
    told = combine_onnx([run.onnx for run in runs], tmp_path / "model.onnx")
    y, x = np.mgrid[: prepare.size, : prepare.size]
    smooth = 120 + 100 * np.sin(x / 9) * np.cos(y / 13)
    images = np.stack([smooth, smooth.T, np.random.default_rng(1).integers(0, 256, smooth.shape)]).astype(np.uint8)
    parts = np.mean([Segmenter(run).probabilities(images) for run in runs], axis=0)
    combined = Segmenter(tmp_path / "model.onnx", prepare).probabilities(images)
    assert np.abs(combined - parts).max() < 1e-3
    assert told < 1e-3
    assert np.ptp(parts) > 0.5, "answers that do not differ would agree with anything"
    sizes = sum(run.onnx.stat().st_size for run in runs)
    assert (tmp_path / "model.onnx").stat().st_size < 0.6 * sizes


@pytest.mark.parametrize(("sizes", "text"), [([32], "1 models"), ([32, 48], "32 x 32 x 1.*48 x 48 x 1")])
def test_models_of_other_slices_are_not_combined(tmp_path: Path, sizes: list[int], text: str) -> None:
    models = [tmp_path / f"{size}.onnx" for size in sizes]
    for model, size in zip(models, sizes, strict=True):
        save_model(model, 100, size)
    with pytest.raises(CovsegError, match=text):
        combine_onnx(models, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_each_part_has_as_much_to_say_as_the_others(tmp_path: Path) -> None:
    """Of three models, one that marks from 50 and two that mark from 150."""
    models = [tmp_path / f"{number}.onnx" for number in range(3)]
    for model, limit in zip(models, (50, 150, 150), strict=True):
        save_model(model, limit, 32)
    combine_onnx(models, tmp_path / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    found = Segmenter(tmp_path / "model.onnx", PrepareConfig(size=32)).probabilities(images)
    np.testing.assert_allclose(found, (images > 50) / 3 + 2 * (images > 150) / 3, atol=1e-6)
