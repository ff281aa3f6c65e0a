"""What was measured of an ensemble, in sentences: the same on the command line and on the page."""

from __future__ import annotations

from collections import Counter

from covseg_core.evaluation import wording
from covseg_core.evaluation.expected_quality.relation import least_coverage
from covseg_core.evaluation.expected_quality.risk_coverage import RiskCoverage
from covseg_core.prediction.expected_dice import Part, Quality

PARTS: dict[Part, str] = {"test": "test", "validation": "validation", "new": "in none of their splits"}


def basis(quality: Quality) -> str:
    """By which scans it is known."""
    parts = Counter(scan.part for scan in quality.scans)
    listed = ", ".join(f"{parts[part]} {word}" for part, word in PARTS.items() if parts[part])
    scans, patients = wording.plural(len(quality.scans), "scan"), wording.plural(quality.patients, "patient")
    return f"{quality.dataset}: {scans} of {patients} with whom no member was trained ({listed or 'none'})."


def verdict(quality: Quality) -> str:
    """What can be expected, or why nothing can."""
    errors = ""
    if quality.error is not None and quality.error_of_mean is not None:
        errors = (
            f"Without the patient, the expected Dice is off by {quality.error:.3f} on average, the mean of the others "
            f"by {quality.error_of_mean:.3f}."
        )
    if quality.refused:
        return f"No expected Dice: {quality.refused}. {errors}".strip()
    held = ""
    if quality.coverage is not None:
        held = f"; made without them, it held for {quality.coverage:.0%} of these patients"
    least = least_coverage(quality.patients, quality.level)
    return (
        f"{errors} The interval reaches {quality.margin:.2f} to either side, to hold for {quality.level:.0%} of new "
        f"patients{held}. With bad luck in whom it was measured on, it may hold for only {least:.0%}."
    )


def caution(quality: Quality) -> str:
    """What makes it less than honest; empty if nothing does."""
    validated = sum(scan.part == "validation" for scan in quality.scans)
    if not validated:
        return ""
    return (
        f"On {wording.plural(validated, 'scan')} of validation the best epoch and the operating point were picked: "
        "their Dice may be a little too good."
    )


def worth(found: RiskCoverage) -> str:
    """What a review by expected Dice gains."""
    share = "" if found.share_of_ideal is None else f", {found.share_of_ideal:.0%} of what the true order would gain"
    way = "better" if found.gain >= 0 else "worse"
    return (
        f"Reviewed in the order of expected Dice instead of at random, the scans that are kept are {way} by "
        f"{abs(found.gain):.3f} Dice, on average over all shares reviewed{share}."
    )
