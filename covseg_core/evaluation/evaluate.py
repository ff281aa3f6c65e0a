"""How good runs are, honestly: every measure, on the scans' own grids, beside what needs no model.

`docs/reference/metrics.md` defines the measures. An evaluation says over how many slices, scans and patients it is,
whether any of the patients was seen in training, and in which units its distances and volumes are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from covseg_core.config import METRICS, Target
from covseg_core.data.library.datasets import Case, Dataset, load_dataset
from covseg_core.data.reading.volumes import load_mask, load_scan
from covseg_core.data.splitting.split import Selection
from covseg_core.errors import DatasetError, RunError
from covseg_core.evaluation.baselines import DESCRIPTIONS, baselines
from covseg_core.evaluation.candidate import Candidate
from covseg_core.evaluation.measures import Counts, EmptyPolicy, overlap
from covseg_core.evaluation.results import THRESHOLD, VERSION, Comparison, Evaluation
from covseg_core.evaluation.scores import ScanScore, Scores, SliceScore, score_case, summarise
from covseg_core.progress import Progress
from covseg_core.runs import Run

UNKNOWN_SIZE, NO_SURFACES = "Voxel size unknown in", "No HD95 and NSD per scan for"
"""How notes begin that name scans."""
_FEW = 5
"""Patients below which a note warns of chance."""


def evaluate_run(
    run: Run, dataset_name: str | None = None, policy: EmptyPolicy = "nan", progress: Progress | None = None
) -> Evaluation:
    """Score a trained run on its own test part, or on all of another dataset.

    On its own test part `evaluation.json` and `test_predictions.npy` are written into the run's folder.

    Parameters
    ----------
    run : with a `model.onnx`
    dataset_name : another dataset than the run's own
    policy : for measures of two empty masks
    progress : called after each scan, also of training and validation, where their score is not known yet

    Raises
    ------
    RunError : the run has no model, or its dataset has changed since it was made
    DatasetError : the dataset is missing, or has no mask of the run's target
    """
    return evaluate_runs([run], dataset_name, policy, progress).evaluations[0]


def evaluate_runs(
    runs: Sequence[Run],
    dataset_name: str | None = None,
    policy: EmptyPolicy = "nan",
    progress: Progress | None = None,
    workers: int | None = None,
    own: Dataset | None = None,
) -> Comparison:
    """Score several runs on the same slices; files are written as by `evaluate_run`.

    Without a dataset's name the runs must share their test part. With one, they are scored on all of its slices, less
    those that a run made from that very dataset has trained or validated on.

    Parameters
    ----------
    workers : of each `Segmenter`
    own : the runs' own dataset, where it does not lie under its name in the data folder

    Raises
    ------
    RunError, DatasetError : as `evaluate_run`; or the runs differ in target, dataset or test part
    """
    runs = list(dict.fromkeys(runs))
    if not runs:
        raise RunError("evaluate", "no runs", "at least one")
    overlap(Counts(), policy)  # an unknown policy ends here, not after minutes
    target = runs[0].config.target
    _check_same(runs, "target", [run.config.target for run in runs])
    if dataset_name is None:
        _check_same(runs, "dataset", [run.config.dataset for run in runs])
        _check_same(runs, "revision", [run.config.data for run in runs])
    first = runs[0].config
    dataset = own or (load_dataset(dataset_name) if dataset_name else load_dataset(first.dataset, first.fingerprint))
    candidates = [Candidate(run, dataset, workers) for run in runs]
    if dataset_name is None:
        for candidate in candidates:
            candidate.check_own()
        _check_same(runs, "test part", [_ordered(candidate.split.test) for candidate in candidates], _size)
    selection = _selection(dataset, candidates, target)
    whole = all(candidate.seen.own and selection == _ordered(candidate.split.test) for candidate in candidates)

    table = _Table(dataset, selection, target, policy, any(candidate.seen.told for candidate in candidates), whole)
    done, total = 0, _size(selection) + sum(candidate.learned() for candidate in candidates)

    def advance(slices: int) -> None:
        nonlocal done
        done += slices
        if progress is not None:
            progress(done, total)

    for id, chosen in selection.items():
        table.add(dataset.case(id), chosen, candidates)
        advance(len(chosen))
    evaluations = [table.evaluation(candidate, advance) for candidate in candidates]
    if whole:
        for candidate, evaluation in zip(candidates, evaluations, strict=True):
            candidate.keep(evaluation)
    leaky = any(evaluation.leaky for evaluation in evaluations)
    return Comparison(dataset.name, evaluations[0].part, leaky, tuple(evaluations))


@dataclass
class _Rows:
    """Scores of one predictor, growing scan by scan."""

    scans: list[ScanScore] = field(default_factory=list)
    slices: list[SliceScore] = field(default_factory=list)

    def add(self, scored: tuple[ScanScore, list[SliceScore]]) -> None:
        self.scans.append(scored[0])
        self.slices.extend(scored[1])


class _Table:
    """Scores of baselines and candidates; each scan is read once for all of them."""

    def __init__(
        self, dataset: Dataset, selection: Selection, target: Target, policy: EmptyPolicy, tested: bool, kept: bool
    ) -> None:
        self.dataset, self.selection, self.target, self.policy = dataset, selection, target, policy
        self.part, self.kept = "test" if tested else "all", kept
        self.cases = [dataset.case(id) for id in selection]
        self.patients = {case.patient_of(z) for case in self.cases for z in selection[case.id]}
        self.spacing_known = all(case.spacing_known for case in self.cases)
        self.baselines: dict[str, _Rows] = {}
        self.runs: dict[Run, _Rows] = {}

    def add(self, case: Case, chosen: tuple[int, ...], candidates: Sequence[Candidate]) -> None:
        """Score the chosen slices of a scan."""
        spacing, rows = case.spacing if self.spacing_known else None, list(chosen)
        scan = load_scan(self.dataset.path(case, "scan"))
        labels = case.labels if self.target == "infection" else None
        truth = load_mask(self.dataset.path(case, self.target), labels, scan.geometry).voxels[rows]
        lung = None
        if case.lung is not None and self.target != "lung":
            lung = load_mask(self.dataset.path(case, "lung"), None, scan.geometry).voxels[rows]
        for name, mask in baselines(scan.voxels[rows], case.scale, lung, self.target).items():
            scored = score_case(case, chosen, truth, mask, spacing, self.policy)
            self.baselines.setdefault(name, _Rows()).add(scored)
        del scan, lung, mask
        for candidate in candidates:
            scored = score_case(case, chosen, truth, candidate.predict(case, chosen), spacing, self.policy)
            self.runs.setdefault(candidate.run, _Rows()).add(scored)

    def evaluation(self, candidate: Candidate, advance: Callable[[int], None]) -> Evaluation:
        """All about one candidate, once all scans are added."""
        config, history = candidate.config, candidate.run.history()
        rows = self.runs[candidate.run]
        seen, doubts = candidate.seen.patients(self.selection)
        return Evaluation(
            version=VERSION,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            run=candidate.run.id,
            metric=config.metric,
            model_sha256=candidate.sha256,
            target=self.target,
            dataset=self.dataset.name,
            fingerprint=self.dataset.fingerprint,
            part=self.part,
            split=config.split.kind,
            leaky=bool(seen),
            seen_patients=tuple(sorted(seen)),
            policy=self.policy,
            threshold=THRESHOLD,
            slices=_size(self.selection),
            positive_slices=sum(score.counts.truth > 0 for score in rows.slices),
            scans=len(self.cases),
            patients=len(self.patients),
            spacing_known=self.spacing_known,
            units={"distance": "mm", "volume": "mL"} if self.spacing_known else {"distance": "px", "volume": "voxels"},
            own=candidate.own_score(advance),
            training_seconds=sum(row["seconds"] for row in history),
            epochs=len(history),
            model=self._scores("model", f"U-Net chosen by {METRICS[config.metric].score}", rows),
            baselines=tuple(self._scores(name, DESCRIPTIONS[name], rows) for name, rows in self.baselines.items()),
            predictions=candidate.run.test_predictions.name if self.kept else None,
            notes=tuple(self._notes() + doubts),
        )

    def _scores(self, name: str, description: str, rows: _Rows) -> Scores:
        return summarise(name, description, rows.scans, rows.slices, self.policy)

    def _notes(self) -> list[str]:
        notes = []
        unknown = [case.id for case in self.cases if not case.spacing_known]
        if unknown:
            notes.append(f"{UNKNOWN_SIZE} {self._names(unknown)}: distances in px, volumes in voxels.")
        partial = [score.case for score in self.baselines["background"].scans if not score.whole]
        if partial:
            why = "unrelated slices, or not all are evaluated"
            notes.append(f"{NO_SURFACES} {self._names(partial)}: {why}.")
        if self.target == "infection" and any(case.lung is None for case in self.cases):
            notes.append("Not all scans have a lung mask: baselines there use lungs found by threshold and closing.")
        return notes + few_patients(len(self.patients))

    def _names(self, ids: Sequence[str]) -> str:
        if len(ids) == len(self.cases) > 1:
            return f"all {len(ids)} scans"
        return ", ".join(ids) if len(ids) <= _FEW else f"{len(ids)} of {len(self.cases)} scans"


def few_patients(patients: int) -> list[str]:
    """A note, if they are so few that chance decides."""
    people = "1 patient" if patients == 1 else f"{patients} patients"
    return [f"Only {people}: differences between models may well be chance."] if patients < _FEW else []


def _selection(dataset: Dataset, candidates: Sequence[Candidate], target: Target) -> Selection:
    """The slices that have the target's mask, and that no run made from this dataset has learned from."""
    chosen = {case.id: set(range(case.shape[0])) for case in dataset.cases if getattr(case, target) is not None}
    if not chosen:
        raise DatasetError(dataset.name, f"no case has a mask of the {target}", "at least one")
    for candidate in candidates:
        if candidate.seen.own:
            chosen = {id: rows & set(candidate.split.test.get(id, ())) for id, rows in chosen.items()}
        elif candidate.seen.kin:
            chosen = {id: rows - candidate.seen.slices(id) for id, rows in chosen.items()}
    selection = _ordered({id: tuple(rows) for id, rows in chosen.items()})
    if not selection:
        names = ", ".join(candidate.run.id for candidate in candidates)
        raise RunError(names, "no slice is in the test part of all of them", "runs of one split, or another dataset")
    return selection


def _ordered(selection: Selection) -> Selection:
    return {id: tuple(sorted(selection[id])) for id in sorted(selection) if selection[id]}


def _size(selection: Selection) -> int:
    return sum(len(chosen) for chosen in selection.values())


def _check_same(runs: Sequence[Run], what: str, values: Sequence, show: Callable[..., object] = str) -> None:
    for run, value in zip(runs, values, strict=True):
        if value != values[0]:
            first, other = show(values[0]), show(value)
            differ = f" ({first} and {other})" if first != other else ""
            expected = "runs of one experiment, or `--dataset` to compare them on"
            raise RunError(f"{runs[0].id} and {run.id}", f"different {what}s{differ}", expected)
