"""The slices on the page of a prediction: picture, outlines, sides and a scale bar."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from covseg_core.prediction.output.report import Report
from covseg_core.rendering import PREDICTED, TRUE_POSITIVE, encode, fit, fit_mask, fitted_shape, grey

_BARS = (200, 100, 50, 20, 10)
"""Lengths of the scale bar [mm]: the longest below a third of the picture's width."""


def make_slice(report: Report, voxels: np.ndarray, mask: np.ndarray, sides: np.ndarray | None, z: int) -> str:
    """HTML of slice z, in radiological view: a figure with its caption.

    Parameters
    ----------
    voxels, mask, sides : as for `make_sheet`
    """
    spacing = (report.scan.spacing_mm[1], report.scan.spacing_mm[2])
    picture = fit(grey(voxels[z][::-1, ::-1], report.scan.scale, "lung"), spacing)
    picture = np.ascontiguousarray(np.repeat(picture[..., np.newaxis], 3, axis=2))
    if sides is not None:
        _outline(picture, sides[z] > 0, spacing, TRUE_POSITIVE)
    _outline(picture, mask[z] > 0, spacing, PREDICTED)
    image = base64.b64encode(encode(picture)).decode()
    area = int(np.count_nonzero(mask[z]))
    known = report.scan.voxel_ml is not None
    pixel = spacing[0] * spacing[1] / 100
    size = f"{area * pixel:.1f} cm&sup2;" if known else f"{area:,} pixels"
    caption = f"Slice {z + 1} of {len(mask)}, {size} {'infected' if report.target == 'infection' else 'lung'}"
    marks = "<span class=right>R</span><span class=left>L</span><span class=front>A</span>"
    if known:
        marks += _bar(mask.shape[2] * spacing[1])
    return (
        f'<figure><div class=picture><img alt="{caption}" src="data:image/jpeg;base64,{image}">{marks}</div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _outline(picture: np.ndarray, mask: np.ndarray, spacing: tuple[float, float], colour: tuple[int, int, int]) -> None:
    """Draw the rim of a mask (Y, X) bool, RAS+, onto its picture in radiological view, in place."""
    assert picture.shape[:2] == fitted_shape(mask.shape, spacing)
    fitted = np.ascontiguousarray(fit_mask(mask[::-1, ::-1], spacing)).astype(np.uint8)
    contours, _ = cv2.findContours(fitted, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, max(1, round(max(picture.shape) / 256)))


def _bar(width: float) -> str:
    """A scale bar for a picture that is so wide [mm]."""
    fitting = [length for length in _BARS if length <= width / 3]
    if not fitting:
        return ""
    return f"<span class=bar style='width:{100 * fitting[0] / width:.2f}%'>{fitting[0]} mm</span>"
