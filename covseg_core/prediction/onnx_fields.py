"""Parts of a `model.onnx` by number, straight from the mapped file: nothing is loaded, and weights are not touched.

Source of the field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path


def mapped(path: Path) -> memoryview:
    """The file's content.

    Raises
    ------
    OSError : it cannot be read
    ValueError : it is empty
    """
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def fields(content: memoryview, known: set[int], what: str) -> Iterator[tuple[int, int | memoryview]]:
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


def integers(value: int | memoryview) -> list[int]:
    """One number, or several that are packed; signed."""
    found, at = [], 0
    if isinstance(value, int):
        found.append(value)
    else:
        while at < len(value):
            number, at = _varint(value, at)
            found.append(number)
    return [number - 2**64 if number >= 2**63 else number for number in found]


def message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("no ONNX (a number where a part of the model is expected)")
    return value


def text(value: int | memoryview) -> str:
    return bytes(message(value)[:200]).decode(errors="replace")
