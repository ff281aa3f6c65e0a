"""Curves of a run as an event file, which TensorBoard reads.

Written here, since TensorFlow's own writer would cost importing TensorFlow, for a format of two lines. A file is a
sequence of records: length (8 bytes), its masked CRC-32C, the event, its masked CRC-32C. An event is a protocol buffer:
time, step, and a value for each curve. Sources: `tensorflow/core/lib/io/record_writer.h`,
`tensorflow/core/util/event.proto` and `tensorflow/core/framework/summary.proto`.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from covseg_core.files import write_bytes
from covseg_core.runs import Run

TRAINING, VALIDATION = "train", "validation"
"""Folders of a run's two curves, so that TensorBoard draws them in one figure."""
_NO_CURVES = ("epoch", "total_seconds")
"""What becomes step and time of an event."""
_POLYNOMIAL = 0x82F63B78
_MASK = 0xA282EAD8


def event_files(run: Run) -> dict[str, bytes]:
    """Path -> content: `<run>/train/` and `<run>/validation/`, a step an epoch; none without a first epoch.

    Raises
    ------
    CovsegError : the run's settings cannot be read
    """
    rows = run.history()
    if not rows:
        return {}
    began = _seconds(run.config.created)
    found = {}
    for part in (TRAINING, VALIDATION):
        events = [_event(began, version="brain.Event:2")]
        events += [_event(began + row.get("total_seconds", 0.0), int(row["epoch"]), _values(row, part)) for row in rows]
        path = f"{run.id}/{part}/events.out.tfevents.{int(began)}.covseg"
        found[path] = b"".join(_record(event) for event in events)
    return found


def write_event_files(run: Run, folder: Path) -> list[Path]:
    """The same below a folder; raises as `event_files`."""
    files = event_files(run)
    for path, content in files.items():
        write_bytes(folder / path, content)
    return [folder / path for path in files]


def _values(row: Mapping[str, float], part: str) -> dict[str, float]:
    """Curves of a part by one name, such as `loss` for `loss` and for `val_loss`; seconds and learning rate once."""
    if part == VALIDATION:
        return {name.removeprefix("val_"): value for name, value in row.items() if name.startswith("val_")}
    return {name: value for name, value in row.items() if not name.startswith("val_") and name not in _NO_CURVES}


def _event(time: float, step: int = 0, values: Mapping[str, float] | None = None, version: str = "") -> bytes:
    """Fields of `Event`: 1 time, 2 step, 3 version of the file, 5 summary; of each value 1 its name, 2 itself."""
    found = b"\x09" + struct.pack("<d", time) + b"\x10" + _varint(step)
    if version:
        found += _bytes(3, version.encode())
    summary = b"".join(
        _bytes(1, _bytes(1, name.encode()) + b"\x15" + struct.pack("<f", value))
        for name, value in (values or {}).items()
        if not math.isnan(value)
    )
    return found + (_bytes(5, summary) if summary else b"")


def _bytes(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def _record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + _masked(length) + content + _masked(content)


def _masked(content: bytes) -> bytes:
    crc = crc32c(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)


def crc32c(content: bytes) -> int:
    """Castagnoli's checksum (RFC 3720, appendix B.4).

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    table, crc = _table(), 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@functools.cache
def _table() -> list[int]:
    found = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (_POLYNOMIAL if number & 1 else 0)
        found.append(number)
    return found


def _seconds(iso: str) -> float:
    try:
        return datetime.fromisoformat(iso).timestamp()
    except ValueError:
        return 0.0
