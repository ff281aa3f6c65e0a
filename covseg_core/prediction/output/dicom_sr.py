"""The figures of a prediction as DICOM structured report (SR, TID 1500), beside the DICOM SEG that they measure.

Patient and study are what the SEG has: blank unless they were asked for. The report calls nobody by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
from pydicom.uid import generate_uid

from covseg_core.errors import ScanError
from covseg_core.files import atomic_path
from covseg_core.prediction.output.dicom_seg import sources_of
from covseg_core.prediction.output.report import NOTICE, Report
from covseg_core.prediction.scan import Scan

if TYPE_CHECKING:
    import highdicom

SCHEME = "99COVSEG"
"""Of concepts that no standard scheme has."""
SHARE, LESIONS = ("LUNG_SHARE", "Share of the lung that is infected"), ("LESIONS", "Number of connected parts")
DICE = ("EXPECTED_DICE", "Expected Dice, by the agreement of the models")
_SERIES_NUMBER = 9001
"""After that of the SEG."""


def save_dicom_sr(segmentation: Path, scan: Scan, report: Report, path: Path, version: str) -> None:
    """Write volume, number of parts, expected Dice and shares of the lungs as a DICOM SR.

    Parameters
    ----------
    segmentation : the DICOM SEG of the mask, which the report refers to
    scan : of a DICOM series that `dicom_seg.seg_problem` finds nothing wrong with
    report : of the prediction
    version : of the software

    Raises
    ------
    ScanError : the file cannot be written, or reads back differently
    """
    seg = pydicom.dcmread(segmentation)
    content = _content(seg, report, version)
    sources = sources_of(scan, seg)
    made = _document(content, [seg, *sources], version)
    try:
        with atomic_path(path) as temporary:
            made.save_as(temporary)
            _verify(temporary, report, path)
    except OSError as error:
        raise ScanError(path, f"cannot be written ({error.strerror or error})") from None


def measured(file: Path) -> dict[str, float]:
    """Name of the measurement, with its side if it is of one lung -> value, as an SR has them."""
    found = {}
    for item in _items(pydicom.dcmread(file).ContentSequence):
        if item.ValueType == "NUM":
            value = item.MeasuredValueSequence[0]
            sides = [_items(site.get("ContentSequence", [])) for site in item.get("ContentSequence", [])]
            side = "".join(part.ConceptCodeSequence[0].CodeMeaning for parts in sides for part in parts)
            name = item.ConceptNameCodeSequence[0].CodeMeaning
            found[f"{side} {name}".strip()] = float(value.NumericValue)
    return found


def _items(sequence: object) -> list[pydicom.Dataset]:
    """All content items, those below others included, except modifiers of a measurement."""
    found = []
    for item in sequence:  # type: ignore[attr-defined]
        found.append(item)
        if item.ValueType == "CONTAINER":
            found += _items(item.get("ContentSequence", []))
    return found


def _content(seg: pydicom.Dataset, report: Report, version: str) -> highdicom.sr.MeasurementReport:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    lung = report.target == "lung"
    algorithm = hd.sr.AlgorithmIdentification(report.algorithm[:64], version)
    series = hd.sr.SourceSeriesForSegmentation(seg.ReferencedSeriesSequence[0].SeriesInstanceUID)
    segment = hd.sr.ReferencedSegment(seg.SOPClassUID, seg.SOPInstanceUID, 1, source_series=series)
    group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=generate_uid(), identifier=report.target),
        referenced_segment=segment,
        finding_type=codes.SCT.Lung if lung else codes.SCT.Lesion,
        finding_category=codes.SCT.AnatomicalStructure if lung else codes.SCT.MorphologicallyAbnormalStructure,
        finding_sites=[hd.sr.FindingSite(codes.SCT.Lung)],
        algorithm_id=algorithm,
        measurements=_measurements(report),
    )
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(), name="covseg", manufacturer_name="covseg", model_name=f"covseg {version}"
    )
    observer = hd.sr.ObserverContext(codes.DCM.Device, device)
    return hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=hd.sr.CodedConcept("24627-2", "LN", "CT Chest"),
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=hd.sr.LanguageOfContentItemAndDescendants(
            hd.sr.CodedConcept("en", "RFC5646", "English")
        ),
    )


def _measurements(report: Report) -> list[highdicom.sr.Measurement]:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    def own(concept: tuple[str, str]) -> hd.sr.CodedConcept:
        return hd.sr.CodedConcept(concept[0], SCHEME, concept[1])

    mask, found = report.mask, []
    if mask.volume_ml is not None:
        found.append(
            hd.sr.Measurement(codes.SCT.Volume, mask.volume_ml, hd.sr.CodedConcept("mL", "UCUM", "milliliter"))
        )
    if report.target == "infection":
        found.append(hd.sr.Measurement(own(LESIONS), mask.lesions, codes.UCUM.NoUnits))
    expected = report.expected_dice
    if expected and expected.value is not None and expected.low is not None and expected.high is not None:
        around = hd.sr.MeasurementProperties(
            upper_measurement_uncertainty=expected.high - expected.value,
            lower_measurement_uncertainty=expected.value - expected.low,
        )
        found.append(hd.sr.Measurement(own(DICE), expected.value, codes.UCUM.NoUnits, properties=around))
    lungs = report.lungs
    if lungs is None:
        return found
    for part, side in ((lungs.both, None), (lungs.right, codes.SCT.Right), (lungs.left, codes.SCT.Left)):
        if part.share is not None:
            site = hd.sr.FindingSite(codes.SCT.Lung, laterality=side)
            share = hd.sr.Measurement(own(SHARE), 100 * part.share, codes.UCUM.Percent, finding_sites=[site])
            found.append(share)
    return found


def _document(
    content: highdicom.sr.MeasurementReport, evidence: list[pydicom.Dataset], version: str
) -> highdicom.sr.Comprehensive3DSR:
    import highdicom as hd

    made = hd.sr.Comprehensive3DSR(
        evidence=evidence,
        content=content,
        series_instance_uid=generate_uid(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="covseg",
        is_complete=True,
        is_verified=False,
    )
    made.SoftwareVersions = version
    made.SeriesDescription = f"covseg: measurements. {NOTICE}"[:64]
    return made


def _verify(file: Path, report: Report, path: Path) -> None:
    """Make sure that the volume stands in the file, read by pydicom alone."""
    volume, found = report.mask.volume_ml, measured(file).get("Volume")
    wrong = volume is not None and (found is None or abs(found - volume) > 1e-6 * max(1.0, volume))
    if wrong:
        raise ScanError(path, "reads back differently from what was written", "a disk without errors")
