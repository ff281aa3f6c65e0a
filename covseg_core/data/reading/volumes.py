"""CT volumes and masks: from NIfTI files to arrays in one orientation, and masks back onto the file's own grid.

Inside the core every volume is (Z, Y, X) in RAS+ order: z up is superior, y up anterior, x up the patient's right. File
axes (i, j, k) exist in this module only; `nifti.py` reads the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip
from nibabel import orientations

from covseg_core.data.reading.nifti import affine_of, read_header, read_nifti, scaled
from covseg_core.errors import ScanError
from covseg_core.files import atomic_path

MIN_SIDE = 8
"""Fewest rows and columns an axial slice of a scan can have; a single coronal slice has one row."""
SPACING = (0.05, 50.0)
"""Voxel sizes a chest CT can have [mm]; outside it the header is in another unit or wrong."""
PLACEHOLDER_SPACING = (1.0, 1.0, 1.0)
"""What writers put where they do not know the spacing."""
MAX_LABELS = 16
"""Most labels a mask can have before one must say which of them count; a scan given as a mask has hundreds."""
_COMPRESSION = 1
"""Level of ISA-L: 0 to 3, of which 3 takes longer and makes larger files of masks."""

_RAS = np.array([[0, 1], [1, 1], [2, 1]])


@dataclass(frozen=True, eq=False)
class Geometry:
    """How a file stores a volume: all that is needed to write a mask beside it."""

    shape: tuple[int, int, int]
    """Voxels along the file's axes (i, j, k)."""
    affine: np.ndarray
    """(4, 4) float64, (i, j, k) -> RAS+ position [mm]."""
    header: nib.Nifti1Header | None
    """The file's header; None for volumes that do not come from NIfTI."""

    @property
    def orientation(self) -> str:
        """Where i, j and k grow to, e.g. `LPS`: left, posterior, superior."""
        return "".join(nib.aff2axcodes(self.affine))

    @property
    def placeholder(self) -> bool:
        """Whether the file's header says nothing about the position: no codes, or 1 mm voxels exactly at the origin."""
        if self.header is None:
            return False
        coded = self.header["sform_code"] > 0 or self.header["qform_code"] > 0
        return not coded or np.array_equal(np.abs(affine_of(self.header, Path())), np.eye(4))


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan or a mask in memory."""

    voxels: np.ndarray
    """(Z, Y, X), RAS+, C order. Scans: uint8, int16 or int32 if stored as integers, else float32; masks: uint8 0/1."""
    affine: np.ndarray
    """(4, 4) float64, (x, y, z) index of `voxels` -> RAS+ position [mm]."""
    spacing: tuple[float, float, float]
    """Voxel size along (z, y, x) [mm]."""
    geometry: Geometry
    path: Path
    labels: tuple[int, ...] = ()
    """Of a mask: the labels found in the file, without 0, before any selection."""

    @property
    def voxel_ml(self) -> float | None:
        """Volume of a voxel, also on a sheared grid (gantry tilt); None where the spacing is a placeholder."""
        if self.spacing == PLACEHOLDER_SPACING:
            return None
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000


def load_scan(path: str | Path) -> Volume:
    """Read a CT scan.

    Whole numbers stay whole numbers: there is never a float64 copy of the volume.

    Parameters
    ----------
    path : a `.nii` or `.nii.gz` file; a fourth dimension of length 1 is dropped, a 2-D image is one slice

    Raises
    ------
    ScanError : the file cannot be read, is damaged or not NIfTI; is 4-D, colour or complex; has no slices, NaN or
        infinite values, one value everywhere, or voxel sizes that no chest CT has
    """
    path = Path(path)
    voxels, geometry = _load(path)
    volume = make_volume(voxels, geometry, path)
    check_plausible(volume)
    return volume


def check_plausible(volume: Volume) -> None:
    """Make sure that a volume can be a CT scan, wherever it comes from.

    Raises
    ------
    ScanError : voxel sizes that no chest CT has, axial slices of a few voxels, one value everywhere
    """
    path, voxels = volume.path, volume.voxels
    if not all(SPACING[0] <= size <= SPACING[1] for size in volume.spacing):
        sizes = " x ".join(f"{size:.4g}" for size in reversed(volume.spacing))
        raise ScanError(path, f"voxels of {sizes} mm", f"{SPACING[0]} to {SPACING[1]} mm along each axis")
    if min(voxels.shape[1:]) < MIN_SIDE:
        found = f"axial slices of {voxels.shape[1]} x {voxels.shape[2]} voxels"
        raise ScanError(path, found, f"at least {MIN_SIDE} x {MIN_SIDE}")
    if all((plane == voxels.flat[0]).all() for plane in voxels):
        raise ScanError(path, f"every voxel is {voxels.flat[0]}", "a CT scan")


def make_volume(voxels: np.ndarray, geometry: Geometry, path: Path, labels: tuple[int, ...] = ()) -> Volume:
    """A volume of voxels (Z, Y, X) in RAS+ order; affine and spacing follow from how the file stores them."""
    to_file = orientations.inv_ornt_aff(orientations.io_orientation(geometry.affine), geometry.shape)
    affine = geometry.affine @ to_file
    x, y, z = (float(size) for size in nib.affines.voxel_sizes(affine))
    return Volume(voxels, affine, (z, y, x), geometry, path, labels)


def load_geometry(path: str | Path) -> Geometry:
    """Read how a file stores its volume, without its voxels; raises `ScanError` as `load_scan` does for the header."""
    path = Path(path)
    header, shape = read_header(path)
    return Geometry(shape, affine_of(header, path), header)


def load_mask(path: str | Path, labels: Sequence[int] | None = None, like: Geometry | None = None) -> Volume:
    """Read a mask as 0 and 1.

    Parameters
    ----------
    path : a `.nii` or `.nii.gz` file of whole numbers, 0 for background; they may be stored as floats
    labels : those that become 1; None for everything above 0
    like : the scan's geometry, taken over if the mask has its shape and a header that says nothing about position
        (`Geometry.placeholder`), as masks saved with an identity affine have: then only the file order links the two

    Returns
    -------
    Volume : `voxels` uint8 0/1, all 0 if no label counts; `labels` those found in the file

    Raises
    ------
    ScanError : as for `load_scan`, or values that are not labels
    """
    path = Path(path)
    voxels, geometry = _load(path, like)
    found = _labels(voxels, path)
    if labels is None and len(found) > MAX_LABELS:
        expected = f"at most {MAX_LABELS}, or a choice of those that count"
        raise ScanError(path, f"{len(found)} labels from {found[0]} to {found[-1]}", expected)
    chosen = [label for label in found if labels is None or label in labels]
    return make_volume(_select(voxels, found, chosen), geometry, path, found)


def grid_mismatch(a: Volume, b: Volume) -> str | None:
    """Why two volumes do not lie on one grid, in one line; None if they do.

    One grid means: the same shape, and no corner of one farther than a tenth of a voxel from the other's, in whatever
    axis order the two files are stored. Position and spacing are not compared if one of the two headers says nothing
    about them (`grid_warning` does say so); their axes must still run the same way.
    """
    if a.voxels.shape != b.voxels.shape:
        return f"shape {_shape(b)}, not {_shape(a)} as in {a.path.name}"
    if a.geometry.placeholder != b.geometry.placeholder:
        if a.geometry.orientation == b.geometry.orientation:
            return None
        return f"axes {b.geometry.orientation}, not {a.geometry.orientation} as in {a.path.name}"
    distance = _largest_distance(a, b)
    if distance > 0.1 * min(a.spacing):
        return f"lies up to {distance:.4g} mm from the grid of {a.path.name} (affine or spacing differ)"
    return None


def grid_warning(a: Volume, b: Volume) -> str | None:
    """What had to be assumed for `grid_mismatch` to find none, in one line; None for nothing."""
    if a.geometry.placeholder == b.geometry.placeholder:
        return None
    name = (a if a.geometry.placeholder else b).path.name
    return f"the header of {name} gives no position; matched to the other file voxel by voxel"


def save_mask(mask: np.ndarray, geometry: Geometry, path: str | Path) -> None:
    """Write a mask onto the grid of the file that `geometry` comes from.

    The file has the scan's shape, affine, codes and byte order; intensity scaling, intent, free text and extensions are
    not taken over. It is read back and compared before it gets its name, so it is right or not there.

    Parameters
    ----------
    mask : (Z, Y, X) uint8 or bool 0/1, RAS+
    path : ends in `.nii` or `.nii.gz`

    Raises
    ------
    ScanError : the file cannot be written, or reads back differently
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ScanError(path, "not the name of a NIfTI file", "a name ending in .nii or .nii.gz")
    _write(np.asarray(mask, np.uint8), geometry, path)


def _write(voxels: np.ndarray, geometry: Geometry, path: Path) -> None:
    to_file = orientations.ornt_transform(_RAS, orientations.io_orientation(geometry.affine))
    stored = orientations.apply_orientation(voxels.T, to_file)
    if stored.shape != geometry.shape:
        raise ValueError(f"voxels of {voxels.shape} for a file of {geometry.shape}")
    image = _image(stored, geometry)
    try:
        with atomic_path(path) as temporary:
            _save(image, temporary)
            header, again = read_nifti(temporary)
            same = all(map(np.array_equal, again.T, stored.T))  # by planes: all at once takes a third copy
            if again.shape != stored.shape or not same or _moved(affine_of(header, path), geometry.affine):
                raise ScanError(path, "reads back differently from what was written", "a disk without errors")
    except OSError as error:
        raise ScanError(path, f"cannot be written ({error.strerror or error})") from None


def save_volume(volume: Volume, path: str | Path) -> None:
    """Write a scan or mask that was no NIfTI as one: values, grid, and not a word.

    The same volume gives the same bytes. It is read back and compared, as by `save_mask`.

    Raises
    ------
    ScanError : the file cannot be written, or reads back differently
    """
    _write(volume.voxels, volume.geometry, Path(path))


def _save(image: nib.Nifti1Image, path: Path) -> None:
    """Write an image, packed by ISA-L if its name ends in `.gz`: a tenth of zlib's time, and smaller for masks."""
    if path.suffix != ".gz":
        nib.save(image, path)
        return
    with open(path, "wb") as handle, igzip.IGzipFile("", "wb", _COMPRESSION, handle, mtime=0) as packed:
        image.to_file_map({"image": nib.FileHolder(fileobj=packed)})


def _load(path: Path, like: Geometry | None = None) -> tuple[np.ndarray, Geometry]:
    """Voxels (Z, Y, X) with the header's scaling applied, and how the file stores them."""
    header, stored = read_nifti(path)
    geometry = Geometry(stored.shape, affine_of(header, path), header)
    if like is not None and like.shape == geometry.shape and geometry.placeholder:
        geometry = Geometry(geometry.shape, like.affine, header)
    canonical = orientations.apply_orientation(stored, orientations.io_orientation(geometry.affine)).T
    return scaled(canonical, header, path), geometry


def _labels(voxels: np.ndarray, path: Path) -> tuple[int, ...]:
    """Distinct values above 0, ascending."""
    low, high = voxels.min(), voxels.max()
    expected = "whole-number labels from 0 (background) to 65535"
    if low < 0 or high > 65535:
        raise ScanError(path, f"values from {low:g} to {high:g}", expected)
    if high <= 1 and voxels.dtype.kind != "f":
        return (1,) if high else ()
    counts = np.zeros(round(high) + 1, np.int64)
    for source in voxels:
        whole = _whole(source)
        if source.dtype.kind == "f" and np.abs(whole - source).max() > 1e-3:
            value = source[np.abs(whole - source) > 1e-3][0]
            raise ScanError(path, f"value {value:g}", expected)
        counts += np.bincount(whole.ravel(), minlength=len(counts))
    return tuple(int(label) for label in np.flatnonzero(counts) if label > 0)


def _select(voxels: np.ndarray, found: tuple[int, ...], chosen: list[int]) -> np.ndarray:
    """uint8, 1 where a voxel has one of the labels `chosen` from those `found`."""
    if len(chosen) == len(found) and voxels.dtype.kind != "f":
        return (voxels > 0).view(np.uint8)
    table = np.zeros(found[-1] + 1 if found else 1, np.uint8)
    table[chosen] = 1
    mask = np.empty(voxels.shape, np.uint8)
    for plane, source in zip(mask, voxels, strict=True):
        np.take(table, _whole(source), out=plane)
    return mask


def _whole(plane: np.ndarray) -> np.ndarray:
    return np.rint(plane).astype(np.int32) if plane.dtype.kind == "f" else plane


def _image(stored: np.ndarray, geometry: Geometry) -> nib.Nifti1Image:
    """NIfTI image of voxels in file order with the scan's header, less what belongs to the scan's values."""
    header = nib.Nifti1Header() if geometry.header is None else geometry.header.copy()
    if geometry.header is None or _moved(affine_of(header, Path()), geometry.affine):
        header.set_xyzt_units("mm")
        header.set_sform(geometry.affine, code="scanner")
        # A qform is a rotation and cannot displace planes, as it takes with a tilted gantry: only the sform holds.
        header.set_qform(geometry.affine, code="unknown" if _sheared(geometry.affine) else "scanner")
    header.set_data_dtype(stored.dtype)
    header.set_data_shape(stored.shape)
    header.set_intent("none")
    for field in ("descrip", "aux_file", "db_name", "cal_min", "cal_max"):
        if field in header.keys():  # noqa: SIM118 - headers do not answer `in`
            header[field] = b"" if header[field].dtype.kind == "S" else 0
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    return kind(stored, None, header)


def _moved(affine: np.ndarray, other: np.ndarray) -> bool:
    """Whether two affines differ by more than the float32 of NIfTI headers can hold [mm]."""
    return not np.allclose(affine, other, rtol=0, atol=1e-3)


def _sheared(affine: np.ndarray) -> bool:
    """Whether the axes are not at right angles, as far as float32 can tell."""
    axes = affine[:3, :3] / nib.affines.voxel_sizes(affine)
    return not np.allclose(axes.T @ axes, np.eye(3), rtol=0, atol=1e-4)


def _shape(volume: Volume) -> str:
    return " x ".join(map(str, reversed(volume.voxels.shape)))


def _largest_distance(a: Volume, b: Volume) -> float:
    """Largest distance of the two grids' corresponding corners [mm]."""
    z, y, x = a.voxels.shape
    corners = np.array([[i, j, k, 1] for i in (0, x - 1) for j in (0, y - 1) for k in (0, z - 1)])
    return float(np.linalg.norm(corners @ (a.affine - b.affine).T, axis=1).max())
