"""Whether a `model.onnx` holds no more than our own export writes, read before anything loads it.

ONNX can loop, read other files, and ask for memory that the file does not hold. A U-Net needs none of that. What is not
in the lists below is refused. The file is mapped and only its headings are read: a few milliseconds, whatever its size.

Source of the field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path

from covseg_core.errors import RunError

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
_OURS = "a model.onnx as covseg exports it"


def check_model_file(path: Path) -> None:
    """Refuse a model with another operator than those of our export, or one that says more than it holds.

    Raises
    ------
    RunError : what is not a model, or not one of ours; names the operator
    """
    try:
        with open(path, "rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        _check_model(content)
    except OSError as error:
        raise RunError(path, error.strerror or str(error), "a model.onnx that can be read") from None
    except (ValueError, IndexError) as error:
        raise RunError(path, f"not readable: {error}", _OURS) from None


def _check_model(content: memoryview) -> None:
    graphs = 0
    for field, value in _fields(content, _MODEL, "model"):
        if field == 7:
            graphs += 1
            _check_graph(_message(value))
        elif field == 8:
            _check_opset(_message(value))
    if graphs != 1:
        raise ValueError(f"{graphs} graphs in it, not one")


def _check_opset(content: memoryview) -> None:
    found: dict[int, int | memoryview] = dict(_fields(content, _OPSET, "opset"))
    domain, version = _text(found.get(1, memoryview(b""))), found.get(2, 0)
    if OPSETS.get(domain) != version:
        raise ValueError(f"operators of {domain or 'ONNX'}, version {version}")


def _check_graph(content: memoryview) -> None:
    nodes = 0
    for field, value in _fields(content, _GRAPH, "graph"):
        if field == 1:
            nodes += 1
            _check_node(_message(value))
        elif field == 5:
            _check_tensor(_message(value))
    if nodes > MOST_NODES:
        raise ValueError(f"{nodes:,} operators, more than {MOST_NODES:,}")


def _check_node(content: memoryview) -> None:
    for field, value in _fields(content, _NODE, "operator"):
        if field == 4 and (name := _text(value)) not in OPERATORS:
            raise ValueError(f"operator {name[:40]!r}")
        if field == 7 and _text(value):
            raise ValueError(f"an operator of {_text(value)[:40]!r}")
        if field == 5:
            _check_attribute(_message(value))


def _check_attribute(content: memoryview) -> None:
    for field, value in _fields(content, _ATTRIBUTE, "attribute"):
        if field in (3, 8):
            for number in _integers(value):
                if not -LARGEST_NUMBER <= number <= LARGEST_NUMBER:
                    raise ValueError(f"{number} in an attribute, beyond {LARGEST_NUMBER}")


def _check_tensor(content: memoryview) -> None:
    """Its shape asks for no more numbers than are in it."""
    sides: list[int] = []
    kind, held = 0, 0
    for field, value in _fields(content, _TENSOR, "constant"):
        if field == 1:
            sides += _integers(value)
        elif field == 2:
            [kind] = _integers(value)
        elif field == 14 and value != 0:
            raise ValueError("a constant in another file")
        elif field in _NUMBERS:
            held += 8 if isinstance(value, int) else len(value)
    if kind not in _SIZES:
        raise ValueError(f"a constant of kind {kind}")
    if min(sides, default=0) < 0 or math.prod(sides) > held:
        raise ValueError(f"a constant of shape {sides[:5]} in {held:,} bytes")


def _fields(content: memoryview, known: set[int], what: str) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message, in its order."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        field, wire = key >> 3, key & 7
        if field not in known:
            raise ValueError(f"field {field} of {what}, which no export of ours writes")
        value: int | memoryview
        if wire == 0:
            value, at = _varint(content, at)
        else:
            if wire == 2:
                length, at = _varint(content, at)
            elif wire in (1, 5):
                length = {1: 8, 5: 4}[wire]
            else:
                raise ValueError(f"no ONNX (wire type {wire})")
            if length > len(content) - at:
                raise ValueError("ends too early")
            value, at = content[at : at + length], at + length
        yield field, value


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """A number of up to ten bytes, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            raise ValueError("ends too early")
        byte = content[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & (2**64 - 1), at
    raise ValueError("no ONNX (a number of more than ten bytes)")


def _integers(value: int | memoryview) -> list[int]:
    """One number, or several that are packed; signed."""
    found, at = [], 0
    if isinstance(value, int):
        found.append(value)
    else:
        while at < len(value):
            number, at = _varint(value, at)
            found.append(number)
    return [number - 2**64 if number >= 2**63 else number for number in found]


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("no ONNX (a number where a part of the model is expected)")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)[:200]).decode(errors="replace")
