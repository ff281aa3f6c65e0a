"""From Keras weights to `model.onnx`, which predicts without TensorFlow."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

from covseg_core.errors import CovsegError, RunError
from covseg_core.files import atomic_path
from covseg_core.runs import Run
from covseg_core.training.unet import build_unet

LARGEST_DIFFERENCE = 1e-4


def export_onnx(model: keras.Model, path: Path) -> float:
    """Write an ONNX graph and check it against Keras on random slices.

    Parameters
    ----------
    model : float32 U-Net of `build_unet`, TensorFlow backend (the converter needs it)
    path : where `model.onnx` goes; input `images` (N, S, S, C) uint8, output (N, S, S, 1) float32

    Returns
    -------
    float : largest absolute difference of a probability

    Raises
    ------
    CovsegError : the difference is above 1e-4; nothing is written
    """
    import onnxruntime

    slices = np.random.default_rng(0).integers(0, 256, (2, *model.input_shape[1:]), dtype=np.uint8)
    expected = model.predict(slices, verbose=0)  # Keras exports only a model that has been called
    with atomic_path(path) as temporary:
        model.export(str(temporary), format="onnx", verbose=False)
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        predicted = session.run(None, {session.get_inputs()[0].name: slices})[0]
        difference = float(np.abs(predicted - expected).max())
        if not difference <= LARGEST_DIFFERENCE:
            raise CovsegError(path, f"ONNX differs from Keras by {difference:.2g}", f"at most {LARGEST_DIFFERENCE:g}")
    return difference


def export_run(run: Run) -> float:
    """Export a run's best weights; the network is rebuilt in float32, whatever precision it was trained in.

    The converter needs TensorFlow. With another Keras backend it runs in a child process, so that a model trained with
    JAX is exported as well; where TensorFlow is not installed, `covseg export` does it later on a machine that has it.

    Returns
    -------
    float : largest absolute difference of a probability

    Raises
    ------
    RunError : there are no weights, or TensorFlow is not installed
    """
    if not run.best_weights.exists():
        raise RunError(run.id, "has no trained weights", "a run that has completed an epoch")
    if keras.backend.backend() != "tensorflow":
        return _export_elsewhere(run)
    config = run.config
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        standardisation = run.standardisation
        prepare = config.prepare
        mean, std = standardisation.mean, standardisation.std
        network = build_unet(config.model, prepare.size, mean, std, channels=prepare.channels)
        network.load_weights(run.best_weights)
        return export_onnx(network, run.onnx)
    finally:
        keras.config.set_dtype_policy(policy)


def _export_elsewhere(run: Run) -> float:
    """Run this module with the TensorFlow backend."""
    if importlib.util.find_spec("tensorflow") is None:
        raise RunError(
            run.id, "cannot be exported without TensorFlow", f"`covseg export {run.id}` where it is installed"
        )
    done = subprocess.run(
        [sys.executable, "-m", "covseg_core.training.export", str(run.folder)],
        env=os.environ | {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RunError(run.id, f"export with TensorFlow failed: {last[0]}")
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    print(export_run(Run(Path(sys.argv[1]))))
