"""A single slice as PNG or JPG: grey levels without scale, spacing or position."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from covseg_core.data.reading.quiet import quiet
from covseg_core.data.reading.volumes import Geometry, Volume, check_plausible, make_volume
from covseg_core.errors import ScanError

MAX_PIXELS = 2**24
"""Most pixels of a picture: 4096 x 4096. A small file can promise many more."""
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_MOST_COLOURED = 0.005
"""Largest share of coloured pixels: a mark or two, but no contour drawn around a lesion."""
_COLOURED = 24
"""Difference of the channels from which a pixel is coloured; JPEG tints grey ones a little."""
_AXES = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Columns run to the patient's left and rows to the back, as radiologists look at slices; 1 mm stands for unknown."""


def is_picture(start: bytes) -> bool:
    """Whether a file that starts like this is PNG or JPEG."""
    return start.startswith(_MAGIC)


def load_picture(path: Path) -> tuple[Volume, tuple[str, ...]]:
    """Read a picture as a scan of one slice.

    Returns
    -------
    volume : uint8, or int32 if it has more than 8 bits; (1, Y, X), of unknown spacing
    warnings : one line each

    Raises
    ------
    ScanError : damaged, too large, in colours or transparent; as `volumes.check_plausible`
    """
    grey, coloured = _read(path)
    rows, columns = grey.shape
    voxels = np.ascontiguousarray(grey[None, ::-1, ::-1])
    volume = make_volume(voxels, Geometry((columns, rows, 1), _AXES, None), path)
    check_plausible(volume)
    notes = ["a picture has no scale, size or position: no mL, and it is taken as the patient seen from the feet"]
    if path.read_bytes()[:3] == _MAGIC[1]:
        notes.append("JPEG changes grey levels: use the original if there is one")
    if coloured:
        notes.append(f"{100 * coloured:.2g} % of the pixels are coloured, and were taken as grey")
    return volume, tuple(notes)


def _read(path: Path) -> tuple[np.ndarray, float]:
    """Grey levels (rows, columns), and the share of coloured pixels."""
    from PIL import Image

    try:
        with quiet(), Image.open(path, formats=["PNG", "JPEG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ScanError(path, f"{image.width} x {image.height} pixels", f"at most {MAX_PIXELS:,} pixels")
            if image.mode.startswith("I"):
                return np.asarray(image, np.int32), 0.0
            if image.mode == "L" and "transparency" not in image.info:
                return np.asarray(image), 0.0
            if "A" in image.getbands() or "transparency" in image.info:
                opaque = np.asarray(image.convert("RGBA"))[..., 3].min() == 255
                if not opaque:
                    raise ScanError(path, "a picture with transparent parts", "a grey picture of a slice")
            colours = np.asarray(image.convert("RGB"))
            grey = np.asarray(image.convert("L"))
    except ScanError:
        raise
    except Exception as error:  # Pillow raises whatever its decoders meet
        raise ScanError(path, f"a damaged picture ({type(error).__name__})", "a complete PNG or JPG") from None
    share = float(np.mean(np.ptp(colours, axis=2) > _COLOURED))
    if share > _MOST_COLOURED:
        raise ScanError(path, f"a picture in colours ({100 * share:.0f} % of it)", "a grey picture of a slice")
    return grey, share
