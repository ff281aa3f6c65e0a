"""What a scan is, before any model is asked, and in which respects it is unlike what a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import nibabel as nib
import numpy as np

from covseg_core.config import PrepareConfig
from covseg_core.data.classical_lungs import lung_shares
from covseg_core.data.reading.volumes import PLACEHOLDER_SPACING, Volume
from covseg_core.data.slices.appearance import LOOKED_AT, Appearance, look_at
from covseg_core.data.slices.intensity import Scale, to_uint8
from covseg_core.data.slices.slices import Grid, to_images
from covseg_core.runs import Run
from covseg_core.runs.training_data import Range, TrainingData, read_training_data

Kind = Literal["nifti", "dicom", "picture"]
"""Of files that a scan can come in."""

_PREPARE = PrepareConfig()
"""Scans are looked at as most models see them, so that one passport serves all."""
_CUT_OFF = 0.04
"""Share of the body that is lung on the first or last slice, from which the lungs go on beyond it: bases and apices
are smaller."""
_GREY_MARGIN = 12
"""Grey values a peak may lie beyond those of all training scans: 70 HU, about what scanners and kernels differ by."""
_SIZE_MARGIN = 1.25
"""Factor by which a spacing may lie beyond those of all training scans."""
_SHARE_MARGIN = 0.1
"""How far a share of the picture may lie beyond those of all training scans."""


@dataclass(frozen=True)
class Passport:
    """What a scan is. Nothing in it tells whose it is."""

    kind: Kind
    orientation: str
    """Of the stored axes, e.g. `LPS`."""
    plane: Literal["axial", "coronal", "sagittal", "oblique"]
    """In which the slices were stored; the core looks at axial ones."""
    matrix: tuple[int, int, int]
    """Columns, rows and slices of the axial view."""
    spacing_mm: tuple[float, float, float] | None
    """Between columns, rows and slices; None where it is not known, as for `extent_mm`."""
    extent_mm: tuple[float, float, float] | None
    """From side to side, front to back, bottom to top."""
    scale: Scale
    interpolated: int
    """Slices that are not in the files but made from their neighbours."""
    lung_slices: int
    """Slices with a noticeable area of aerated lung, of those looked at and in proportion."""
    begins_in_lung: bool
    """Whether the lowest slice shows lung, so that there may be more below."""
    ends_in_lung: bool
    """The same for the highest slice."""
    appearance: Appearance

    @property
    def notes(self) -> tuple[str, ...]:
        """What to bear in mind whatever the model, one line each."""
        ends = [name for name, cut in (("lowest", self.begins_in_lung), ("highest", self.ends_in_lung)) if cut]
        if not ends:
            return ()
        which = f"the {ends[0]} slice shows" if len(ends) == 1 else "the lowest and the highest slice show"
        return (f"{which} lung: the lungs may go on beyond the scan, and volumes are of what is in it",)


def make_passport(volume: Volume, scale: Scale, kind: Kind = "nifti", interpolated: int = 0) -> Passport:
    """Look at a scan; at most `LOOKED_AT` slices are prepared, whatever its size. `Scan.passport` does it once."""
    z, y, x = volume.voxels.shape
    known = volume.spacing != PLACEHOLDER_SPACING
    grid = Grid((y, x), volume.spacing[1:], _PREPARE.size, _PREPARE.resize)
    spacing = (volume.spacing[2], volume.spacing[1], volume.spacing[0])
    shares = lung_shares(volume.voxels, scale)
    places = np.unique(np.linspace(0, z - 1, min(z, LOOKED_AT)).round().astype(int))
    planes = to_uint8(volume.voxels[places], scale, _PREPARE.window)
    looked = np.unique(np.linspace(0, z - 1, 64).round().astype(int))  # as lung_shares does
    return Passport(
        kind=kind,
        orientation=volume.geometry.orientation,
        plane=_plane(volume.geometry.affine),
        matrix=(x, y, z),
        spacing_mm=spacing if known else None,
        extent_mm=(x * spacing[0], y * spacing[1], z * spacing[2]) if known else None,
        scale=scale,
        interpolated=interpolated,
        lung_slices=round(float(np.mean(shares[looked] > _CUT_OFF)) * z),
        begins_in_lung=bool(shares[0] > _CUT_OFF),
        ends_in_lung=bool(shares[-1] > _CUT_OFF),
        appearance=look_at(to_images(planes, grid)),
    )


def unusual(passport: Passport, run: Run) -> list[str]:
    """In which respects a scan is unlike the scans that a model was trained on, one plain line each.

    An empty list means that nothing was found, or that the run's folder does not say what it was trained on. The field
    of view is nothing to a model that looks at the lungs alone.
    """
    data = read_training_data(run)
    if data is None:
        return []
    config = run.config
    same_grey = config.prepare.window == _PREPARE.window
    found = [*_scale(passport, data), *_spacing(passport, data), *_matrix(passport, data)]
    if same_grey:
        found += _greys(passport, data)
    if config.prepare.region == "slice":
        found += _field_of_view(passport, data)
    return found


def unlike(findings: Mapping[str, Sequence[str]]) -> list[str]:
    """Lines of `unusual` by run id as warnings, each once, with the models that it concerns."""
    concerned: dict[str, list[str]] = {}
    for run, lines in findings.items():
        for line in lines:
            concerned.setdefault(line, []).append(run)
    return [f"unlike the training data of {' and '.join(runs)}: {line}" for line, runs in concerned.items()]


def _plane(affine: np.ndarray) -> Literal["axial", "coronal", "sagittal", "oblique"]:
    """Of the first two stored axes."""
    axes = affine[:3, :3] / nib.affines.voxel_sizes(affine)
    normal = np.abs(np.cross(axes[:, 0], axes[:, 1]))
    if normal.max() < 0.9:  # more than 25 degrees off
        return "oblique"
    names: tuple[Literal["sagittal", "coronal", "axial"], ...] = ("sagittal", "coronal", "axial")
    return names[int(normal.argmax())]


def _scale(passport: Passport, data: TrainingData) -> list[str]:
    if passport.scale in data.scales:
        return []
    return [f"its values are {passport.scale}, all training scans are {' and '.join(data.scales)}"]


def _spacing(passport: Passport, data: TrainingData) -> list[str]:
    if passport.spacing_mm is None:
        return []
    found = []
    x, _, z = passport.spacing_mm
    for what, size, known in (("slices", z, data.slice_mm), ("pixels", x, data.pixel_mm)):
        if known and not known.low / _SIZE_MARGIN <= size <= known.high * _SIZE_MARGIN:
            found.append(f"{what} {size:.3g} mm apart, in training {_span(known, '.3g')} mm")
    return found


def _matrix(passport: Passport, data: TrainingData) -> list[str]:
    rows = min(passport.matrix[:2])
    if rows >= 0.5 * data.rows.low:
        return []
    return [
        f"slices of {passport.matrix[0]} x {rows} pixels, coarser than in training ({_span(data.rows, '.0f')} rows)"
    ]


def _greys(passport: Passport, data: TrainingData) -> list[str]:
    look = passport.appearance
    found = []
    for what, grey, known in (
        ("lungs", look.lung_grey, data.lung_grey),
        ("tissue", look.tissue_grey, data.tissue_grey),
    ):
        if grey is None or known is None or known.low - _GREY_MARGIN <= grey <= known.high + _GREY_MARGIN:
            continue
        how = "darker" if grey < known.low else "brighter"
        found.append(
            f"{what} {how} than in any training scan (grey value {grey:.0f}, in training {_span(known, '.0f')})"
        )
    return found


def _field_of_view(passport: Passport, data: TrainingData) -> list[str]:
    share, known = passport.appearance.body_share, data.body_share
    if share < known.low - _SHARE_MARGIN:
        return [f"the body fills {share:.0%} of the picture, in training {_span(known, '.0%')}: a larger field of view"]
    if share > known.high + _SHARE_MARGIN:
        return [f"the body fills {share:.0%} of the picture, in training {_span(known, '.0%')}: cropped more closely"]
    return []


def _span(known: Range, form: str) -> str:
    low, high = format(known.low, form), format(known.high, form)
    return low if low == high else f"{low} to {high}"
