"""Copies of NIfTI files without the words in them: a header has room for a patient's name, and extensions for a file.

Only words go. Geometry, scale and voxels stay where they are, byte by byte. A file that holds no words is copied as
it is, so that its SHA-256 stays, too.

Source of the fields: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h and nifti2.h
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import IO, cast

from isal import igzip

_TEXTS = {348: ((4, 32), (148, 252), (328, 344)), 540: ((240, 344), (508, 524))}
"""Size of the header -> where data_type, db_name, descrip, aux_file and intent_name lie; NIfTI-2 has no first two."""
_OFFSET = {348: (108, "f"), 540: (168, "q")}
"""Where a header says at which byte its voxels begin, and as what kind of number."""
_GZIP = b"\x1f\x8b\x08"
_NAMED = 0b11100
"""Flags of a gzip file: an extra field, a name, a comment."""
_OWN_FLAGS_AT = 3
_CHUNK = 2**22


def copy_without_words(source: Path, target: Path) -> bool:
    """Copy a file that was read and checked before, packed or not.

    Returns
    -------
    bool : whether anything had to be emptied; the copy's SHA-256 is another one then
    """
    with open(source, "rb") as file:
        head = file.read(4)
    packed = head.startswith(_GZIP)
    named = packed and bool(head[_OWN_FLAGS_AT] & _NAMED)
    with igzip.open(source) if packed else open(source, "rb") as opened:
        content = cast("IO[bytes]", opened)
        before = _before_voxels(content)
        emptied = _emptied(before)
        if emptied == before and not named:
            shutil.copyfile(source, target)
            return False
        with open(target, "wb") as raw:
            if packed:
                with igzip.IGzipFile(filename="", mode="wb", compresslevel=2, fileobj=raw, mtime=0) as out:
                    out.write(emptied)
                    shutil.copyfileobj(content, out, _CHUNK)
            else:
                raw.write(emptied)
                shutil.copyfileobj(content, raw, _CHUNK)
    return True


def _before_voxels(content: IO[bytes]) -> bytes:
    """The header and what lies between it and the voxels."""
    start = content.read(4)
    size, order = _size_and_order(start)
    header = start + content.read(size - 4)
    at, kind = _OFFSET[size]
    (offset,) = struct.unpack_from(order + kind, header, at)
    return header + content.read(max(int(offset) - size, 4))


def _emptied(before: bytes) -> bytes:
    """The same bytes, with zeros for all words, and no extension."""
    size, _ = _size_and_order(before)
    found = bytearray(before)
    for start, end in _TEXTS[size]:
        found[start:end] = bytes(end - start)
    found[size:] = bytes(len(found) - size)
    return bytes(found)


def _size_and_order(start: bytes) -> tuple[int, str]:
    for order in "<>":
        (size,) = struct.unpack_from(f"{order}i", start)
        if size in _TEXTS:
            return size, order
    raise ValueError(f"no NIfTI header: {start[:4]!r}")
