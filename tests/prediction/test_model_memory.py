"""What a stranger's model may compute. What a user loses otherwise: all memory, by operators that are allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from evilmodels import EVIL, constants, save_evil, shape, weights
from known import node, save_line
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from covseg_core.config import PrepareConfig, RunConfig
from covseg_core.errors import RunError
from covseg_core.files import read_json
from covseg_core.isolation import Limits, isolated
from covseg_core.prediction.inference import Segmenter, memory_needed
from covseg_core.prediction.model_file import check_model_file
from covseg_core.prediction.model_memory import Memory, memory_of

SHIPPED = sorted(Path(__file__).parents[2].glob("checkpoints/pretrained/*/model.onnx"))
SIZE = 32
PREPARE = PrepareConfig(size=SIZE)


def save_unet(path: Path, size: int, filters: int, channels: int = 1, models: int = 1) -> None:
    """The operators of our export, several models side by side."""
    nodes: list[NodeProto] = []
    kept: list[TensorProto] = []

    def add(operator: str, *inputs: str, **attributes: object) -> str:
        nodes.append(helper.make_node(operator, inputs, [f"t{len(nodes)}"], **attributes))
        return f"t{len(nodes) - 1}"

    def constant(values: np.ndarray) -> str:
        kept.append(numpy_helper.from_array(values, f"c{len(kept)}"))
        return f"c{len(kept) - 1}"

    def conv(x: str, given: int, made: int, side: int = 3) -> str:
        w, b = constant(weights(made, given, side, side)), constant(weights(made))
        return add("Conv", x, w, b, pads=[side // 2] * 4, kernel_shape=[side, side])

    def block(x: str, given: int, made: int) -> str:
        return add("Relu", conv(add("Relu", conv(x, given, made)), made, made))

    def unet() -> str:
        x = add("Mul", add("Cast", "images", to=TensorProto.FLOAT), constant(weights()))
        x = add("Transpose", add("Add", x, constant(weights())), perm=[0, 3, 1, 2])
        skips, given = [], channels
        for level in range(4):
            skips.append(block(x, given, given := filters * 2**level))
            x = add("MaxPool", skips[-1], kernel_shape=[2, 2], strides=[2, 2])
        x = block(x, given, given * 2)
        for level in reversed(range(4)):
            made = filters * 2**level
            x = add(
                "ConvTranspose", x, constant(weights(2 * made, made, 2, 2)), constant(weights(made)), strides=[2, 2]
            )
            x = block(add("Concat", x, skips[level], axis=1), 2 * made, made)
        x = add("Sigmoid", conv(x, filters, 1, side=1))
        return add("Reshape", x, constant(shape(-1, size, size, 1)))

    answers = [unet() for _ in range(models)]
    if models > 1:
        answers = [add("Mean", *answers)]
    nodes[-1].output[0] = "masks"
    graph = helper.make_graph(
        nodes,
        "unet",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ("N", size, size, channels))],
        [helper.make_tensor_value_info("masks", TensorProto.FLOAT, ("N", size, size, 1))],
        kept,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), path)


def by_onnx(path: Path) -> int:
    """All that a model computes of four slices, in bytes, as ONNX's own shape inference says."""
    model = onnx.load(path)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    tensors = [value.type.tensor_type for value in (*inferred.value_info, *inferred.output)]
    kinds = {1: 4, 2: 1, 7: 8, 10: 2, 11: 8}
    return sum(int(np.prod([side.dim_value for side in one.shape.dim])) * kinds[one.elem_type] for one in tensors)


@pytest.mark.parametrize("model", SHIPPED, ids=lambda path: path.parent.name)
def test_what_a_shipped_model_needs_is_known(model: Path) -> None:
    prepare = read_json(model.parent / "config.json", RunConfig).prepare
    need = memory_of(model, prepare)
    assert 0.9 * model.stat().st_size < need.constants < model.stat().st_size
    several = 5 if model.parent.name == "infection" else 1  # one after another
    assert need.slice == pytest.approx(by_onnx(model) / 4 / several, rel=0.15)


@pytest.mark.parametrize("operators", ["line", "unet"])
def test_shapes_are_those_that_onnx_infers(operators: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if operators == "line":
        save_line(path, SIZE, 0, 1)
    else:
        save_unet(path, SIZE, 3, channels=3)
    prepare = PrepareConfig(size=SIZE, context=operators == "unet")
    working = 0 if operators == "line" else 3 * 4 * 16 * 16 * 4  # of the last ConvTranspose
    assert abs(memory_of(path, prepare).slice - by_onnx(path) // 4) <= working


@pytest.mark.parametrize(
    ("size", "filters", "context", "models"),
    [
        (16, 1, 0, 1),
        (1024, 1, 0, 1),
        (1024, 1, 5, 1),
        (16, 12, 0, 1),
        (256, 4, 0, 25),
        (512, 16, 2, 1),
        (256, 32, 0, 1),
    ],
)
def test_every_network_that_can_be_trained_passes(
    size: int, filters: int, context: int, models: int, tmp_path: Path
) -> None:
    save_unet(tmp_path / "model.onnx", size, filters, 2 * context + 1, models)
    check_model_file(tmp_path / "model.onnx")
    alone = memory_of(tmp_path / "model.onnx", PrepareConfig(size=size, context=context))
    assert isinstance(alone, Memory)
    if models > 1:
        save_unet(tmp_path / "model.onnx", size, filters, 2 * context + 1)
        one = memory_of(tmp_path / "model.onnx", PrepareConfig(size=size, context=context))
        assert alone == Memory(models * one.constants, one.slice)


def test_memory_for_the_thesis_network_is_a_gigabyte_and_a_half(tmp_path: Path) -> None:
    save_unet(tmp_path / "model.onnx", 256, 32)
    assert 1.2e9 < memory_needed(tmp_path / "model.onnx", PrepareConfig(), workers=3) < 1.8e9


@pytest.mark.parametrize("change", EVIL)
def test_a_model_that_computes_more_than_it_holds_is_refused_before_it_is_loaded(
    change: Callable[[ModelProto], str], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    save_evil(path, change, SIZE)
    assert path.stat().st_size < 5e6
    check_model_file(path)  # its operators are ours
    with pytest.raises(RunError) as error:
        isolated(Segmenter, path, PREPARE, named="x", limits=Limits(2**30, 20))
    line = str(error.value)
    assert "\n" not in line
    assert "MiB of a U-Net with" in line
    assert line.endswith("expected a model.onnx as covseg exports it")


def late_shape(model: ModelProto) -> None:
    model.graph.node.extend([node("Reshape", "grey grey", "x"), node("Relu", "x", "y")])


def unknown_kind(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Cast", ["grey"], ["x"], to=99))


def sized(model: ModelProto) -> None:
    model.graph.initializer.extend(constants(w=weights(1, 1, 1, 1)))
    model.graph.node.append(node("ConvTranspose", "grey w", "x", output_shape=[1000, 1000]))


def same(model: ModelProto) -> None:
    model.graph.initializer.extend(constants(w=weights(1, SIZE, 1, 1)))
    model.graph.node.append(helper.make_node("Conv", ["grey", "w"], ["x"], auto_pad="SAME_UPPER"))


def nothing(model: ModelProto) -> None:
    model.graph.node.append(node("Relu", "nowhere", "x"))


def still(model: ModelProto) -> None:
    model.graph.initializer.extend(constants(w=weights(1, SIZE, 1, 1)))
    model.graph.node.append(node("Conv", "grey w", "x", strides=[0, 0]))


def axis(model: ModelProto) -> None:
    model.graph.node.append(node("Transpose", "grey", "x", perm=[0, 900]))


def missing(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Concat", ["grey"], ["x"]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (late_shape, "a shape that is not in the file"),
        (unknown_kind, "kind 99"),
        (sized, "ConvTranspose with the size of its answer"),
        (same, "auto_pad 'SAME_UPPER'"),
        (nothing, "'nowhere', which nothing before it makes"),
        (still, "Conv with steps"),
        (axis, "not readable"),
        (missing, "not readable"),
    ],
)
def test_what_cannot_be_counted_is_refused(change: Callable[[ModelProto], None], words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save_line(path, SIZE, 0, 1)
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RunError, match=words) as error:
        memory_of(path, PREPARE)
    assert "\n" not in str(error.value)
