"""Synthetic chest CT with lesions and their masks: something to try the tool on, offline and free of any licence.

The scans are drawn, not simulated. They hold what a U-Net has to tell apart: soft-edged ground glass and consolidation
against vessels, fissures, haze from motion and gravity, chest wall. Scores on them say nothing about patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from covseg_core.data.phantom.anatomy import Lesion, Patient, Texture, draw_lesions, draw_patient, draw_vessels

Array = np.ndarray

AIR, FAT, MUSCLE, BLOOD, LIVER = -1000, -100, 50, 45, 60


@dataclass(frozen=True, eq=False)
class Phantom:
    """A drawn scan.

    Attributes
    ----------
    ct : (Z, Y, X) int16 [HU]; axes run superior, anterior, right
    infection, lung : (Z, Y, X) uint8, 0 and 1; the lung includes its lesions and vessels
    spacing : z, y, x [mm]
    """

    ct: Array
    infection: Array
    lung: Array
    spacing: tuple[float, float, float]


def make_phantom(seed: int, size: int = 128, slices: int = 24, lesions: bool = True) -> Phantom:
    """Draw a patient and scan them; the same arguments give the same scan.

    Parameters
    ----------
    seed : which patient
    size : rows and columns
    slices : from below the lungs to above them
    lesions : False for the same patient without infection

    >>> make_phantom(seed=1, size=64, slices=8).ct.shape
    (8, 64, 64)
    """
    random, lesion_random = np.random.default_rng(seed).spawn(2)
    patient = draw_patient(random)
    scene = _Scene(patient, draw_lesions(patient, lesion_random) if lesions else (), random)
    spacing = (patient.height + 40) / slices, scene.view / size, scene.view / size
    vessels = scene.vessels(draw_vessels(patient, random), size, spacing)

    ct = np.empty((slices, size, size), np.int16)
    infection, lung = np.zeros_like(ct, np.uint8), np.zeros_like(ct, np.uint8)
    for k in range(slices):
        z = -25 + (k + 0.5) * spacing[0]
        hu, lung[k], infection[k] = scene.plane(z, size, vessels[k])
        ct[k] = scene.detect(hu, random)
    return Phantom(ct, infection, lung, spacing)


def write_sample(folder: Path, scans: int = 6, size: int = 128, seed: int = 0, slices: int = 24) -> list[Path]:
    """Write phantoms as NIfTI, one folder a case; the second case has no lesion.

    Files are in LPS or LAS order, as scanners and public data sets have them.

    Returns
    -------
    cases : `<folder>/phantom_001` and so on, each with `ct.nii.gz`, `infection_mask.nii.gz` and `lung_mask.nii.gz`
    """
    import nibabel as nib

    cases = []
    for number in range(scans):
        phantom = make_phantom(seed * 1000 + number, size, slices, lesions=number != 1)
        case = Path(folder) / f"phantom_{number + 1:03d}"
        case.mkdir(parents=True, exist_ok=True)
        z, y, x = phantom.spacing
        flip_y = number % 3 != 2
        affine = np.diag([-x, -y if flip_y else y, z, 1])
        affine[:3, 3] = x * (size - 1) / 2, (y if flip_y else -y) * (size - 1) / 2, -z * slices
        for name, voxels in (("ct", phantom.ct), ("infection_mask", phantom.infection), ("lung_mask", phantom.lung)):
            stored = voxels.transpose(2, 1, 0)[::-1, :: -1 if flip_y else 1]
            image = nib.Nifti1Image(stored, affine)
            image.header.set_xyzt_units("mm")
            image.set_qform(affine, 1)
            image.set_sform(affine, 1)
            nib.save(image, case / f"{name}.nii.gz")
        cases.append(case)
    return cases


class _Scene:
    """A patient on the table, with what differs from scan to scan: pose, field of view, texture, noise."""

    def __init__(self, patient: Patient, lesions: tuple[Lesion, ...], random: np.random.Generator) -> None:
        self.patient = patient
        self.lesions = lesions
        self.view = random.uniform(350, 430)
        self.shift = random.uniform(-14, 14, 2)
        self.angle = np.deg2rad(random.uniform(-7, 7))
        self.sharpness = random.uniform(0.45, 0.75)
        self.noise = random.uniform(12, 32)
        self.coarse = Texture(random, 22)
        self.fine = Texture(random, 6)
        self.fissures = random.uniform([0.42, -0.62], [0.52, -0.45], (2, 2))

    def plane(self, z: float, size: int, vessels: Array) -> tuple[Array, Array, Array]:
        """One axial plane: HU before the scanner's blur and noise, lung, infection; each (Y, X)."""
        patient = self.patient
        axis = (np.arange(size) + 0.5 - size / 2) * (self.view / size)
        x, y = self._rotate(axis[None, :] - self.shift[0], axis[:, None] - self.shift[1], self.angle)
        coarse, fine = self.coarse(axis, z), self.fine(axis, z)
        hu = self._table(y, x)
        hu = self._wall(hu, x, y, z, coarse)
        inside = patient.depth_in_chest(x, y, z) < 1
        hu = np.where(inside, np.where(z > patient.diaphragm(x, y), FAT + 15 * fine, self._abdomen(x, y, z)), hu)
        hu = np.where(inside & patient.in_heart(x, y, z) & (z > 0), BLOOD, hu)
        hu = np.where(patient.in_aorta(x, y, z), BLOOD + 5, hu)
        hu = self._spine(hu, x, y, z)
        lung = patient.in_lung(x, y, z)
        healthy = self._lung(x, y, z, coarse, fine)
        state, infected = self._infect(healthy, x, y, z, coarse, fine)
        hu = np.where(lung, state + vessels * (BLOOD - state), hu)
        airway = patient.in_airway(x, y, z)
        hu = np.where(airway, AIR, hu)
        lung &= ~airway
        return hu, lung, lung & infected

    def vessels(self, branches: Array, size: int, spacing: tuple[float, float, float]) -> Array:
        """Share of each voxel that is vessel, (Z, Y, X) float32: points are strewn in the branches and counted."""
        slices = round((self.patient.height + 40) / spacing[0])
        random = np.random.default_rng(len(branches))
        start, along, radius = branches[:, :3], branches[:, 3:6] - branches[:, :3], branches[:, 6]
        volume = np.pi * radius**2 * np.linalg.norm(along, axis=1)
        grain = max(np.prod(spacing) / 25, volume.sum() / 2e6)
        which = np.repeat(np.arange(len(branches)), np.ceil(volume / grain).astype(int))
        position, bend = random.random((len(which), 1)), random.normal(0, 0.07, start.shape)
        points = start[which] + position * along[which]
        points += (np.sin(np.pi * position) * bend[which]) * np.linalg.norm(along[which], axis=1, keepdims=True)
        offset = random.normal(size=points.shape)
        offset *= (radius[which] * np.cbrt(random.random(len(which))) / np.linalg.norm(offset, axis=1))[:, None]
        points += offset
        back = self._rotate(points[:, 0], points[:, 1], -self.angle)
        i = np.floor((back[0] + self.shift[0]) / spacing[2] + size / 2).astype(int)
        j = np.floor((back[1] + self.shift[1]) / spacing[1] + size / 2).astype(int)
        k = np.floor((points[:, 2] + 25) / spacing[0]).astype(int)
        seen = (i >= 0) & (i < size) & (j >= 0) & (j < size) & (k >= 0) & (k < slices)
        flat = np.ravel_multi_index((k[seen], j[seen], i[seen]), (slices, size, size))
        count = np.bincount(flat, minlength=slices * size * size).reshape(slices, size, size)
        return np.minimum(count * (grain / np.prod(spacing)), 1).astype(np.float32)

    def detect(self, hu: Array, random: np.random.Generator) -> Array:
        """The scanner: blur, correlated noise, whole HU, nothing below -1024."""
        from scipy.ndimage import gaussian_filter

        noise = gaussian_filter(random.normal(0, 1, hu.shape), 0.6) * 2.2 * self.noise
        return np.clip(np.rint(gaussian_filter(hu, self.sharpness) + noise), -1024, 3071).astype(np.int16)

    @staticmethod
    def _rotate(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
        return x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)

    def _table(self, y: Array, x: Array) -> Array:
        depth = y + 90 * self.patient.depth + 34 + self.patient.fat - (x / 42) ** 2
        return np.where(np.abs(depth + 9) < 2.5, -150, np.where((depth < -9) & (depth > -32), -930, AIR))

    def _wall(self, hu: Array, x: Array, y: Array, z: float, coarse: Array) -> Array:
        """Skin, fat, muscle, shoulder blades, ribs, breastbone."""
        patient = self.patient
        half_width, half_depth = (
            np.maximum(half, least) for half, least in zip(patient.cage(z), (88, 66), strict=True)
        )

        def ring(thick: Array | float, bulge: float = 0) -> Array:
            wide, deep = half_width + thick + bulge, half_depth + thick
            return ((np.abs(x) / wide) ** 2.5 + (np.abs(y) / deep) ** 2.5) ** (1 / 2.5)

        up = z / patient.height
        bulge = 22 * np.clip(up - 0.3, 0, 0.5)
        hu = np.where(
            ring(26 + patient.fat, bulge) < 1, np.where(ring(23.5 + patient.fat, bulge) < 1, FAT + 8 * coarse, 20), hu
        )
        hu = np.where(ring(21 + 3 * coarse, bulge) < 1, MUSCLE, hu)
        hu = np.where((ring(15) < 1) & (ring(12) > 1) & (coarse > -0.2), FAT, hu)
        angle = np.arctan2(np.abs(x), -y)
        phase = np.mod(z + 42 * angle + patient.rib_phase, 26)
        rib = (ring(10) < 1) & (ring(2) > 1) & (phase < 12) & (angle > 0.25)
        marrow = (ring(8) < 1) & (ring(4) > 1) & (phase > 3) & (phase < 9)
        hu = np.where(rib, np.where(angle > 2.45, 120, np.where(marrow, 220, 620)), hu)
        blade = (np.abs(np.abs(x) * 0.75 + y * 0.66 - 28) < 34) & (
            np.abs(np.abs(x) * 0.66 - y * 0.75 - half_width * 1.17) < 4
        )
        hu = np.where(blade & (up > 0.5) & (ring(24, bulge) < 1) & (ring(11) > 1), 380, hu)
        breastbone = ((x / 17) ** 2 + ((y - half_depth - 7) / 6) ** 2 < 1) & (up > 0.3)
        return np.where(breastbone, 230, hu)

    def _spine(self, hu: Array, x: Array, y: Array, z: float) -> Array:
        """Vertebral body with its canal and arch; discs between the bodies."""
        rear = -68
        body = (x / 18) ** 2 + ((y - rear) / 15) ** 2
        bone = 190 if np.mod(z + self.patient.rib_phase, 26) > 6 else 90
        arch = (np.abs(x) < 5) & (y < rear - 25) & (y > rear - 48) | (np.abs(y - rear + 21) < 4) & (np.abs(x) < 27)
        hu = np.where(arch, 350, hu)
        hu = np.where(body < 1, np.where(body > 0.75, 420, bone), hu)
        return np.where((x / 9) ** 2 + ((y - rear + 21) / 7) ** 2 < 1, 25, hu)

    def _abdomen(self, x: Array, y: Array, z: float) -> Array:
        """Under the diaphragm: liver on the right, spleen and a stomach with gas on the left."""
        spleen = ((x + 78) / 36) ** 2 + ((y + 38) / 34) ** 2 < 1
        stomach = ((x + 48) / 42) ** 2 + ((y - 32) / 36) ** 2
        left = np.where(stomach < 1, np.where((y > 42) & (stomach < 0.8), -900, 30), np.where(spleen, 55, FAT))
        return np.where(x > -12 - 0.3 * y, LIVER, left)

    def _lung(self, x: Array, y: Array, z: float, coarse: Array, fine: Array) -> Array:
        """Healthy lung: denser at the back and near the diaphragm and the heart, with fissures."""
        patient = self.patient
        hu = patient.lung_hu + 14 * coarse + 12 * fine
        hu = hu + 0.6 * patient.haze * np.clip(-y / 90, 0, 1) ** 2
        above = np.clip(z - patient.diaphragm(x, y), 0, None)
        hu = hu + patient.haze * (np.exp(-above / 9) + 0.5 * np.clip(coarse - 0.6, 0, 1.5))
        for side, (rise, slope) in zip((1, -1), self.fissures, strict=True):
            oblique = z - rise * patient.height - slope * y + 6 * coarse
            hu = np.where((np.sign(x) == side) & (np.abs(oblique) < 1.8), hu + 90, hu)
        return hu

    def _infect(self, hu: Array, x: Array, y: Array, z: float, coarse: Array, fine: Array) -> tuple[Array, Array]:
        """HU with the lesions, and where they are: half of a lesion's density or more."""
        infected = np.zeros(hu.shape, bool)
        for lesion in self.lesions:
            (x0, y0, z0), (rx, ry, rz) = lesion.centre, lesion.radii
            if abs(z - z0) > 2.5 * rz:
                continue
            distance = np.sqrt(((x - x0) / rx) ** 2 + ((y - y0) / ry) ** 2 + ((z - z0) / rz) ** 2)
            distance = distance + 0.3 * coarse + 0.2 * fine
            strength = 1 / (1 + np.exp(np.clip((distance - 1) / (0.35 * lesion.edge), -50, 50)))
            grainy = strength * np.clip(1 + 0.2 * fine, 0.4, 1.3)
            hu = np.maximum(hu, hu + grainy * (lesion.hu - hu))
            infected |= strength > 0.5
        return hu, infected
