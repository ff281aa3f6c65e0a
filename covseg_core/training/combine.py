"""Several trained models as one `model.onnx`, whose answer is the mean of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from covseg_core.errors import CovsegError
from covseg_core.files import atomic_path

if TYPE_CHECKING:
    import onnx

LARGEST_DIFFERENCE = 1e-3
"""Of a probability, between the combined model and the mean of its parts: what float16 weights may cost."""
_SMALL = 12_000
"""Constants with fewer numbers stay float32: rounding those of the first and last layers costs most and saves least."""


def combine_onnx(models: Sequence[Path], path: Path) -> float:
    """Write one graph that asks all models about the same slices and answers with the mean of their probabilities.

    Weights are kept as float16, half the size; ONNX Runtime makes float32 of them once, when it loads the graph, and
    computes with that.

    Parameters
    ----------
    models : `model.onnx` of runs whose slices are prepared alike, at least two
    path : where the graph goes

    Returns
    -------
    float : largest absolute difference of a probability from the mean of the parts, on random slices

    Raises
    ------
    CovsegError : the models' inputs differ, or the difference is above 1e-3; nothing is written
    """
    import onnx
    import onnxruntime

    parts = [onnx.load(model) for model in models]
    if len({_interface(part) for part in parts}) != 1 or len(parts) < 2:
        found = f"{len(parts)} models, inputs {', '.join(sorted({_interface(part) for part in parts}))}"
        raise CovsegError(path, f"cannot be combined: {found}", "two or more models of slices that are prepared alike")
    with atomic_path(path) as temporary:
        onnx.save(_joined(parts), temporary)
        shape = [dimension.dim_value for dimension in parts[0].graph.input[0].type.tensor_type.shape.dim[1:]]
        slices = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)

        def answer(file: Path) -> np.ndarray:
            session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
            return np.asarray(session.run(None, {session.get_inputs()[0].name: slices})[0])

        difference = float(np.abs(answer(temporary) - np.mean([answer(model) for model in models], axis=0)).max())
        if not difference <= LARGEST_DIFFERENCE:
            found = f"differs from the mean of its parts by {difference:.2g}"
            raise CovsegError(path, found, f"at most {LARGEST_DIFFERENCE:g}")
    return difference


def _interface(model: onnx.ModelProto) -> str:
    """Sides and channels of the slices, and the opset."""
    sides = [str(dimension.dim_value) for dimension in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    return " x ".join(sides) + f" (opset {model.opset_import[0].version})"


def _joined(parts: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    """The graphs side by side, with one input and the mean of their outputs."""
    from onnx import compose, helper

    shared, output = parts[0].graph.input[0], parts[0].graph.output[0]
    nodes, constants, answers = [], [], []
    for number, part in enumerate(parts):
        graph = compose.add_prefix(part, f"model{number}/").graph
        own = graph.input[0].name
        for node in graph.node:
            node.input[:] = [shared.name if name == own else name for name in node.input]
        half, casts = _halved(list(graph.initializer))
        constants += half
        nodes += [*casts, *graph.node]
        answers.append(graph.output[0].name)
    nodes.append(helper.make_node("Mean", answers, [output.name], name="mean"))
    graph = helper.make_graph(nodes, "combined", [shared], [output], constants)
    return helper.make_model(graph, opset_imports=parts[0].opset_import, ir_version=parts[0].ir_version)


def _halved(
    constants: Sequence[onnx.TensorProto],
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """Weights as float16, and a node for each that gives them back under their name as float32."""
    from onnx import TensorProto, helper, numpy_helper

    kept, casts = [], []
    for constant in constants:
        values = numpy_helper.to_array(constant)
        if constant.data_type != TensorProto.FLOAT or values.size < _SMALL:
            kept.append(constant)
            continue
        kept.append(numpy_helper.from_array(values.astype(np.float16), f"{constant.name}/half"))
        casts.append(helper.make_node("Cast", [kept[-1].name], [constant.name], to=TensorProto.FLOAT))
    return kept, casts
