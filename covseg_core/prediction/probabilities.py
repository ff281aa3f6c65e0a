"""What models say about a scan before any threshold, on the models' own grids, and read a plane at a time.

Kept as they are, probabilities let a threshold be chosen while one looks at the result. They need not fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from covseg_core.config import PrepareConfig, Target
from covseg_core.data.slices.context import neighbour_step, with_context
from covseg_core.data.slices.intensity import to_uint8
from covseg_core.data.slices.lungs import lung_box, near_lungs
from covseg_core.data.slices.slices import Grid, to_images, to_native
from covseg_core.errors import ScanError
from covseg_core.prediction.engines import Precision
from covseg_core.prediction.inference import Cancel, Segmenter, stop_if
from covseg_core.prediction.model_info import ModelInfo, model_info
from covseg_core.prediction.passport import unusual
from covseg_core.prediction.scan import Scan, training_warning
from covseg_core.prediction.spool import OnDisk
from covseg_core.progress import Progress
from covseg_core.runs import Run

_PLANES = 16
"""Planes dealt with at a time: as float32 on the scan's own grid, all of a 512 x 512 x 600 scan take 630 MB."""

Advance = Callable[[int], None]
"""Called with the number of slices just done."""


@dataclass(frozen=True, eq=False)
class Probabilities:
    """The answer of one model about one scan."""

    model: ModelInfo
    """Which model it was."""
    target: Target
    grid: Grid
    """From the scan's planes to the model's slices."""
    values: np.ndarray | OnDisk
    """(Z, S, S) float32, 0..1, radiological view, as the model gave them."""
    warnings: tuple[str, ...]
    seconds: float
    """What it took to compute them."""
    unusual: tuple[str, ...] = ()
    """In which respects the scan is unlike the model's training data."""
    sides: np.ndarray | None = None
    """Of a lung model that is asked beside others: (Z, Y, X) uint8, which lung each voxel is in."""
    within: str = ""
    """The lung model whose lungs the slices were cut to; empty where all of a slice was looked at."""
    mirror: bool = False
    """Whether mirror images were asked, too."""
    precision: Precision = "float32"
    """In which it was computed."""

    @property
    def beside(self) -> bool:
        """Whether it is of a lung model that was asked beside others."""
        return self.sides is not None

    def plane(self, z: int) -> np.ndarray:
        """(Y, X) float32, RAS+: one plane on the scan's own grid."""
        return to_native(self.values[z : z + 1], self.grid)[0]

    def block(self, part: slice) -> np.ndarray:
        """(n, Y, X) float32, RAS+: some planes on the scan's own grid."""
        return to_native(self.values[part], self.grid)

    def planes(self) -> Iterator[tuple[slice, np.ndarray]]:
        """All planes on the scan's own grid, a few at a time: where they belong, and (n, Y, X) float32, RAS+."""
        for part in parts(len(self.values)):
            yield part, self.block(part)


def parts(planes: int) -> Iterator[slice]:
    """So many planes, a few at a time."""
    for start in range(0, planes, _PLANES):
        yield slice(start, min(start + _PLANES, planes))


def answered(
    scan: Scan,
    run: Run,
    values: np.ndarray | OnDisk,
    seconds: float,
    lungs: np.ndarray | None = None,
    within: str = "",
    mirror: bool = False,
) -> Probabilities:
    """The answer (Z, S, S) float32 of a run's model, with what has to be said about it; `lungs` as for `segment`."""
    config, warnings = run.config, tuple(training_warning(run, scan.sha256))
    odd = tuple(unusual(scan.passport, run))
    grid = grid_of(scan, config.prepare, lungs)
    return Probabilities(
        model_info(run), config.target, grid, values, warnings, seconds, odd, within=within, mirror=mirror
    )


def segment(
    scan: Scan,
    segmenter: Segmenter,
    advance: Advance,
    cancel: Cancel | None = None,
    lungs: np.ndarray | None = None,
    mirror: bool = False,
) -> Iterator[tuple[slice, np.ndarray]]:
    """A model's answer, a few slices at a time: where they belong, and (n, S, S) float32.

    Parameters
    ----------
    advance : called with the number of slices just asked about; with mirror images each counts twice
    lungs : (Z, Y, X), above 0 in the lungs; needed where the model's region is the lungs
    mirror : ask about each slice mirrored left to right, too; the answer is the mean of both

    Raises
    ------
    ScanError : there are no lungs to cut slices to
    """
    prepare, voxels = segmenter.prepare, scan.volume.voxels
    grid = grid_of(scan, prepare, lungs)
    slice_mm = None if scan.voxel_ml is None else scan.volume.spacing[0]
    reach = prepare.context * neighbour_step(slice_mm)
    for part in parts(len(voxels)):
        near = None if grid.box is None or lungs is None else near_lungs(lungs[part], grid)
        count = part.stop - part.start
        if near is None or near.any():
            first, last = max(0, part.start - reach), part.stop + reach
            images = to_images(to_uint8(voxels[first:last], scan.scale, prepare.window), grid)
            shown = with_context(images, slice(part.start - first, part.stop - first), prepare, slice_mm)
            answer = segmenter.probabilities(shown, cancel=cancel, near=near)
            if mirror:
                advance(count)
                flipped = None if near is None else _mirrored(near)
                other = segmenter.probabilities(_mirrored(shown), cancel=cancel, near=flipped)
                answer = (answer + _mirrored(other)) / np.float32(2)
            yield part, answer
        else:
            yield part, np.zeros(near.shape, np.float32)
            if mirror:
                advance(count)
        advance(count)


def _mirrored(slices: np.ndarray) -> np.ndarray:
    """(N, S, S) or (N, S, S, C), left to right."""
    return slices[:, :, ::-1]


def grid_of(scan: Scan, prepare: PrepareConfig, lungs: np.ndarray | None = None) -> Grid:
    """How a scan's planes map to slices that are prepared in this way; `lungs` and errors as for `segment`."""
    shape, spacing = scan.volume.voxels.shape[1:], scan.volume.spacing[1:]
    box = None
    if prepare.region == "lungs":
        box = None if lungs is None else lung_box(lungs, spacing)
        if box is None:
            raise ScanError(scan.volume.path, "no lungs found in it", "lungs, for a model that looks at them alone")
    return Grid(shape, spacing, prepare.size, prepare.resize, box)


def counter(progress: Progress | None, cancel: Cancel | None, total: int) -> Advance:
    """A function to call with the number of slices just done; it tells `progress`, and raises if `cancel` is set."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        stop_if(cancel)
        if progress is not None:
            progress(done, total)

    advance(0)
    return advance


def centred(values: np.ndarray, threshold: float) -> np.ndarray:
    """Probabilities, float32 0..1, stretched so that the threshold comes to 0.5.

    What is below it stays below and what reaches it reaches 0.5, so that models with thresholds of their own can be
    looked at and put together at one.

    >>> centred(np.float32([0, 0.1, 0.2, 0.6, 1]), 0.2)
    array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)
    """
    middle = np.float32(threshold)
    above = np.float32(0.5) + np.float32(0.5) * ((values - middle) / (np.float32(1) - middle))
    return np.where(values < middle, np.float32(0.5) * (values / middle), above)


def mean(answers: Iterable[np.ndarray]) -> np.ndarray:
    """The mean of the models' answers, pixel by pixel.

    Parameters
    ----------
    answers : of each model, all of one shape, float32; taken one at a time

    Returns
    -------
    float32 of the same shape. Summed in float64, so that the order of the models changes nothing

    >>> mean([np.float32([0.1, 0.9]), np.float32([0.4, 0.6])])
    array([0.25, 0.75], dtype=float32)
    """
    given = iter(answers)
    total, count = next(given).astype(np.float64), 1
    for answer in given:
        total += answer
        count += 1
    return (total / count).astype(np.float32)


def consensus(answers: Sequence[np.ndarray]) -> np.ndarray:
    """The probability that more than half of the models reach, pixel by pixel.

    A threshold turns it into the vote's mask: the median of an odd number of models, the lower of two.

    Parameters
    ----------
    answers : a plane of each model, all (Y, X) float32

    >>> consensus([np.array([0.1, 0.9]), np.array([0.4, 0.6])])
    array([0.1, 0.6])
    """
    return ranked(answers, len(answers) // 2)


def ranked(answers: Sequence[np.ndarray], rank: int) -> np.ndarray:
    """Pixel by pixel the largest answer at rank 0, the second at rank 1, and so on."""
    if len(answers) == 1:
        return answers[0]
    if len(answers) == 2:
        return np.minimum(*answers) if rank else np.maximum(*answers)
    return np.sort(np.stack(answers), axis=0)[len(answers) - 1 - rank]
