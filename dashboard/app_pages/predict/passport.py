"""What a scan is, before any model is asked: badges, details, and what differs from a model's training data."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from covseg_core.prediction.passport import Passport, unusual
from covseg_core.prediction.scan import Scan
from dashboard.formatting import plain, sentence
from dashboard.services.model_catalog import ListedRun

KINDS = {"nifti": "NIfTI", "dicom": "DICOM", "picture": "Picture"}


def show(scan: Scan) -> None:
    """The passport of a scan, with its warnings."""
    passport = scan.passport
    st.markdown(" ".join(f":gray-badge[{name} {value}]" for name, value in badges(passport).items()))
    for warning in scan.warnings:
        st.warning(sentence(warning), icon=":material/warning:")
    for note in passport.notes:
        st.caption(f":material/info: {sentence(note)}")
    with st.expander("More about this scan", icon=":material/badge:"):
        st.markdown("\n".join(f"- {name}: {value}" for name, value in details(passport).items()))


def badges(passport: Passport) -> dict[str, str]:
    """The essentials, by label."""
    x, y, z = passport.matrix
    spacing = passport.spacing_mm
    return {
        "Matrix": f"{x} x {y} x {z} voxels",
        "Spacing": " x ".join(f"{size:.2f}" for size in spacing) + " mm" if spacing else "not known",
        "Orientation": passport.orientation,
        "Scale": passport.scale,
    }


def details(passport: Passport) -> dict[str, str]:
    """The rest, by label."""
    extent, look = passport.extent_mm, passport.appearance
    slices = passport.matrix[2]
    made = f", {passport.interpolated} of them interpolated" if passport.interpolated else ""
    return {
        "File": f"{KINDS[passport.kind]}, {passport.plane} slices",
        "Slices": f"{slices}{made}; lung on about {passport.lung_slices}",
        "Field of view": f"{extent[0]:.0f} x {extent[1]:.0f} x {extent[2]:.0f} mm" if extent else "not known",
        "Picture": f"{look.body_share:.0%} body, {look.padding_share:.0%} padding",
    }


def show_unusual(scan: Scan, chosen: Sequence[ListedRun]) -> None:
    """In which respects the scan is unlike what the chosen models were trained on."""
    concerned: dict[str, list[str]] = {}
    for one in chosen:
        for line in unusual(scan.passport, one.run):
            concerned.setdefault(line, []).append(one.label)
    if not concerned:
        return
    everyone = {name for names in concerned.values() for name in names}
    lines = []
    for line, names in concerned.items():
        whom = "" if len(names) == len(everyone) else f" ({', '.join(names)})"
        lines.append(f"- {plain(line[0].upper() + line[1:] + whom)}")
    whose = (
        "the training data" if len(everyone) == len(chosen) else f"the training data of {', '.join(sorted(everyone))}"
    )
    st.warning(
        f"This scan is unlike {plain(whose)}, so masks may be worse than the model cards say:\n\n" + "\n".join(lines),
        icon=":material/warning:",
    )
