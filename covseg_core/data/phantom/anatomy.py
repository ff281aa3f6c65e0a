"""An invented patient for `phantom.py`: where lungs, heart, bones, vessels and lesions are, as functions of position.

Positions are in mm: x to the patient's right, y anterior, z superior, with z = 0 at the lung's lowest point. Sizes are
those of adults, rounded; nothing here is measured on anyone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Lesion:
    """An ellipsoid with a soft and uneven edge."""

    centre: Array
    radii: Array
    hu: float
    edge: float
    """Width of the edge, as a share of the radius."""


@dataclass(frozen=True, eq=False)
class Patient:
    """Shape and state of one invented patient; see `draw_patient`."""

    height: float
    """From the lowest to the highest point of the lungs."""
    width: float
    depth: float
    """Relative to an average chest."""
    fat: float
    heart: float
    domes: tuple[float, float]
    """Height of the diaphragm over the lung's lowest point, right and left."""
    lung_hu: float
    """Inflation: -880 deep inspiration, -790 shallow."""
    haze: float
    """HU that motion and gravity add to lung that is healthy."""
    rib_phase: float

    def cage(self, z: Array | float) -> tuple[Array, Array]:
        """Half width and half depth of the chest cavity."""
        up = np.clip(z / self.height, 0, 1)
        half_width = 126 * self.width * (1 - np.clip((up - 0.25) / 0.75, 0, 1) ** 2.3) ** 0.55
        half_depth = 90 * self.depth * (1 - np.clip((up - 0.35) / 0.65, 0, 1) ** 2.5) ** 0.5
        return half_width + 1e-3, half_depth + 1e-3

    def depth_in_chest(self, x: Array, y: Array, z: Array | float) -> Array:
        """0 on the axis of the chest, 1 at its wall, more outside."""
        half_width, half_depth = self.cage(z)
        return ((np.abs(x) / half_width) ** 2.4 + (np.abs(y) / half_depth) ** 2.4) ** (1 / 2.4)

    def diaphragm(self, x: Array, y: Array) -> Array:
        """Height of the diaphragm."""
        dome = np.where(x > 0, *self.domes)
        return dome * (1 - ((np.abs(x) - 58) / 95) ** 2 - ((y - 12) / 100) ** 2)

    def mediastinum(self, x: Array, y: Array, z: Array | float) -> Array:
        """Whether a position is between the lungs: heart, great vessels, spine, the fat around them."""
        up = z / self.height
        waist = 25 + 9 * np.exp(-(((up - 0.52) / 0.12) ** 2)) - 9 * np.clip(y / 60, 0, 1) * (up > 0.5)
        column = (np.abs(x + 2) < waist * np.sqrt(np.clip(1 - ((y - 8) / 92) ** 2, 0, 1))) & (y > -60)
        return column | self.in_heart(x, y, z) | self.in_aorta(x, y, z) | (_ellipse(x, y, 0, -72, 24, 30) < 1)

    def in_heart(self, x: Array, y: Array, z: Array | float) -> Array:
        """Whether a position is in the heart."""
        turned = (x + 24) * 0.85 - (y - 24) * 0.5, (x + 24) * 0.5 + (y - 24) * 0.85
        flat = _ellipse(turned[0], turned[1], 0, 0, 62 * self.heart, 45 * self.heart)
        return flat + ((z - 0.3 * self.height) / 62) ** 2 < 1

    def in_aorta(self, x: Array, y: Array, z: Array | float) -> Array:
        """Whether a position is in the aorta: up on the right, the arch, down on the left of the spine."""
        up = z / self.height
        descending = (_ellipse(x, y, -24, -52, 12, 12) < 1) & (up < 0.72)
        ascending = (_ellipse(x, y, 13, 18, 15, 15) < 1) & (up > 0.45) & (up < 0.72)
        along = np.clip((y + 52) / 70, 0, 1)
        arch = (np.abs(x + 24 - 37 * along) < 13) & (y > -62) & (y < 30) & (np.abs(up - 0.71) < 0.045)
        return descending | ascending | arch

    def in_airway(self, x: Array, y: Array, z: Array | float) -> Array:
        """Whether a position is in the trachea or a main bronchus."""
        carina = 0.6 * self.height
        trachea = (_ellipse(x, y, 2, -14, 9, 8) < 1) & (z >= carina)
        drop = np.clip((carina - z) / 28, 0, 1)
        bronchi = (_ellipse(np.abs(x), y, 6 + 30 * drop, -14, 8, 6) < 1) & (z < carina) & (z > carina - 28)
        return trachea | bronchi

    def in_lung(self, x: Array, y: Array, z: Array | float) -> Array:
        """Whether a position is in a lung, lesions and vessels included."""
        inside = (self.depth_in_chest(x, y, z) < 1) & (z > self.diaphragm(x, y)) & (z > 0) & (z < self.height)
        return inside & ~self.mediastinum(x, y, z)


class Texture:
    """Smooth random field of about `mm` grain, mean 0, standard deviation 0.6: cubic B-splines on a lattice."""

    def __init__(self, random: np.random.Generator, mm: float) -> None:
        self.mm = mm
        self.lattice = random.normal(0, 1.75, [int(460 / mm) + 4] * 3)

    def __call__(self, axis: Array, z: float) -> Array:
        """Values at `axis` x `axis` [mm from the centre of the scan] and z, (Y, X)."""
        planes, weights = self._taps(np.array([z + 30.0]))
        plane = (weights[0, :, None, None] * self.lattice[planes[0]]).sum(0)
        points, weights = self._taps(axis + 230)
        rows = (weights[:, :, None] * plane[points]).sum(1)
        return (rows[:, points] * weights).sum(2)

    def _taps(self, mm: Array) -> tuple[Array, Array]:
        """The four lattice points that count at each position, and their weights; each (n, 4)."""
        position = mm[:, None] / self.mm + 1
        points = np.floor(position).astype(int) + np.arange(-1, 3)
        distance = np.abs(position - points)
        near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance) ** 3 / 6
        return points, np.where(distance < 1, near, far)


def draw_patient(random: np.random.Generator) -> Patient:
    """An adult of random build."""
    dome = random.uniform(55, 85)
    return Patient(
        height=random.uniform(225, 275),
        width=random.uniform(0.9, 1.1),
        depth=random.uniform(0.9, 1.12),
        fat=random.uniform(4, 22),
        heart=random.uniform(0.9, 1.12),
        domes=(dome, dome - random.uniform(5, 20)),
        lung_hu=random.uniform(-880, -800),
        haze=random.uniform(20, 110),
        rib_phase=random.uniform(0, 26),
    )


def draw_vessels(patient: Patient, random: np.random.Generator, tips: int = 420) -> Array:
    """Pulmonary vessels as a tree for each lung.

    Each tip is joined to the nearest point of the tree so far, from the hilum outwards; a branch is as thick as the
    tips it feeds demand (Murray's law: the cube of the radius adds up).

    Returns
    -------
    branches : (B, 7) float64 [mm]; start x y z, end x y z, radius
    """
    branches = []
    for side in (1, -1):
        points = draw_lung_points(patient, random, 6 * tips)
        points = points[(np.sign(points[:, 0]) == side) & (patient.depth_in_chest(*points.T) < 0.94)][:tips]
        hilum = np.array([side * 34.0, -10.0, 0.52 * patient.height])
        nodes = np.vstack([hilum, points[np.argsort(np.linalg.norm(points - hilum, axis=1))]])
        reach = np.linalg.norm(nodes - hilum, axis=1)
        parent = np.zeros(len(nodes), int)
        for node in range(1, len(nodes)):
            cost = np.linalg.norm(nodes[:node] - nodes[node], axis=1) + 0.25 * reach[:node]
            parent[node] = np.argmin(cost)
        fed = np.ones(len(nodes))
        for node in range(len(nodes) - 1, 0, -1):
            fed[parent[node]] += fed[node]
        radius = np.minimum(0.95 * np.cbrt(fed), 7)
        branches.append(np.column_stack([nodes[parent], nodes, radius])[1:])
    return np.vstack(branches)


def draw_lesions(patient: Patient, random: np.random.Generator) -> tuple[Lesion, ...]:
    """Ground glass, mostly near the pleura, low and at the back; a third of the lesions have a consolidated core."""
    points = draw_lung_points(patient, random, 4000)
    outward = patient.depth_in_chest(*points.T)
    weight = np.exp(5 * outward - points[:, 1] / 45 - 1.5 * points[:, 2] / patient.height)
    count = int(random.integers(3, 15))
    size = random.uniform(0.7, 1.6)
    density = random.uniform(-640, -440)
    lesions = []
    for centre in points[random.choice(len(points), count, replace=False, p=weight / weight.sum())]:
        radii = size * random.uniform(9, 30) * random.uniform([0.7, 0.7, 0.9], [1.4, 1.4, 1.6])
        hu = float(np.clip(density + random.normal(0, 60), -690, -310))
        lesions.append(Lesion(centre, radii, hu, random.uniform(0.1, 0.3)))
        if random.random() < 0.35:
            core = centre + random.normal(0, 0.15, 3) * radii
            lesions.append(Lesion(core, 0.55 * radii, random.uniform(-90, 40), random.uniform(0.12, 0.25)))
    return tuple(lesions)


def draw_lung_points(patient: Patient, random: np.random.Generator, count: int) -> Array:
    """Up to `count` positions in the lungs, (n, 3) float64 [mm], evenly spread."""
    low, high = np.array([-140, -105, 0]), np.array([140, 105, patient.height])
    points = random.uniform(low, high, (5 * count, 3))
    return points[patient.in_lung(*points.T)][:count]


def _ellipse(x: Array, y: Array, x0: Array | float, y0: float, half_width: float, half_depth: float) -> Array:
    """Below 1 inside."""
    return ((x - x0) / half_width) ** 2 + ((y - y0) / half_depth) ** 2
