"""`report.html`: a prediction on one A4 page, in one file without script, to look at and to print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from covseg_core.prediction.output.report import MaskReport, Report
from covseg_core.prediction.output.report_slices import make_slice
from covseg_core.runs.operating_point import words

MAX_ROWS = 5
"""Models in the table, so that the page stays one; the rest are in `report.csv`."""
MAX_LINES = 13
"""Lines of warnings, of `_LINE` characters, for the same reason; the rest are in `report.json`."""
_LINE = 52
_NAME = 26
"""Characters of a run's id in the table; it stands in full beside its hash."""

_TITLES = {"infection": "Infection on a chest CT", "lung": "Lungs on a chest CT"}
_STYLE = """
@page { size: A4; margin: 12mm 14mm; }
* { box-sizing: border-box; }
body { font: 9pt/1.36 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; color: #1c2330; margin: 0 auto;
  max-width: 182mm; padding: 8mm 0; background: #fff; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
@media print { body { padding: 0; } }
header { display: flex; justify-content: space-between; align-items: baseline; border-bottom: 1.5pt solid #1c2330;
  padding-bottom: 2mm; }
h1 { font-size: 15pt; font-weight: 600; margin: 0; }
h2 { font-size: 9.5pt; font-weight: 600; margin: 3.5mm 0 1mm; }
header p, .quiet { color: #5b6472; margin: 0; }
.headline { display: flex; gap: 9mm; margin: 3.5mm 0 0; }
.headline div { display: flex; flex-direction: column; }
.headline b { font-size: 16pt; font-weight: 600; line-height: 1.2; }
.headline span { color: #5b6472; font-size: 8.5pt; }
.columns { display: grid; grid-template-columns: 1fr 1fr; gap: 8mm; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { font-weight: 600; text-align: right; color: #5b6472; font-size: 8.5pt; border-bottom: .75pt solid #9aa3af; }
td { text-align: right; border-bottom: .5pt solid #e2e6eb; }
th, td { padding: .45mm 0 .55mm 3mm; vertical-align: baseline; }
th, td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr.main td { font-weight: 600; }
.facts td:last-child { text-align: left; white-space: normal; }
.facts td:first-child { color: #5b6472; white-space: nowrap; width: 1%; }
.slices { display: grid; grid-template-columns: repeat(3, 1fr); gap: 4mm; }
figure { margin: 0; }
.picture { position: relative; background: #000; line-height: 0; }
.picture img { width: 100%; display: block; }
.picture span { position: absolute; color: #fff; font-size: 9pt; line-height: 1;
  text-shadow: 0 0 2px #000, 0 0 2px #000; }
.right { left: 1.5mm; top: 48%; } .left { right: 1.5mm; top: 48%; } .front { top: 1.5mm; left: 50%; }
.bar { bottom: 1.8mm; right: 2mm; border-bottom: 1.2pt solid #fff; text-align: center; padding-bottom: .7mm;
  font-size: 7.5pt !important; }
figcaption { font-size: 8.5pt; color: #5b6472; margin-top: .8mm; }
ul { margin: 0; padding-left: 4mm; } li { margin: 0 0 .4mm; }
.key { display: inline-block; width: 4mm; height: 0; border-top: 1.6pt solid; vertical-align: middle; margin: 0 1mm; }
.programs { font-size: 7.5pt; }
.hashes { font: 7pt/1.3 ui-monospace, Menlo, Consolas, monospace; color: #5b6472; overflow-wrap: anywhere; margin: 0; }
footer { border-top: .75pt solid #9aa3af; margin-top: 3.5mm; padding-top: 1.5mm; font-weight: 600; font-size: 8.5pt; }
"""


def make_sheet(report: Report, voxels: np.ndarray, mask: np.ndarray, sides: np.ndarray | None) -> bytes:
    """The page, in UTF-8.

    Parameters
    ----------
    voxels : (Z, Y, X) of the scan
    mask : (Z, Y, X) uint8 0/1
    sides : (Z, Y, X) uint8: 0 where there is no lung; None without a lung mask
    """
    title = _TITLES[report.target]
    places = choose_slices(report.mask.positive_slices, mask, sides)
    pictures = "".join(make_slice(report, voxels, mask, sides, z) for z in places)
    lungs = _lungs(report)
    figures = f"<div class=columns><section>{_models(report)}</section><section>{lungs}</section></div>"
    body = f"""<header><h1>{title}</h1><p>{escape(report.created[:16].replace("T", " "))} UTC</p></header>
{_headline(report)}
{figures if lungs else _models(report)}
<h2>Slices</h2><div class=slices>{pictures}</div><p class=quiet>{_legend(report, sides is not None)}</p>
<div class=columns><section>{_passport(report)}</section><section>{_remarks(report)}</section></div>
{_origin(report)}
<footer>{escape(report.notice)}</footer>"""
    page = (
        f"<!doctype html>\n<html lang=en><head><meta charset=utf-8><title>{title}</title><meta name=viewport "
        f'content="width=device-width"><style>{_STYLE}</style></head>\n<body>{body}</body></html>\n'
    )
    return page.encode()


def choose_slices(positive: Sequence[int], mask: np.ndarray, sides: np.ndarray | None, number: int = 3) -> list[int]:
    """Slices that stand for the scan: the one with the largest mask, then large ones far from those chosen.

    Where the mask is empty, they are spread over the lungs, or over the scan. Fewer if the scan has fewer.
    """
    total = len(mask)
    if not positive:
        there = np.flatnonzero(sides.any(axis=(1, 2))) if sides is not None else np.arange(0)
        low, high = (int(there[0]), int(there[-1])) if there.size else (0, total - 1)
        return sorted({round(low + share * (high - low)) for share in (0.25, 0.5, 0.75)})
    areas = np.array([np.count_nonzero(plane) for plane in mask], np.float64)
    chosen = [int(areas.argmax())]
    while len(chosen) < min(number, len(positive)):
        distance = np.abs(np.arange(total)[:, None] - chosen).min(axis=1)
        chosen.append(int((areas * distance).argmax()))
    return sorted(chosen)


def _headline(report: Report) -> str:
    """The figures that one looks for first."""
    mask, lungs = report.mask, report.lungs
    cells = [(_size(report, mask.voxels), "infected" if report.target == "infection" else "lungs")]
    if len(report.models) > 1:
        low, high = (_size(report, voxels) for voxels in report.range_voxels)
        cells.append((low if low == high else f"{low.split()[0]} to {high}", f"range over {len(report.models)} models"))
    if lungs and lungs.both.share is not None:
        cells.append((_percent(lungs.both.share), "of both lungs"))
    if report.target == "infection":
        cells.append((f"{mask.lesions:,}", "lesion" if mask.lesions == 1 else "lesions"))
    cells.append((f"{len(mask.positive_slices)} of {report.scan.shape[0]}", "slices"))
    return (
        "<div class=headline>"
        + "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in cells)
        + "</div>"
    )


def _models(report: Report) -> str:
    """A row a model, the vote first."""
    infection, shares = report.target == "infection", report.lungs is not None
    several = len(report.models) > 1
    unit = "voxels" if report.scan.voxel_ml is None else "mL"
    head = ["Model", unit, *["% of lungs"] * shares, *["lesions"] * infection]

    def row(name: str, mask: MaskReport, main: bool = False) -> str:
        cells = [escape(name), _number(report, mask.voxels), *[_percent(mask.lung_share, "")] * shares]
        return _row([*cells, *[f"{mask.lesions:,}"] * infection], main)

    rows = [row(f"Vote of {len(report.models)}", report.mask, main=True)] if several else []
    rows += [row(_short(model.run), model.mask) for model in report.models[:MAX_ROWS]]
    left = len(report.models) - MAX_ROWS
    more = f"<p class=quiet>and {left} more in report.csv</p>" if left > 0 else ""
    return f"<h2>{'Models' if several else 'Model'}</h2>{_table(head, rows)}{more}"


def _lungs(report: Report) -> str:
    """A row a lung, and what lies outside; nothing without a lung mask."""
    lungs = report.lungs
    if lungs is None:
        return ""
    if not lungs.both.voxels:
        return f"<h2>Lungs</h2><p>The model {escape(lungs.run)} found no lungs: no shares.</p>"
    unit = "voxels" if report.scan.voxel_ml is None else "mL"
    parts = {"Right lung": lungs.right, "Left lung": lungs.left, "Both": lungs.both}
    rows = [
        _row(
            [name, _number(report, part.voxels), _number(report, part.infection_voxels), _percent(part.share, "")],
            name == "Both",
        )
        for name, part in parts.items()
    ]
    reach = "3 voxels" if lungs.tolerance_mm is None else f"{lungs.tolerance_mm:g} mm"
    outside = f"No infection more than {reach} outside the lungs"
    if lungs.outside_voxels:
        size, share = _size(report, lungs.outside_voxels), _percent(lungs.outside_share)
        outside = f"Infection more than {reach} outside the lungs: {size}, {share} of it"
    table = _table(["Lungs", unit, f"infected {unit}", "% infected"], rows)
    if lungs.beyond_voxels:
        outside += f". Left out beyond the chest: {_size(report, lungs.beyond_voxels)}"
    return f"<h2>Lungs</h2>{table}<p class=quiet>{outside}. Lung model: {escape(lungs.run)}.</p>"


def _passport(report: Report) -> str:
    """What the scan is."""
    passport = report.passport
    if passport is None:
        return ""
    x, y, z = passport.matrix
    spacing, look = passport.spacing_mm, passport.appearance
    facts = {
        "Matrix": f"{x} &times; {y}, {z} slices" if z > 1 else f"{x} &times; {y}, 1 slice",
        "Voxel": " &times; ".join(f"{mm:.3g}" for mm in spacing) + " mm" if spacing else "size not known: no mL",
        "Extent": " &times; ".join(f"{mm:.0f}" for mm in passport.extent_mm) + " mm"
        if passport.extent_mm
        else "not known",
        "Stored": f"{ {'nifti': 'NIfTI', 'dicom': 'DICOM', 'picture': 'picture'}[passport.kind] }, {passport.plane}, "
        f"{passport.orientation}",
        "Values": "Hounsfield units" if passport.scale == "HU" else "0 to 255, windowed before",
        "Picture": f"{look.padding_share:.0%} padding, body {look.body_share:.0%} of the rest",
        "Lung": f"on about {passport.lung_slices} of {z} slices",
    }
    rows = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in facts.items())
    return f"<h2>Scan</h2><table class=facts>{rows}</table>"


def _remarks(report: Report) -> str:
    """Warnings, notes, and how the masks came about."""
    lines = [*report.warnings, *(report.passport.notes if report.passport else ())]
    number = _fitting(lines)
    shown = "".join(f"<li>{escape(_sentence(line))}</li>" for line in lines[:number])
    if number < len(lines):
        shown += f"<li>{len(lines) - number} more in report.json.</li>"
    warnings = f"<ul>{shown}</ul>" if lines else "<p>None.</p>"
    return f"<h2>Warnings</h2>{warnings}"


def _fitting(lines: Sequence[str]) -> int:
    """How many of the lines there is room for; the first one in any case."""
    used = 0
    for number, line in enumerate(lines):
        used += math.ceil(len(line) / _LINE)
        if used > MAX_LINES and number:
            return number
    return len(lines)


def _legend(report: Report, lungs: bool) -> str:
    how = _cuts(report)
    if len(report.models) > 1:
        how += f" Vote: {escape(report.vote)}."
    if report.minimum_mm3:
        whose, median = (" of the vote", " (the median)") if report.threshold is None else ("", "")
        how += f" Parts{whose} smaller than {report.minimum_mm3:g} mm&sup3;{median} left out."
    keys = f"<span class=key style='color:#e69f00'></span>{report.target}"
    if lungs:
        keys += " <span class=key style='color:#56b4e9'></span>lungs"
    return f"{keys}. R: the patient&rsquo;s right. {how}"


def _cuts(report: Report) -> str:
    """From which probability a voxel counts, and why."""
    why = report.operating.partition(": ")[2]
    reason = f" ({escape(why)})" if why else ""
    if report.threshold is not None:
        return f"Probability from {report.threshold:g}{reason}."
    own = [words(model.threshold, model.minimum_mm3) for model in report.models[:MAX_ROWS]]
    left = len(report.models) - MAX_ROWS
    more = f"; {left} more in report.csv" if left > 0 else ""
    return f"Each model at its own{reason}, in their order: {'; '.join(own)}{more}."


def _origin(report: Report) -> str:
    """What is needed to repeat it."""
    programs = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    models = [(model.run, model.sha256) for model in report.models[:MAX_ROWS]]
    if report.lungs:
        models.append((report.lungs.run, report.lungs.sha256))
    hashes = [("scan", report.scan.sha256), *models]
    lines = "<br>".join(f"{escape(name)} {escape(digest)}" for name, digest in hashes)
    return f"<h2>Origin</h2><p class='quiet programs'>{escape(programs)}</p><p class=hashes>SHA-256<br>{lines}</p>"


def _short(id: str) -> str:
    """Beginning and end of a long id."""
    return id if len(id) <= _NAME else f"{id[: _NAME // 2 - 1]}\u2026{id[-_NAME // 2 :]}"


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{''.join(rows)}</table>"


def _row(cells: Sequence[str], main: bool = False) -> str:
    return f"<tr{' class=main' * main}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _size(report: Report, voxels: int) -> str:
    """With its unit."""
    return f"{_number(report, voxels)} {'voxels' if report.scan.voxel_ml is None else 'mL'}"


def _number(report: Report, voxels: int) -> str:
    """mL where the voxel size is known, else voxels; without the unit."""
    if report.scan.voxel_ml is None:
        return f"{voxels:,}"
    ml = voxels * report.scan.voxel_ml
    return f"{ml:.1f}" if ml < 99.95 else f"{ml:,.0f}"


def _percent(share: float | None, unit: str = " %") -> str:
    return "&ndash;" if share is None else f"{100 * share:.1f}{unit}"


def _sentence(line: str) -> str:
    """A warning as a sentence; a run's id at its start keeps its letters."""
    first = line.split(" ", 1)[0]
    return f"{line[:1].upper()}{line[1:]}." if first.isalpha() else f"{line}."
