"""What can be had without learning anything: the scores that a model has to beat, in every table.

The limits are fixed in advance, from the literature, and never fitted to the data that are evaluated.
"""

from __future__ import annotations

import numpy as np

from covseg_core.config import Target
from covseg_core.data.classical_lungs import lung_mask
from covseg_core.data.slices.intensity import Scale

OPACITY = {"HU": (-700.0, 50.0), "0-255": (93.5, 221.0)}
"""Ground glass and consolidation: denser than well-aerated lung (-950..-700 HU, Colombi et al., Radiology 2020), up to
enhanced tissue. The grey values are the same limits in the window -1250..250 HU."""

DESCRIPTIONS: dict[str, str] = {
    "background": "nothing anywhere",
    "lung": "all of the lung",
    "threshold": "-700 to 50 HU in the lung",
    "classical": "lung mask by threshold and closing",
}
"""Every baseline; see `baselines` for which apply."""


def baselines(volume: np.ndarray, scale: Scale, lung: np.ndarray | None, target: Target) -> dict[str, np.ndarray]:
    """The trivial predictions for a scan, on its own grid.

    For the target `infection`: `background`, `lung`, `threshold`. For the target `lung`, where the lung mask is the
    answer: `background`, `classical`.

    Parameters
    ----------
    volume : (Z, Y, X) [HU] or 0..255
    scale : which of the two
    lung : (Z, Y, X) 0/1, drawn by people, or None to find them by `classical_lungs`; not used for target `lung`
    target : what is segmented

    Returns
    -------
    masks : name, as in `DESCRIPTIONS` -> (Z, Y, X) uint8, 0 and 1
    """
    background = np.zeros(volume.shape, np.uint8)
    if target == "lung":
        return {"background": background, "classical": lung_mask(volume, scale)}
    if lung is None:
        lung = lung_mask(volume, scale)
    lung = (lung > 0).astype(np.uint8)
    low, high = OPACITY[scale]
    return {"background": background, "lung": lung, "threshold": lung & (volume >= low) & (volume <= high)}
