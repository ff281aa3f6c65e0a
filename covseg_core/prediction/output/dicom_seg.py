"""A mask as DICOM segmentation (SEG), which viewers lay over the series that it was made from.

What the file says about the scan is built from UIDs, positions and sizes alone, so that nothing else can slip in.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from nibabel import orientations
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, generate_uid

from covseg_core.config import Target
from covseg_core.data.reading.dicom import Series
from covseg_core.data.reading.dicom.headers import Header
from covseg_core.data.reading.volumes import Geometry
from covseg_core.errors import ScanError
from covseg_core.files import atomic_path
from covseg_core.prediction.scan import Scan

if TYPE_CHECKING:
    import highdicom

_PATIENT = (
    "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber "
    "ReferringPhysicianName"
).split()
"""What a SEG has to say about patient and study; it may be empty."""
_SERIES_NUMBER = 9000
"""Above those of scanners."""


def save_dicom_seg(
    mask: np.ndarray,
    scan: Scan,
    path: str | Path,
    target: Target,
    algorithm: str,
    version: str,
    keep_patient: bool = False,
) -> None:
    """Write a mask as a binary DICOM SEG with one segment.

    It has a frame for each slice of the files with something in it, or for every slice if the mask is empty. Planes
    that were interpolated have no frame. Patient and study are blank unless `keep_patient`; the UIDs of study, series,
    slices and frame of reference are the scan's, so viewers find what it belongs to.

    Parameters
    ----------
    mask : (Z, Y, X) uint8 or bool 0/1, RAS+
    scan : of a DICOM series
    algorithm : name of the model or models, at most 64 characters
    version : of the software
    keep_patient : copy the patient's and the study's name, id and dates, for an archive that files by them; the series
        must still lie where it was read

    Raises
    ------
    ScanError : `seg_problem`; the file cannot be written, or reads back differently; with `keep_patient`, the series
        is no longer there
    """
    path = Path(path)
    if problem := seg_problem(scan):
        raise ScanError(scan.volume.path, problem, "a DICOM series with all its UIDs")
    series = scan.series
    assert series is not None and series.grid is not None  # by seg_problem
    stored = _as_stored(mask, scan.volume.geometry)
    real = [(k, plane.below) for k, plane in enumerate(series.grid.planes) if plane.real]
    frames = stored[[k for k, _ in real]]
    person = _person(series, scan.volume.path) if keep_patient else dict.fromkeys(_PATIENT, "")
    sources = _sources(series, [index for _, index in real], person)
    segmentation = _segmentation(frames, sources, _gap(series), target, algorithm, version)
    segmentation.SeriesDescription = f"covseg: {target}, for research only"
    segmentation.SeriesDate, segmentation.SeriesTime = segmentation.ContentDate, segmentation.ContentTime
    try:
        with atomic_path(path) as temporary:
            segmentation.save_as(temporary)
            _verify(temporary, frames, sources, path)
    except OSError as error:
        raise ScanError(path, f"cannot be written ({error.strerror or error})") from None


def seg_problem(scan: Scan) -> str:
    """Why a scan can have no SEG, in one line; "" if it can."""
    series = scan.series
    if series is None or series.grid is None:
        return "not a DICOM series"
    uids = [header.instance_uid for header in series.headers]
    if not all(uids) or len(set(uids)) < len(uids):
        return "slices without UIDs of their own: a DICOM SEG could not refer to them"
    return ""


def sources_of(scan: Scan, segmentation: Dataset) -> list[Dataset]:
    """The slices that a SEG of this scan refers to, as far as other documents name them: patient and study are those of
    the SEG."""
    series = scan.series
    assert series is not None and series.grid is not None  # it has a SEG
    person = {name: str(segmentation.get(name) or "") for name in _PATIENT}
    return _sources(series, [plane.below for plane in series.grid.planes if plane.real], person)


def _as_stored(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """(plane, row, column) uint8, as the files have them, from (Z, Y, X) in RAS+ order."""
    ras = np.array([[0, 1], [1, 1], [2, 1]])
    to_file = orientations.ornt_transform(ras, orientations.io_orientation(geometry.affine))
    return np.ascontiguousarray(orientations.apply_orientation(np.asarray(mask, np.uint8).T, to_file).T)


def _sources(series: Series, indices: list[int], person: dict[str, str]) -> list[Dataset]:
    """What highdicom needs to know of the slices."""
    first = series.headers[0]
    shared = Dataset()
    tags = {
        **person,
        "Modality": "CT",
        "SeriesInstanceUID": first.series_uid or generate_uid(),
        "StudyInstanceUID": first.study_uid or generate_uid(),
        "FrameOfReferenceUID": first.frame_uid or generate_uid(),
        "Rows": series.rows,
        "Columns": series.columns,
        "SliceThickness": _decimal(_gap(series)),
        "PixelSpacing": [_decimal(size) for size in first.spacing or ()],
        "ImageOrientationPatient": [_decimal(cosine) for cosine in first.orientation or ()],
    }
    for name, value in tags.items():
        setattr(shared, name, value)
    return [_source(series.headers[index], shared) for index in indices]


def _source(header: Header, shared: Dataset) -> Dataset:
    dataset = Dataset({element.tag: element for element in shared})
    dataset.SOPClassUID = header.sop_class or CTImageStorage
    dataset.SOPInstanceUID = header.instance_uid
    dataset.ImagePositionPatient = [_decimal(part) for part in header.position or ()]
    return dataset


def _decimal(number: float) -> pydicom.valuerep.DSfloat:
    """A number as DICOM writes it, in at most 16 characters."""
    return pydicom.valuerep.DSfloat(number, auto_format=True)


def _person(series: Series, path: Path) -> dict[str, str]:
    try:
        tags = pydicom.dcmread(series.files[0], stop_before_pixels=True, force=True, specific_tags=[*_PATIENT])
        return {name: str(tags.get(name) or "") for name in _PATIENT}
    except Exception:  # the file is gone, or holds something else by now; its text may name the patient
        raise ScanError(path, "the series' files cannot be read again", "a folder, not a zip") from None


def _gap(series: Series) -> float:
    """Distance of the planes along their normal [mm]."""
    depths = series.grid.depths if series.grid else ()
    return depths[1] - depths[0] if len(depths) > 1 else series.headers[0].thickness or 1.0


def _segmentation(
    frames: np.ndarray, sources: list[Dataset], gap: float, target: Target, algorithm: str, version: str
) -> highdicom.seg.Segmentation:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    lung = target == "lung"
    name = hd.AlgorithmIdentificationSequence(algorithm[:64], codes.DCM.ArtificialIntelligence, version)
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Lung" if lung else "Infection",
        segmented_property_category=codes.SCT.AnatomicalStructure
        if lung
        else codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lung if lung else codes.SCT.Lesion,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=name,
        anatomic_regions=None if lung else [codes.SCT.Lung],
    )
    spacing = [float(size) for size in sources[0].PixelSpacing]
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=frames,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[description],
        series_instance_uid=generate_uid(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="covseg",
        manufacturer_model_name="covseg",
        software_versions=version,
        device_serial_number="0",
        content_label="LUNG" if lung else "INFECTION",
        content_description="Research use only, not for diagnosis",
        pixel_measures=hd.PixelMeasuresSequence(spacing, _decimal(gap), _decimal(gap)),
        omit_empty_frames=bool(frames.any()),
    )


def _verify(file: Path, frames: np.ndarray, sources: list[Dataset], path: Path) -> None:
    """Make sure that a SEG holds the frames that were meant, each at its slice's position.

    Read by pydicom alone, so that what highdicom wrote is not taken on its own word.
    """
    expected = {source.SOPInstanceUID: index for index, source in enumerate(sources)}
    segmentation = pydicom.dcmread(file)
    groups = segmentation.PerFrameFunctionalGroupsSequence
    shape = (len(groups), *frames.shape[1:])
    same = (segmentation.NumberOfFrames, segmentation.Rows, segmentation.Columns, segmentation.BitsAllocated) == (
        *shape,
        1,
    )
    bits = np.frombuffer(segmentation.PixelData, np.uint8)
    same = same and len(bits) >= -(-int(np.prod(shape)) // 8)
    left, moved, area = set(expected.values()), 0.0, shape[1] * shape[2]
    for number, group in enumerate(groups if same else ()):
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        position = group.PlanePositionSequence[0].ImagePositionPatient
        index = expected.get(source, -1)
        if index not in left:  # of no slice, or of one that has a frame already
            same = False
            break
        left.remove(index)
        first, behind = divmod(number * area, 8)
        frame = np.unpackbits(bits[first : first + area // 8 + 2], bitorder="little")[behind : behind + area]
        same = same and np.array_equal(frame.reshape(shape[1:]), frames[index])
        wanted = sources[index].ImagePositionPatient
        moved = max(moved, *(abs(float(a) - float(b)) for a, b in zip(position, wanted, strict=True)))
    if not same or any(frames[index].any() for index in left) or not moved <= 1e-3:
        raise ScanError(path, "reads back differently from what was written", "a disk without errors")
