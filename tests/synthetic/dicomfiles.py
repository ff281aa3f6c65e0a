"""Writes DICOM series for tests: any direction, spacing and tag, with a name in every tag that could leak one."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SECRET = "Zzyzx"
"""Part of every text that describes the patient or the hospital."""
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


@dataclass(frozen=True)
class Stack:
    """Slices in space, in LPS+."""

    values: np.ndarray
    """(N, rows, columns) int16 [HU]."""
    positions: np.ndarray
    """(N, 3) float64: centre of each slice's first pixel [mm]."""
    orientation: tuple[float, ...] = AXIAL
    spacing: tuple[float, float] = (0.8, 0.7)
    """Of rows and columns [mm]."""

    def world(self, n: int, row: int, column: int) -> np.ndarray:
        """Position of a pixel, by the formula of the standard (PS3.3 C.7.6.2.1.1): (3,) LPS+ [mm]."""
        along, down = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        return self.positions[n] + along * self.spacing[1] * column + down * self.spacing[0] * row

    def without(self, *slices: int) -> Stack:
        keep = [n for n in range(len(self.values)) if n not in slices]
        return dataclasses.replace(self, values=self.values[keep], positions=self.positions[keep])


def make_stack(
    shape: tuple[int, int, int] = (9, 12, 10),
    orientation: Sequence[float] = AXIAL,
    depths: Sequence[float] | None = None,
    drift: Sequence[float] = (0.0, 0.0, 0.0),
    seed: int = 0,
) -> Stack:
    """Noise in slices along the cross product of `orientation`, 2.5 mm apart, or at `depths` [mm].

    `drift` displaces each slice, in mm per mm of depth.
    """
    values = np.random.default_rng(seed).integers(-1000, 1500, shape).astype(np.int16)
    across = np.cross(orientation[:3], orientation[3:])
    at = np.arange(shape[0]) * 2.5 if depths is None else np.asarray(depths, float)
    positions = np.array([-31.0, 17.0, -205.5]) + at[:, None] * (across + np.asarray(drift))
    return Stack(values, positions, tuple(map(float, orientation)))


def right_angled() -> list[tuple[float, ...]]:
    """The 24 directions of rows and columns along the patient's axes."""
    axes = [tuple(sign * np.eye(3)[axis]) for axis in range(3) for sign in (1, -1)]
    return [(*row, *column) for row, column in itertools.product(axes, axes) if not np.dot(row, column)]


def rotated(*degrees: float) -> tuple[float, ...]:
    """Directions of rows and columns of an axial slice, rotated about x, y and z."""
    from scipy.spatial.transform import Rotation

    matrix = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    return (*matrix[:, 0], *matrix[:, 1])


def write(folder: Path, stack: Stack, uid: str = "", names: Sequence[str] = (), **tags: Any) -> list[Path]:
    """Write one file a slice.

    Parameters
    ----------
    uid : of the series
    names : of the files; else they say nothing about the order: the slices are written back to front
    tags : by keyword; None leaves the tag out, a list has one value a slice, a tuple is a tag of several values
    """
    folder.mkdir(parents=True, exist_ok=True)
    uid, frame, study = uid or generate_uid(), generate_uid(), generate_uid()
    paths = []
    for n in range(len(stack.values)):
        own = {name: value[n] if isinstance(value, list) else value for name, value in tags.items()}
        slope, intercept = own.get("RescaleSlope") or 1, own.get("RescaleIntercept", -1024) or 0
        stored = np.rint((stack.values[n] - intercept) / slope).astype(np.int16)
        dataset = _dataset(stored, stack, n)
        dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID, dataset.StudyInstanceUID = uid, frame, study
        for name, value in own.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, list(value) if isinstance(value, tuple) else value)
        path = folder / (names[n] if names else f"IM{len(stack.values) - n:05d}")
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _dataset(stored: np.ndarray, stack: Stack, n: int) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientName, dataset.PatientID = f"{SECRET}^Jane", f"{SECRET}-4711"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientAge = "19450803", "F", "081Y"
    dataset.AccessionNumber, dataset.StudyID = f"{SECRET}-77", f"{SECRET}-78"
    for name in ("InstitutionName", "StudyDescription", "SeriesDescription", "ProtocolName", "StationName"):
        setattr(dataset, name, f"{SECRET} {len(name)}")
    dataset.ReferringPhysicianName, dataset.OperatorsName = f"{SECRET}^Doc", f"{SECRET}^Op"
    dataset.StudyDate, dataset.StudyTime = "20200401", "101112"
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.AcquisitionNumber = 3, n + 1, 1
    dataset.Manufacturer, dataset.ConvolutionKernel, dataset.SliceThickness = "Maker", "B40f", 2.5
    dataset.ImageOrientationPatient = [f"{cosine:.10f}"[:16] for cosine in stack.orientation]
    dataset.ImagePositionPatient = [f"{part:.8f}"[:16] for part in stack.positions[n]]
    dataset.PixelSpacing = list(stack.spacing)
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
    dataset.PixelData = stored.tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def compress(path: Path, syntax: str) -> None:
    """Repack a file's pixels without loss with GDCM, e.g. as `JPEGLosslessProcess14_1`."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def stack_of(image: nib.Nifti1Image) -> Stack:
    """A scan as slices: the file's first axis along the rows, its last from slice to slice."""
    affine, lps = image.affine, np.array([-1.0, -1.0, 1.0])
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    along, down = (lps * affine[:3, axis] / sizes[axis] for axis in (0, 1))
    values = np.asarray(image.dataobj).T.astype(np.int16)
    positions = np.array([lps * (affine @ [0, 0, k, 1])[:3] for k in range(len(values))])
    return Stack(values, positions, (*along, *down), (float(sizes[1]), float(sizes[0])))


def write_seg(
    path: Path,
    slices: Sequence[Path],
    masks: np.ndarray,
    labels: Sequence[str],
    kind: str = "BINARY",
    omit_empty_frames: bool = True,
    **words: str,
) -> Path:
    """Write a SEG as other programs do, by highdicom.

    Parameters
    ----------
    slices : files of the series, in the order of the masks
    masks : (N, rows, columns, segments) uint8 0/1, or float 0..1 for a `FRACTIONAL` one
    labels : of the segments
    words : `description` of all segments, and `type`, the meaning of their type's code
    """
    import highdicom as hd
    from pydicom.sr.coding import Code

    code = Code("85756007", "SCT", words.get("type", "Tissue"))
    descriptions = [
        hd.seg.SegmentDescription(number, label, code, code, hd.seg.SegmentAlgorithmTypeValues.MANUAL)
        for number, label in enumerate(labels, 1)
    ]
    for item in descriptions:
        if "description" in words:
            item.SegmentDescription = words["description"]
    sources = [pydicom.dcmread(file) for file in slices]
    for source in sources:
        source.PatientName = source.get("PatientName") or "^"
        if "^" not in str(source.PatientName):
            source.PatientName = f"{source.PatientName}^"  # highdicom wants more than one part
    segmentation = hd.seg.Segmentation(
        sources,
        masks,
        hd.seg.SegmentationTypeValues[kind],
        descriptions,
        generate_uid(),
        1000,
        generate_uid(),
        1,
        f"{SECRET} maker",
        "model",
        "1",
        "7",
        omit_empty_frames=omit_empty_frames,
    )
    segmentation.save_as(path)
    return path
