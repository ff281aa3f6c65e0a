"""Models of a few MB that ask for gigabytes with operators that are allowed: what a stranger may send."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from known import node, save_line
from onnx import ModelProto, TensorProto, numpy_helper


def constants(**values: np.ndarray) -> list[TensorProto]:
    return [numpy_helper.from_array(value, name) for name, value in values.items()]


def weights(*sides: int) -> np.ndarray:
    return np.zeros(sides, np.float32)


def shape(*sides: int) -> np.ndarray:
    return np.asarray(sides, np.int64)


def _image(model: ModelProto) -> np.ndarray:
    """Shape of slices as images of one channel."""
    size = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    return shape(-1, 1, size, size)


def crosswise(model: ModelProto) -> str:
    """Two constants of 0.8 MB become 160 GB, while the model is loaded."""
    wide = np.ones((1, 1, 1, 200_000), np.float32)
    model.graph.initializer.extend(constants(a=wide, b=wide.reshape(1, 1, 200_000, 1)))
    model.graph.node.append(node("Mul", "a b", "evil"))
    return "evil"


def doubled(model: ModelProto) -> str:
    """30 times twice as much."""
    last = "grey"
    for number in range(30):
        model.graph.node.append(node("Concat", f"{last} {last}", f"twice{number}", axis=3))
        last = f"twice{number}"
    return last


def spread(model: ModelProto) -> str:
    """Each pixel becomes a million."""
    model.graph.initializer.extend(constants(turned=_image(model), w=weights(1, 1, 1, 1)))
    model.graph.node.append(node("Reshape", "grey turned", "image"))
    model.graph.node.append(node("ConvTranspose", "image w", "evil", strides=[1024, 1024]))
    return "evil"


def working(model: ModelProto) -> str:
    """Answers with one pixel, and computes with gigabytes."""
    model.graph.initializer.extend(constants(turned=_image(model), w=weights(1, 1, 1000, 1000)))
    model.graph.node.append(node("Reshape", "grey turned", "image"))
    model.graph.node.append(node("ConvTranspose", "image w", "evil", pads=[515] * 4))
    return "evil"


def padded(model: ModelProto) -> str:
    model.graph.initializer.extend(constants(turned=_image(model), w=weights(64, 1, 1, 1)))
    model.graph.node.append(node("Reshape", "grey turned", "image"))
    model.graph.node.append(node("Conv", "image w", "evil", pads=[1024] * 4))
    return "evil"


def pixel_by_pixel(model: ModelProto) -> str:
    """Every pixel of all slices with every other."""
    model.graph.initializer.extend(constants(row=shape(1, -1), column=shape(-1, 1)))
    model.graph.node.extend(
        [node("Reshape", "grey row", "r"), node("Reshape", "grey column", "c"), node("Add", "r c", "evil")]
    )
    return "evil"


def many(model: ModelProto) -> str:
    """Thousands of copies, kept until the end: an order that keeps fewer is not relied on."""
    names = [f"copy{number}" for number in range(5000)]
    model.graph.node.extend(node("Relu", "grey", name) for name in names)
    model.graph.node.append(node("Mean", " ".join(names), "evil"))
    return "evil"


EVIL: list[Callable[[ModelProto], str]] = [crosswise, doubled, spread, working, padded, pixel_by_pixel, many]


def save_evil(path: Path, change: Callable[[ModelProto], str], size: int) -> None:
    """A model that works, in whose answer something evil has a share."""
    save_line(path, size, 0, 1 / 255)
    model = onnx.load(path)
    last = model.graph.node[-1]
    last.output[0] = "kept"
    evil = change(model)
    if change is crosswise:
        model.graph.node.append(node("MaxPool", evil, "one", kernel_shape=[1, 1]))
        evil = "one"
    model.graph.node.append(node("Add", f"kept {evil}", "masks"))
    path.write_bytes(model.SerializeToString())
