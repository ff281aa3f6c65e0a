"""`make mutants`: how many small changes of the code do the tests notice? Not part of pytest or of CI.

mutmut changes one thing at a time in a module (a comparison, an operator, a constant, an argument) and runs the
module's own tests, those at the mirrored path. Changes are made in copies below `.mutants/`, never in the sources, so
that nothing has to be put back whatever happens. `tests/mutants.md` names the changes that no test notices, and why.

    python tests/mutants.py [--jobs 2] [--sample 40] [lesions measures ...]

By default every change of every module that pyproject.toml names; with a sample so many of each, always the same.

mutmut looks inside functions only, not at constants of a module or at decorated functions.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / ".mutants"
NOTICED = ("killed", "timeout", "segfault")
SHOW = "import sys; from mutmut.__main__ import show; [show.callback(name) for name in sys.argv[1:]]"
"""`mutmut show` for many, in one process."""


def main() -> int:
    """Run mutmut on each module by itself and print a table; 1 if it could not run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("modules", nargs="*", help="names such as lesions; all of pyproject.toml by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--sample", type=int, help="changes tried in each module; all by default")
    options = parser.parse_args()
    paths = [Path(path) for path in tomllib.loads(_pyproject())["tool"]["mutmut"]["only_mutate"]]
    if unknown := set(options.modules) - {path.stem for path in paths}:
        parser.error(f"not among the modules of [tool.mutmut] in pyproject.toml: {' '.join(sorted(unknown))}")

    noticed = total = 0
    print(f"{'module':<26}{'mutants':>8}{'noticed':>8}{'survive':>8}{'share':>8}", flush=True)
    for path in paths:
        if options.modules and path.stem not in options.modules:
            continue
        folder = WORK / path.stem
        results = _mutate(path, folder, options.jobs, options.sample)
        if results is None:
            print(f"{path}: mutmut did not finish, see {folder / 'output.txt'}", file=sys.stderr)
            return 1
        here = sum(status in NOTICED for status in results.values())
        _print_row(path.stem, here, len(results))
        noticed, total = noticed + here, total + len(results)
    _print_row("all", noticed, total)
    print(f"The changes that survive: {WORK.relative_to(ROOT)}/*/survivors.diff; the reasons: tests/mutants.md")
    return 0


def _mutate(path: Path, folder: Path, jobs: int, sample: int | None) -> dict[str, str] | None:
    """What became of each change of one module, in a fresh copy: results of yesterday's tests are worth nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("covseg_core", "tests", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "img"))
    (folder / "pyproject.toml").write_text(_narrowed(path), encoding="utf-8")
    chosen: list[str] = []
    with open(folder / "output.txt", "w", encoding="utf-8") as output:
        if sample:
            _mutmut(folder, "run", "none", stdout=output, stderr=subprocess.STDOUT)  # makes the changes, tries none
            names = sorted(_results(folder))
            chosen = random.Random(0).sample(names, min(sample, len(names)))
        ran = _mutmut(folder, "run", "--max-children", str(jobs), *chosen, stdout=output, stderr=subprocess.STDOUT)
    if ran.returncode:
        return None
    results = {name: status for name, status in _results(folder).items() if name in chosen or not sample}
    with open(folder / "survivors.diff", "w", encoding="utf-8") as output:
        survivors = [name for name, status in results.items() if status not in NOTICED]
        _run(folder, sys.executable, "-c", SHOW, *survivors, stdout=output)
    return results


def _results(folder: Path) -> dict[str, str]:
    listed = _mutmut(folder, "results", "--all", "yes", stdout=subprocess.PIPE).stdout
    return dict(re.findall(r"^ +(\S+): (.+)$", listed, re.MULTILINE))


def _narrowed(path: Path) -> str:
    """pyproject.toml for one module and its tests."""
    tests = Path("tests", *path.parts[1:-1], f"test_{path.name}")
    chosen = f'only_mutate = ["{path.as_posix()}"]\npytest_add_cli_args_test_selection = ["{tests.as_posix()}"]'
    return re.sub(r"^only_mutate = \[.*?\]", chosen, _pyproject(), count=1, flags=re.MULTILINE | re.DOTALL)


def _pyproject() -> str:
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def _mutmut(folder: Path, *arguments: str, **streams: object) -> subprocess.CompletedProcess[str]:
    """The command beside this Python."""
    return _run(folder, str(Path(sys.executable).with_name("mutmut")), *arguments, **streams)


def _run(folder: Path, *command: str, **streams: object) -> subprocess.CompletedProcess[str]:
    """PYTHONPATH might name the sources, which are to be found in the copy."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=environment, text=True, **streams)  # type: ignore[call-overload]


def _print_row(name: str, noticed: int, total: int) -> None:
    share = f"{noticed / total:.1%}" if total else "-"
    print(f"{name:<26}{total:>8}{noticed:>8}{total - noticed:>8}{share:>8}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
