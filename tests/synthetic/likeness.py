"""A model with soft answers that are known: how alike a pixel's grey value is to a lesion's."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

LESION = 130.0


def save_likeness(path: Path, size: int, width: float = 100.0) -> None:
    """Probability 1 at the grey of a lesion, and 0 from `width` grey values away: the best threshold is not 0.5."""
    shape = ("N", size, size, 1)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["grey"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["grey", "lesion"], ["above"]),
            helper.make_node("Abs", ["above"], ["away"]),
            helper.make_node("Div", ["away", "width"], ["unlike"]),
            helper.make_node("Sub", ["one", "unlike"], ["like"]),
            helper.make_node("Relu", ["like"], ["masks"]),
        ],
        "likeness",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("masks", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor(name, TensorProto.FLOAT, [], [value])
            for name, value in {"lesion": LESION, "width": width, "one": 1.0}.items()
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), path)
