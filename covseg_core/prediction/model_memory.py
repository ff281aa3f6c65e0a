"""What a `model.onnx` needs in memory, counted from its operators before anything loads it.

Allowed operators, too, can ask for any amount: two constants of a MB make one of a TB if they are multiplied crosswise.
The shapes of all that a model computes follow from the file and from the slices that it is shown. A U-Net computes so
many numbers for each of its weights and each pixel, and a model that computes more than such a one is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from covseg_core.config import PrepareConfig
from covseg_core.errors import RunError
from covseg_core.prediction.model_file import OURS
from covseg_core.prediction.onnx_fields import fields, integers, mapped, message, text

WEIGHTS = 7577
"""Of a U-Net with one filter at its first level; with F filters there are F x F times as many."""
PER_FILTER, PER_CHANNEL, MORE = 32, 16, 64
"""Numbers computed for each pixel of a slice, all layers together, at most: for each filter of the first level (our
U-Net 22), for each channel of the input (4), and beside them (3)."""
_SLICES = 4
"""That are shown at once: what is computed across slices grows with their number."""
_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""Kinds of numbers -> bytes each."""
_FLOAT, _UINT8, _INT64 = 1, 2, 7
_ALL = set(range(1, 32))

Sides = tuple[int, ...]


@dataclass(frozen=True)
class Memory:
    """Bytes that a model needs."""

    constants: int
    """Its weights."""
    slice: int
    """More, for each slice that it computes at the same time: all that it computes of it, as if nothing were freed in
    between. What is really needed is about half of it."""


@dataclass(frozen=True)
class _Tensor:
    sides: Sides
    kind: int

    @property
    def size(self) -> int:
        return math.prod(self.sides) * _BYTES[self.kind]


@dataclass(frozen=True)
class _Node:
    operator: str
    inputs: tuple[bytes, ...]
    outputs: tuple[bytes, ...]
    numbers: Mapping[str, list[int]]
    """Attributes that are whole numbers."""
    words: Mapping[str, str]


@dataclass
class _Graph:
    input: bytes = b""
    nodes: list[_Node] = field(default_factory=list)
    constants: dict[bytes, _Tensor] = field(default_factory=dict)
    values: dict[bytes, list[int]] = field(default_factory=dict)
    """Of constants that may be shapes."""


@dataclass
class _Part:
    """What hangs together in a graph: a model, or one of several side by side that are computed one after another."""

    numbers: int = 0
    """In its constants."""
    bytes: int = 0
    """Of all that it computes."""
    working: int = 0
    """The most that one operator needs besides."""


def memory_of(path: Path, prepare: PrepareConfig) -> Memory:
    """What a model needs that `model_file.check_model_file` lets pass.

    Raises
    ------
    RunError : it computes more than a U-Net with as many weights, or something else than its export says
    """
    try:
        graph = _graph(mapped(path))
        parts = _parts(graph, prepare)
        for part in parts:
            _check(part, prepare)
    except OSError as error:
        raise RunError(path, error.strerror or str(error), "a model.onnx that can be read") from None
    except (ValueError, IndexError, KeyError) as error:
        raise RunError(path, f"not readable: {error}", OURS) from None
    constants = sum(constant.size for constant in graph.constants.values())
    return Memory(constants, max((part.bytes + part.working for part in parts), default=0) // _SLICES)


def _check(part: _Part, prepare: PrepareConfig) -> None:
    filters = math.sqrt(part.numbers / WEIGHTS)
    pixel = PER_FILTER * filters + PER_CHANNEL * prepare.channels + MORE
    most = round(_SLICES * prepare.size**2 * 4 * pixel) + 8 * part.numbers  # weights may be kept in half precision
    if part.bytes + part.working > most:
        found = f"computes {(part.bytes + part.working) / 2**20:,.0f} MiB of {_SLICES} slices"
        raise ValueError(f"{found}, more than the {most / 2**20:,.0f} MiB of a U-Net with {part.numbers:,} weights")


def _parts(graph: _Graph, prepare: PrepareConfig) -> list[_Part]:
    """Go through all operators."""
    size = prepare.size
    tensors = {**graph.constants, graph.input: _Tensor((_SLICES, size, size, prepare.channels), _UINT8)}
    root = _roots(graph)
    parts: dict[bytes, _Part] = {}
    for name, constant in graph.constants.items():
        parts.setdefault(root(name), _Part()).numbers += math.prod(constant.sides)
    for node in graph.nodes:
        given = [tensors[name] if name in tensors else _missing(name) for name in node.inputs if name]
        made, working = _computed(node, given, graph.values)
        part = parts.setdefault(root(node.outputs[0]), _Part())
        part.bytes += sum(tensor.size for tensor in made)
        part.working = max(part.working, working)
        tensors |= dict(zip(node.outputs, made, strict=False))
    return list(parts.values())


def _missing(name: bytes) -> _Tensor:
    raise ValueError(f"an operator on {name[:40].decode(errors='replace')!r}, which nothing before it makes")


def _roots(graph: _Graph) -> Callable[[bytes], bytes]:
    """A function from the name of a tensor to that of another, the same for all that hang together.

    The input is in all parts, and a `Mean` at the end takes what each has made: neither ties them together.
    """
    above: dict[bytes, bytes] = {}

    def root(name: bytes) -> bytes:
        while (up := above.get(name, name)) != name:
            above[name] = name = above.get(up, up)
        return name

    for node in graph.nodes:
        last = node is graph.nodes[-1] and node.operator == "Mean"
        for name in () if last else (*node.inputs, *node.outputs):
            if name and name != graph.input:
                above[root(name)] = root(node.outputs[0])
    return root


def _computed(node: _Node, given: Sequence[_Tensor], values: Mapping[bytes, list[int]]) -> tuple[list[_Tensor], int]:
    """What an operator makes, and how many bytes it needs besides."""
    first, kind = given[0].sides, given[0].kind
    working = 0
    match node.operator:
        case "Cast":
            kind = node.numbers["to"][0]
            sides = first
        case "Relu" | "Sigmoid":
            sides = first
        case "Add" | "Mul" | "Mean":
            sides = _broadcast([tensor.sides for tensor in given])
        case "Concat":
            axis = node.numbers["axis"][0] % len(first)
            sides = (*first[:axis], sum(tensor.sides[axis] for tensor in given), *first[axis + 1 :])
        case "Reshape":
            sides = _reshaped(node, first, values)
        case "Transpose":
            turned = node.numbers.get("perm", list(range(len(first)))[::-1])
            sides = tuple(first[axis] for axis in turned)
        case "MaxPool":
            sides = (*first[:2], *_window(node, first[2:], node.numbers["kernel_shape"]))
        case "Conv":
            sides = (first[0], given[1].sides[0], *_window(node, first[2:], given[1].sides[2:]))
        case "ConvTranspose":
            [group] = node.numbers.get("group", [1])
            weights = given[1].sides
            sides = (first[0], weights[1] * group, *_spread(node, first[2:], weights[2:]))
            working = 4 * math.prod(weights[1:]) * math.prod(first[2:])
        case _:
            raise ValueError(f"operator {node.operator[:40]!r}")
    if min(sides, default=1) < 0 or kind not in _BYTES:
        raise ValueError(f"{node.operator} makes shape {list(sides)[:5]} of kind {kind}")
    more = [_Tensor(sides, _INT64) for _ in node.outputs[1:]]  # where a maximum was
    return [_Tensor(sides, kind), *more], working


def _broadcast(shapes: Sequence[Sides]) -> Sides:
    longest = max(map(len, shapes))
    padded = [(1,) * (longest - len(sides)) + sides for sides in shapes]
    return tuple(max(along) if min(along) else 0 for along in zip(*padded, strict=True))


def _reshaped(node: _Node, sides: Sides, values: Mapping[bytes, list[int]]) -> Sides:
    wanted = values.get(node.inputs[1])
    if wanted is None:
        raise ValueError("Reshape to a shape that is not in the file")
    found = [sides[axis] if length == 0 else length for axis, length in enumerate(wanted)]
    if -1 in found:
        found[found.index(-1)] = math.prod(sides) // max(1, math.prod(length for length in found if length != -1))
    if math.prod(found) != math.prod(sides):
        raise ValueError(f"Reshape of {list(sides)[:5]} to {wanted[:5]}")
    return tuple(found)


def _window(node: _Node, sides: Sides, kernel: Sequence[int]) -> Iterator[int]:
    """Sides of the answer of what goes over an image."""
    strides, dilations, pads = _steps(node, sides, kernel)
    for axis, length in enumerate(sides):
        inside = length + pads[axis] + pads[axis + len(sides)] - dilations[axis] * (kernel[axis] - 1) - 1
        # if it rounds up, by one
        yield max(0, inside // strides[axis] + 1) + node.numbers.get("ceil_mode", [0])[0]


def _spread(node: _Node, sides: Sides, kernel: Sequence[int]) -> Iterator[int]:
    """The same of a transposed convolution."""
    if "output_shape" in node.numbers or "output_padding" in node.numbers:
        raise ValueError("ConvTranspose with the size of its answer")
    strides, dilations, pads = _steps(node, sides, kernel)
    for axis, length in enumerate(sides):
        whole = strides[axis] * (length - 1) + dilations[axis] * (kernel[axis] - 1) + 1
        yield max(0, whole - pads[axis] - pads[axis + len(sides)])


def _steps(node: _Node, sides: Sides, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads."""
    if len(sides) != 2 or len(kernel) != 2:
        raise ValueError(f"{node.operator} of images with {len(sides)} sides")
    if node.words.get("auto_pad", "NOTSET") != "NOTSET":
        raise ValueError(f"{node.operator} with auto_pad {node.words['auto_pad'][:40]!r}")
    found = [node.numbers.get(name, [default] * count) for name, default, count in _STEPS]
    if [len(numbers) for numbers in found] != [2, 2, 4] or min(*found[0], *found[1], *kernel) < 1:
        raise ValueError(f"{node.operator} with steps {found}")
    return found[0], found[1], found[2]


_STEPS = (("strides", 1, 2), ("dilations", 1, 2), ("pads", 0, 4))


def _graph(content: memoryview) -> _Graph:
    [inside] = [message(value) for number, value in fields(content, _ALL, "model") if number == 7]
    graph, inputs = _Graph(), []
    for number, value in fields(inside, _ALL, "graph"):
        if number == 1:
            graph.nodes.append(_node(message(value)))
        elif number == 5:
            name, constant, values = _constant(message(value))
            graph.constants[name] = constant
            if values is not None:
                graph.values[name] = values
        elif number == 11:
            inputs += [bytes(message(name)) for part, name in fields(message(value), _ALL, "input") if part == 1]
    [graph.input] = [name for name in inputs if name not in graph.constants]
    return graph


def _node(content: memoryview) -> _Node:
    inputs, outputs, operator = [], [], ""
    numbers: dict[str, list[int]] = {}
    words: dict[str, str] = {}
    for number, value in fields(content, _ALL, "operator"):
        if number == 1:
            inputs.append(bytes(message(value)))
        elif number == 2:
            outputs.append(bytes(message(value)))
        elif number == 4:
            operator = text(value)
        elif number == 5:
            name, whole, word = _attribute(message(value))
            numbers[name], words[name] = whole, word
    if not outputs or not inputs:
        raise ValueError(f"{operator[:40]} of nothing")
    return _Node(operator, tuple(inputs), tuple(outputs), numbers, words)


def _attribute(content: memoryview) -> tuple[str, list[int], str]:
    name, whole, word = "", [], ""
    for number, value in fields(content, _ALL, "attribute"):
        if number == 1:
            name = text(value)
        elif number in (3, 8):
            whole += integers(value)
        elif number == 4:
            word = text(value)
    return name, whole, word


def _constant(content: memoryview) -> tuple[bytes, _Tensor, list[int] | None]:
    """Name, shape, and the numbers if they may be a shape."""
    sides: list[int] = []
    kind, name, values = 0, b"", []
    raw = memoryview(b"")
    for number, value in fields(content, _ALL, "constant"):
        if number == 1:
            sides += integers(value)
        elif number == 2:
            [kind] = integers(value)
        elif number == 8:
            name = bytes(message(value))
        elif number == 7:
            values += integers(value)
        elif number == 9:
            raw = message(value)
    tensor = _Tensor(tuple(sides), kind)
    if kind != _INT64 or len(sides) != 1 or sides[0] > 8:
        return name, tensor, None
    return name, tensor, values or raw.cast("q").tolist() if len(raw) % 8 == 0 else None
