"""Files with bytes that were changed at random, read as the dashboard reads what is uploaded."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
from dicomfiles import Stack, compress, write
from PIL import Image

from campaigns.row import Row, environment
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.errors import CovsegError
from covseg_core.isolation import Limits, isolated
from covseg_core.prediction.scan import read_scan
from covseg_core.temporary import temporary_root

WHAT = "a NIfTI, a DICOM series, a zip or a picture with bytes changed, cut out, doubled or cut off: a scan or one line"
FULL, SMALL, SECONDS, TRAINS = 10_000, 100, 3 * 3600, False
TOGETHER = 50
"""Files that one process reads, one after the other: starting it takes longer than reading them."""
SYNTAXES = ("", "JPEGLosslessProcess14_1", "JPEG2000Lossless", "JPEGLSLossless")
"""The first is not packed."""


def run(count: int, seed: int) -> Row:
    """A few kinds in turns, fifty files at a time."""
    row, scans = Row(), 0
    with tempfile.TemporaryDirectory(prefix="covseg-fuzz-") as folder, patch.dict(os.environ, environment()):
        originals = _originals(Path(folder))
        for first in range(0, count, TOGETHER):
            numbers = range(first, min(count, first + TOGETHER))
            told = isolated(_several, originals, list(numbers), seed, named="files", limits=Limits(3 * 2**30, 600))
            for number, words in zip(numbers, told, strict=True):
                row.attempt(f"file {number} of seed {seed}", lambda words=words: _check(words))  # type: ignore[misc]
            scans += told.count("a scan")
    left = [path for path in temporary_root().rglob("*") if path.is_file()]
    if left:
        row.failures.append(f"left behind: {left[0]}")
    row.note = f"{scans:,} were still scans"
    return row


def _check(words: str) -> None:
    assert words == "a scan" or words.startswith("one line"), words


def _originals(folder: Path) -> list[Path]:
    """A file or a folder of each kind."""
    [case] = write_sample(folder / "nifti", scans=1, size=48, slices=10)
    packed = folder / "ct.nii.gz"
    shutil.copyfile(case / "ct.nii.gz", packed)
    found = [packed]
    import nibabel as nib

    image = nib.load(packed)
    nib.save(image, folder / "ct.nii")
    found.append(folder / "ct.nii")
    values = np.asarray(image.dataobj).T.astype(np.int16)
    positions = np.array([[0, 0, 5.0 * k] for k in range(len(values))])
    for number, syntax in enumerate(SYNTAXES):
        series = folder / f"series-{number}"
        for file in write(series, Stack(values, positions, spacing=(6.0, 6.0))):
            if syntax:
                compress(file, syntax)
        found.append(series)
    with zipfile.ZipFile(folder / "series.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((folder / "series-0").iterdir()):
            archive.write(file, file.name)
    plane = np.clip((values[5] + 1000) / 5, 0, 255).astype(np.uint8)
    Image.fromarray(plane).save(folder / "slice.png")
    Image.fromarray(plane).save(folder / "slice.jpg")
    return [*found, folder / "series.zip", folder / "slice.png", folder / "slice.jpg"]


def _several(originals: list[Path], numbers: list[int], seed: int) -> list[str]:
    """What becomes of each, in words."""
    return [_one(originals[number % len(originals)], random.Random(f"{seed} {number}")) for number in numbers]


def _one(original: Path, chance: random.Random) -> str:
    with tempfile.TemporaryDirectory(prefix="covseg-fuzzed-") as folder:
        path = Path(folder) / original.name
        if original.is_dir():
            shutil.copytree(original, path)
            changed = chance.sample(sorted(path.iterdir()), chance.choice([1, 1, 3]))
        else:
            shutil.copyfile(original, path)
            changed = [path]
        for file in changed:
            file.write_bytes(chance.choice(CHANGES)(file.read_bytes(), chance))
        try:
            read_scan(path, "HU")
        except CovsegError as error:
            return "one line" if "\n" not in str(error) else f"several lines: {error!r}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return "a scan"


def _bytes(content: bytes, chance: random.Random) -> bytes:
    """A few bytes anywhere, more often near the start, where headers are."""
    changed = bytearray(content)
    for _ in range(chance.choice([1, 3, 10, 50])):
        end = len(changed) if chance.random() < 0.5 else min(len(changed), 2000)
        changed[chance.randrange(end)] = chance.choice([0, 255, chance.randrange(256)])
    return bytes(changed)


def _cut_off(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def _cut_out(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    return content[:start] + content[start + chance.randrange(1, 200) :]


def _doubled(content: bytes, chance: random.Random) -> bytes:
    start, length = chance.randrange(len(content)), chance.randrange(1, 5000)
    return content[: start + length] + content[start:]


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (_bytes, _bytes, _cut_off, _cut_out, _doubled)
