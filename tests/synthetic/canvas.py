"""What a viewer's canvas shows."""

from __future__ import annotations

import cv2
import numpy as np
from playwright.sync_api import Locator


def picture(viewer: Locator) -> np.ndarray:
    """What the canvas shows."""
    viewer.page.wait_for_timeout(400)
    image = cv2.imdecode(np.frombuffer(viewer.locator("canvas").screenshot(), np.uint8), cv2.IMREAD_COLOR)
    return image[..., ::-1].astype(int)


def coloured(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Pixels that lean towards a colour: it lies over grey, half of it."""
    grey = image.mean(axis=-1, keepdims=True)
    wanted = np.array(colour) - np.mean(colour)
    lean = ((image - grey) * wanted).sum(axis=-1) / np.linalg.norm(wanted) ** 2
    rest = np.linalg.norm(image - grey - lean[..., np.newaxis] * wanted, axis=-1)
    return int(((lean > 0.3) & (rest < 25)).sum())
