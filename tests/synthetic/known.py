"""Models whose answer is known: a few nodes of ONNX instead of a training.

Only operators that the export writes are allowed in a model, so others are made of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


def node(operator: str, inputs: str, output: str, **attributes: int | list[int]) -> NodeProto:
    """`node("Add", "grey one", "masks")`"""
    kind = {"to": TensorProto.FLOAT} if operator == "Cast" else {}
    return helper.make_node(operator, inputs.split(), [output], **kind, **attributes)


def save_known(
    path: Path, size: int, nodes: Sequence[NodeProto], constants: Mapping[str, float | np.ndarray], channels: int = 1
) -> None:
    """A model for slices of `size` pixels, whose nodes make `masks` from `grey`, the image as float32 0..255."""
    allowed, more = _allowed(nodes, constants)
    graph = helper.make_graph(
        [node("Cast", "images", "grey"), *allowed],
        "known",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ("N", size, size, channels))],
        [helper.make_tensor_value_info("masks", TensorProto.FLOAT, ("N", size, size, 1))],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in more.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), path)


def _allowed(
    nodes: Sequence[NodeProto], constants: Mapping[str, float | np.ndarray]
) -> tuple[list[NodeProto], dict[str, float | np.ndarray]]:
    """The same nodes made of Add, Mul, Relu and Cast, and the constants that they need."""
    found: list[NodeProto] = []
    more = {**constants, "one/": 1.0, "minus/": -1.0, "huge/": 1e6}

    def minus(a: str, b: str, output: str) -> None:
        found.extend([node("Mul", f"{b} minus/", f"{output}/negative"), node("Add", f"{a} {output}/negative", output)])

    def clipped(a: str, output: str) -> None:
        """Between 0 and 1: what is above 1 - max(1 - a, 0), from 0 on."""
        minus("one/", a, f"{output}/rest")
        found.append(node("Relu", f"{output}/rest", f"{output}/kept"))
        minus("one/", f"{output}/kept", f"{output}/below")
        found.append(node("Relu", f"{output}/below", output))

    for one in nodes:
        kind, inputs, output = one.op_type, list(one.input), one.output[0]
        if kind == "Sub":
            minus(*inputs, output)
        elif kind == "Div":
            more[f"{output}/inverse"] = 1 / constants[inputs[1]]
            found.append(node("Mul", f"{inputs[0]} {output}/inverse", output))
        elif kind in ("Greater", "Less"):
            a, b = inputs if kind == "Greater" else reversed(inputs)
            minus(a, b, f"{output}/above")
            # rounded to nothing between the two, also where engines put linear steps together in bfloat16
            found.append(node("Relu", f"{output}/above", f"{output}/more"))
            found.append(node("Mul", f"{output}/more huge/", f"{output}/steep"))
            clipped(f"{output}/steep", output)
        elif kind == "And":
            found.append(node("Mul", " ".join(inputs), output))
        elif kind == "Abs":
            found.append(node("Relu", inputs[0], f"{output}/up"))
            found.append(node("Mul", f"{inputs[0]} minus/", f"{output}/negative"))
            found.append(node("Relu", f"{output}/negative", f"{output}/down"))
            found.append(node("Add", f"{output}/up {output}/down", output))
        elif kind == "Clip":
            clipped(inputs[0], output)
        else:
            found.append(one)
    return found, more


def save_line(path: Path, size: int, zero: float, slope: float) -> None:
    """`slope` * (grey - `zero`), as a probability 0..1."""
    nodes = [
        node("Sub", "grey offset", "above"),
        node("Mul", "above slope", "steep"),
        node("Clip", "steep", "masks"),
    ]
    save_known(path, size, nodes, {"offset": zero, "slope": slope})


def save_between(path: Path, size: int, low: float, high: float) -> None:
    """Probability 1 where the grey value is between two others, else 0."""
    nodes = [
        node("Greater", "grey low", "above"),
        node("Less", "grey high", "below"),
        node("And", "above below", "both"),
        node("Cast", "both", "masks"),
    ]
    save_known(path, size, nodes, {"low": low, "high": high})
