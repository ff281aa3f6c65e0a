"""The U-Net of the thesis, written once against Keras 3.

Source: Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, with `same` padding and half its channels.
"""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import layers, ops

from covseg_core.config import ModelConfig

LEVELS = 4


def build_unet(
    model: ModelConfig,
    size: int,
    mean: float = 0.0,
    std: float = 1.0,
    positive_share: float | None = None,
    channels: int = 1,
) -> keras.Model:
    """Build the network; its weights follow `keras.utils.set_random_seed`.

    The standardisation (x - mean) / std is the first layer, so that whoever holds the model cannot feed it wrongly
    scaled slices. It has no weights: with 32 filters there are 7,759,521 parameters, as in the thesis.

    Parameters
    ----------
    size : side of the slices [pixel], a multiple of 16
    mean, std : of the training slices, in grey values 0..255
    positive_share : share of positive pixels in training; with `model.informed_bias` the output starts there
    channels : of the input: the slice, or the slice between its neighbours

    Returns
    -------
    keras.Model : (N, size, size, channels) uint8 -> (N, size, size, 1) float32 probabilities
    """
    inputs = keras.Input((size, size, channels), dtype="uint8", name="images")
    x = layers.Rescaling(1.0 / std, offset=-mean / std, name="standardise")(inputs)

    skips = []
    for level in range(LEVELS):
        x = _block(x, model.filters * 2**level, model, f"encoder{level + 1}")
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"encoder{level + 1}_pool")(x)
    x = _block(x, model.filters * 2**LEVELS, model, "bottleneck")
    for level in reversed(range(LEVELS)):
        filters = model.filters * 2**level
        up = {"strides": 2, "padding": "same", "kernel_initializer": _kernel(), "name": f"decoder{level + 1}_up"}
        x = layers.Conv2DTranspose(filters, 2, **up)(x)
        x = layers.Concatenate(name=f"decoder{level + 1}_skip")([x, skips[level]])
        x = _block(x, filters, model, f"decoder{level + 1}")

    # float32 even in mixed precision: the sigmoid and the loss need the digits
    outputs = layers.Conv2D(
        1,
        1,
        activation="sigmoid",
        kernel_initializer=_kernel(),
        bias_initializer=_output_bias(model, positive_share),
        dtype="float32",
        name="masks",
    )(x)
    return keras.Model(inputs, outputs, name="unet")


def _block(x, filters: int, model: ModelConfig, name: str):
    """Two 3x3 convolutions with ReLU."""
    for part in "ab":
        bias = model.normalization == "none"
        x = layers.Conv2D(
            filters, 3, padding="same", use_bias=bias, kernel_initializer=_kernel(), name=f"{name}{part}"
        )(x)
        if model.normalization == "batch":
            # the moving averages must follow within an epoch of 60 steps
            x = layers.BatchNormalization(momentum=0.9, name=f"{name}{part}_norm")(x)
        x = layers.ReLU(name=f"{name}{part}_relu")(x)
    return x


class _GlorotUniform(keras.initializers.Initializer):
    """Keras's own first weights, drawn by NumPy, which `keras.utils.set_random_seed` sets as well.

    JAX compiles a program for each shape that it draws, which takes half a minute for this network, in every process.
    """

    def __call__(self, shape, dtype=None):
        *field, before, after = shape
        limit = math.sqrt(6 / (math.prod(field) * (before + after)))
        drawn = np.random.uniform(-limit, limit, shape)  # noqa: NPY002 - the generator that Keras sets the seed of
        return ops.convert_to_tensor(drawn, dtype or "float32")


def _kernel() -> str | keras.initializers.Initializer:
    return _GlorotUniform() if keras.backend.backend() == "jax" else "glorot_uniform"


def _output_bias(model: ModelConfig, positive_share: float | None):
    """Log odds of a positive pixel. Source: Lin et al., "Focal loss", ICCV 2017, section 4.1."""
    if not model.informed_bias or not positive_share:
        return "zeros"
    share = min(max(positive_share, 1e-4), 0.5)
    return keras.initializers.Constant(math.log(share / (1 - share)))
