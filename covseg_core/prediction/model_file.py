"""Whether a `model.onnx` holds no more than our own export writes, read before anything loads it.

ONNX can loop, read other files, and ask for memory that the file does not hold. A U-Net needs none of that. What is not
in the lists below is refused. The file is mapped and only its headings are read: a few milliseconds, whatever its size.

What the operators that are left need in memory is counted by `model_memory`.
"""

from __future__ import annotations

import math
from pathlib import Path

from covseg_core.errors import RunError
from covseg_core.prediction.onnx_fields import fields, integers, mapped, message, text

OPERATORS = frozenset(
    "Add Cast Concat Conv ConvTranspose MaxPool Mean Mul Relu Reshape Sigmoid Transpose".split()
)  # fmt: skip
"""What `training.export` and `training.combine` write: the one list of them."""
OPSETS = {"": 15, "ai.onnx.ml": 2}
"""Domain -> version that models name; no operator is of the second."""
LARGEST_NUMBER = 1024
"""In an attribute: kernels, strides, pads, groups."""
MOST_NODES = 10_000
"""25 models in one have 1,200."""

_MODEL, _GRAPH, _NODE = {1, 2, 3, 4, 5, 6, 7, 8, 14}, {1, 2, 5, 10, 11, 12, 13}, {1, 2, 3, 4, 5, 6, 7}
_ATTRIBUTE, _TENSOR, _OPSET = {1, 2, 3, 4, 7, 8, 13, 20}, {1, 2, 4, 5, 7, 8, 9, 12, 14}, {1, 2}
"""Fields of each message that may be there: no functions, no graph within a graph, no constant in another file."""
_NUMBERS = {4, 5, 7, 9}
"""Fields of a tensor that hold its numbers."""
_SIZES = {1: 4, 6: 4, 7: 8, 10: 2}
"""Kinds of numbers: float, int32, int64, float16 -> bytes."""
OURS = "a model.onnx as covseg exports it"


def check_model_file(path: Path) -> None:
    """Refuse a model with another operator than those of our export, or one that says more than it holds.

    Raises
    ------
    RunError : what is not a model, or not one of ours; names the operator
    """
    try:
        _check_model(mapped(path))
    except OSError as error:
        raise RunError(path, error.strerror or str(error), "a model.onnx that can be read") from None
    except (ValueError, IndexError) as error:
        raise RunError(path, f"not readable: {error}", OURS) from None


def _check_model(content: memoryview) -> None:
    graphs = 0
    for field, value in fields(content, _MODEL, "model"):
        if field == 7:
            graphs += 1
            _check_graph(message(value))
        elif field == 8:
            _check_opset(message(value))
    if graphs != 1:
        raise ValueError(f"{graphs} graphs in it, not one")


def _check_opset(content: memoryview) -> None:
    found: dict[int, int | memoryview] = dict(fields(content, _OPSET, "opset"))
    domain, version = text(found.get(1, memoryview(b""))), found.get(2, 0)
    if OPSETS.get(domain) != version:
        raise ValueError(f"operators of {domain or 'ONNX'}, version {version}")


def _check_graph(content: memoryview) -> None:
    nodes = 0
    for field, value in fields(content, _GRAPH, "graph"):
        if field == 1:
            nodes += 1
            _check_node(message(value))
        elif field == 5:
            _check_tensor(message(value))
    if nodes > MOST_NODES:
        raise ValueError(f"{nodes:,} operators, more than {MOST_NODES:,}")


def _check_node(content: memoryview) -> None:
    for field, value in fields(content, _NODE, "operator"):
        if field == 4 and (name := text(value)) not in OPERATORS:
            raise ValueError(f"operator {name[:40]!r}")
        if field == 7 and text(value):
            raise ValueError(f"an operator of {text(value)[:40]!r}")
        if field == 5:
            _check_attribute(message(value))


def _check_attribute(content: memoryview) -> None:
    for field, value in fields(content, _ATTRIBUTE, "attribute"):
        if field in (3, 8):
            for number in integers(value):
                if not -LARGEST_NUMBER <= number <= LARGEST_NUMBER:
                    raise ValueError(f"{number} in an attribute, beyond {LARGEST_NUMBER}")


def _check_tensor(content: memoryview) -> None:
    """Its shape asks for no more numbers than are in it."""
    sides: list[int] = []
    kind, held = 0, 0
    for field, value in fields(content, _TENSOR, "constant"):
        if field == 1:
            sides += integers(value)
        elif field == 2:
            [kind] = integers(value)
        elif field == 14 and value != 0:
            raise ValueError("a constant in another file")
        elif field in _NUMBERS:
            held += 8 if isinstance(value, int) else len(value)
    if kind not in _SIZES:
        raise ValueError(f"a constant of kind {kind}")
    if min(sides, default=0) < 0 or math.prod(sides) > held:
        raise ValueError(f"a constant of shape {sides[:5]} in {held:,} bytes")
