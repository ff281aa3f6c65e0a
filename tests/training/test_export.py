"""The exported model is the trained model, or the dashboard shows masks that nobody trained."""

from __future__ import annotations

import keras
import numpy as np
import onnxruntime
import pytest

from covseg_core.config import ModelConfig, PrepareConfig, RunConfig, SplitConfig
from covseg_core.data.splitting.split import Split
from covseg_core.errors import CovsegError, RunError
from covseg_core.files import write_json
from covseg_core.prediction.model_file import check_model_file
from covseg_core.runs import Run, Standardisation, create_run
from covseg_core.training.combine import combine_onnx
from covseg_core.training.export import export_onnx, export_run
from covseg_core.training.unet import build_unet

WITH_TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the converter needs TensorFlow")
pytestmark = [pytest.mark.training, WITH_TENSORFLOW]


@pytest.fixture
def trained() -> tuple[Run, keras.Model]:
    """A run with weights that are not those of a fresh network."""
    model_config = ModelConfig(filters=2, normalization="batch")
    config = RunConfig(
        *("run", "experiment", "data", "f" * 64, "dice", "quick", "2020-01-01T00:00:00+00:00"),
        prepare=PrepareConfig(size=32),
        model=model_config,
    )
    run = create_run(config, Split(SplitConfig(), {}, {}, {}))
    write_json(run.folder / "standardise.json", Standardisation(90.0, 60.0))
    keras.utils.set_random_seed(0)
    model = build_unet(model_config, 32, 90.0, 60.0)
    rng = np.random.default_rng(0)
    model.set_weights([np.abs(weight + 0.1 * rng.standard_normal(weight.shape)) for weight in model.get_weights()])
    model.save_weights(run.best_weights)
    return run, model


def test_onnx_predicts_what_keras_predicts(trained):
    run, model = trained
    assert export_run(run) < 1e-4
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 1), dtype=np.uint8)
    session = onnxruntime.InferenceSession(run.onnx, providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"images": images})
    assert found.dtype == np.float32
    assert found == pytest.approx(model.predict(images, verbose=0), abs=1e-4)


def test_any_number_of_slices_fits(trained):
    run, _ = trained
    export_run(run)
    session = onnxruntime.InferenceSession(run.onnx, providers=["CPUExecutionProvider"])
    for count in (1, 5):
        assert session.run(None, {"images": np.zeros((count, 32, 32, 1), np.uint8)})[0].shape == (count, 32, 32, 1)


def test_a_model_that_differs_is_not_written(trained, tmp_path, monkeypatch):
    _, model = trained
    monkeypatch.setattr("covseg_core.training.export.LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(CovsegError, match="differs from Keras"):
        export_onnx(model, tmp_path / "model.onnx")
    assert list(tmp_path.glob("*.onnx")) == []


def test_a_run_without_weights_says_so(trained):
    run, _ = trained
    run.best_weights.unlink()
    with pytest.raises(RunError, match="no trained weights"):
        export_run(run)


def test_mixed_precision_training_is_exported_in_float32(trained):
    run, _ = trained
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert export_run(run) < 1e-4
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("normalization", ["none", "batch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_exported_is_what_a_model_may_hold(normalization, channels, tmp_path):
    model = build_unet(ModelConfig(filters=2, normalization=normalization), 32, 90.0, 60.0, channels=channels)
    parts = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for path in parts:
        export_onnx(model, path)
        check_model_file(path)
    combine_onnx(parts, tmp_path / "both.onnx")
    check_model_file(tmp_path / "both.onnx")
