"""Models whose answer is known: a few nodes of ONNX instead of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, helper


def node(operator: str, inputs: str, output: str, **attributes: int | list[int]) -> NodeProto:
    """`node("Add", "grey one", "masks")`"""
    kind = {"to": TensorProto.FLOAT} if operator == "Cast" else {}
    return helper.make_node(operator, inputs.split(), [output], **kind, **attributes)


def save_known(
    path: Path, size: int, nodes: Sequence[NodeProto], constants: Mapping[str, float], channels: int = 1
) -> None:
    """A model for slices of `size` pixels, whose nodes make `masks` from `grey`, the image as float32 0..255."""
    graph = helper.make_graph(
        [node("Cast", "images", "grey"), *nodes],
        "known",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ("N", size, size, channels))],
        [helper.make_tensor_value_info("masks", TensorProto.FLOAT, ("N", size, size, 1))],
        [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), path)


def save_line(path: Path, size: int, zero: float, slope: float) -> None:
    """`slope` * (grey - `zero`), as a probability 0..1."""
    nodes = [
        node("Sub", "grey offset", "above"),
        node("Mul", "above slope", "steep"),
        node("Clip", "steep no yes", "masks"),
    ]
    save_known(path, size, nodes, {"offset": zero, "slope": slope, "no": 0.0, "yes": 1.0})


def save_between(path: Path, size: int, low: float, high: float) -> None:
    """Probability 1 where the grey value is between two others, else 0."""
    nodes = [
        node("Greater", "grey low", "above"),
        node("Less", "grey high", "below"),
        node("And", "above below", "both"),
        node("Cast", "both", "masks"),
    ]
    save_known(path, size, nodes, {"low": low, "high": high})
