"""Models of strangers. What a user loses otherwise: minutes or all memory, by a file that calls itself a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from known import save_line
from onnx import ModelProto, TensorProto, helper, numpy_helper

from covseg_core.config import PrepareConfig
from covseg_core.errors import RunError
from covseg_core.prediction.inference import Segmenter
from covseg_core.prediction.model_file import check_model_file

SHIPPED = sorted(Path(__file__).parents[2].glob("checkpoints/pretrained/*/model.onnx"))
SIZE = 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_line(tmp_path / "model.onnx", SIZE, 0, 1 / 255)
    return tmp_path / "model.onnx"


def edit(path: Path, change: Callable[[ModelProto], object]) -> None:
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())


def test_the_shipped_models_are_there() -> None:
    assert len(SHIPPED) >= 5


@pytest.mark.parametrize("model", SHIPPED, ids=lambda path: path.parent.name)
def test_every_shipped_model_passes(model: Path) -> None:
    check_model_file(model)


def loop(model: ModelProto) -> None:
    """2^62 times round."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["still"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("going", 9, [])],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, [])],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(2**62), "rounds"))
    model.graph.node.append(helper.make_node("Loop", ["rounds", ""], [], body=body))


def hidden_graph(model: ModelProto) -> None:
    """In an operator that takes none."""
    graph = helper.make_graph([], "hidden", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("body", graph))


def huge(model: ModelProto) -> None:
    shape = numpy_helper.from_array(np.asarray([2**30, 4]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["zeros"]))


def empty_weights(model: ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="w", data_type=1, dims=[2**30, 2**30], raw_data=b"1234"))


def elsewhere(model: ModelProto) -> None:
    tensor = TensorProto(name="w", data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../secret")
    model.graph.initializer.append(tensor)


def located(model: ModelProto) -> None:
    tensor = TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL, raw_data=b"1234")
    model.graph.initializer.append(tensor)


def function(model: ModelProto) -> None:
    opsets = [helper.make_opsetid("", 15)]
    nodes = [helper.make_node("Identity", ["a"], ["b"])]
    model.functions.append(helper.make_function("own", "Relu", ["a"], ["b"], nodes, opsets))


def domain(model: ModelProto) -> None:
    model.graph.node[0].domain = "com.microsoft"


def opset(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def stride(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("MaxPool", ["grey"], ["x"], kernel_shape=[1, 1], pads=[2**40] * 4))


def sparse(model: ModelProto) -> None:
    values = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, helper.make_tensor("i", TensorProto.INT64, [1], [3]), [2**40])
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (loop, "operator 'Loop'"),
        (hidden_graph, "field 6 of attribute"),
        (huge, "operator 'ConstantOfShape'"),
        (empty_weights, r"a constant of shape \[1073741824, 1073741824\] in 4 bytes"),
        (elsewhere, "field 13 of constant"),
        (located, "a constant in another file"),
        (function, "field 25 of model"),
        (domain, "an operator of 'com.microsoft'"),
        (opset, "operators of com.microsoft, version 1"),
        (stride, "1099511627776 in an attribute, beyond 1024"),
        (sparse, "field 15 of graph"),
    ],
)
def test_what_no_export_writes_is_refused_before_it_is_loaded(
    path: Path, change: Callable[[ModelProto], None], words: str
) -> None:
    check_model_file(path)
    edit(path, change)
    with pytest.raises(RunError, match=words) as error:
        Segmenter(path, PrepareConfig(size=SIZE))
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("expected a model.onnx as covseg exports it")


def test_a_part_that_comes_twice_is_looked_at_twice(path: Path) -> None:
    """Readers of this format put two graphs together, and take the last of two names."""
    evil = ModelProto()
    evil.graph.node.append(helper.make_node("Loop", [], []))
    path.write_bytes(path.read_bytes() + evil.SerializeToString())
    with pytest.raises(RunError, match="Loop|2 graphs"):
        check_model_file(path)


@pytest.mark.parametrize("seed", range(20))
def test_damage_is_a_line(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    for _ in range(30):
        content[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(content[: rng.integers(len(content)) + 1])
        try:
            check_model_file(path)
        except RunError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("content", [b"", b"\0", b"no model", b"\xff" * 100])
def test_what_is_no_model_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(RunError, match="not readable"):
        check_model_file(path)
