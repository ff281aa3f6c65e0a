"""Who may import whom. What a user loses otherwise: a dashboard that takes seconds and 600 MB to start, a core that
cannot be used without a web framework, and a prediction that waits for TensorFlow."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "covseg_core"
DASHBOARD = ROOT / "dashboard"

FRAMEWORKS = {"keras", "tensorflow", "torch", "jax", "tf2onnx"}
TRAINING = "covseg_core.training"
"""The one room that may import a framework."""
DOORS = {"covseg_core.worker", "covseg_core.cli.export"}
"""Who comes into it: the worker's process, and the command that makes a run's `model.onnx` again."""
_GROUND = (
    "config", "errors", "files", "isolated_process", "isolation", "paths", "progress", "tables", "temporary", "version",
)  # fmt: skip
GROUND = {f"covseg_core.{name}" for name in _GROUND}
CORE_LAYERS = [
    GROUND,
    {"covseg_core.archive"},
    {"covseg_core.data"},
    {"covseg_core.rendering"},
    {"covseg_core.places"},
    {"covseg_core.runs"},
    {"covseg_core.prediction"},
    {"covseg_core.evaluation"},
    {"covseg_core.figures"},
    {"covseg_core.evidence"},
    {"covseg_core.export"},
    {"covseg_core.cli"},
]
"""Rooms of the core from the ground up: each may import itself and what stands below it, and nothing else."""
BELOW_TRAINING = GROUND | {"covseg_core.data", "covseg_core.places", "covseg_core.runs"}
APART = {"covseg_core", "covseg_core.__main__", "covseg_core.worker"}
"""The package's face, and the entries of its processes."""
SHARED = {"dashboard.services", "dashboard.formatting"}
DASHBOARD_LAYERS: dict[str, set[str]] = {
    "dashboard.formatting": set(),
    "dashboard.navigation": set(),
    "dashboard.sidebar": {"dashboard.formatting", "dashboard.navigation", "dashboard.services.model_catalog"},
    "dashboard.services": {"dashboard.formatting"},
    "dashboard.components": SHARED,
    "dashboard.app_pages": SHARED | {"dashboard.components", "dashboard.navigation"},
    "dashboard.app": {
        "dashboard.navigation",
        "dashboard.sidebar",
        "dashboard.services.fragments",
        "dashboard.services.gate",
        "dashboard.services.startup",
        "dashboard.services.upload_receiver",
        "dashboard.services.url_state",
        "dashboard.services.volume_server",
    },
}
"""What each room of the dashboard may import beside itself and the core; a page never another page."""


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def _imports(path: Path) -> set[str]:
    """Every module a file imports, functions included; `from a import b` gives `a` and `a.b`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; the graph below reads absolute ones"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _path(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


GRAPH = {_module(path): _imports(path) for path in _files(CORE)}


def _reachable(module: str) -> dict[str, str]:
    """Modules imported by `module`, directly or not, each with the one that imports it."""
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        importer = waiting.pop()
        for name in GRAPH.get(importer, ()):
            if name not in found:
                found[name] = importer
                waiting.append(name)
    return found


def _top(name: str) -> str:
    return name.partition(".")[0]


def _in_a_fresh_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def _within(name: str, rooms: set[str]) -> bool:
    """Whether a module is one of these rooms or stands in one."""
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def _ours(path: Path) -> set[str]:
    """Modules of the project that a file imports."""
    return {name for name in _imports(path) if _top(name) in {"covseg_core", "dashboard"} and _path(name).is_file()}


CORE_MODULES = sorted(set(GRAPH) - APART)
OUTSIDE = sorted(name for name in GRAPH if not _within(name, {TRAINING} | DOORS))
PAGES = _files(DASHBOARD)


def test_the_graph_is_read() -> None:
    """The tests below would pass on an empty graph."""
    assert "covseg_core.files" in GRAPH["covseg_core.data.library.datasets"]
    assert "keras" in _reachable("covseg_core.training.unet")
    assert set(GRAPH) >= DOORS
    assert "covseg_core.config" in _ours(_path("dashboard.services.model_catalog"))


@pytest.mark.parametrize("module", CORE_MODULES)
def test_imports_of_the_core_run_down_only(module: str) -> None:
    """What stands below never needs what stands above: a reader can begin at the ground and finds no circle."""
    if _within(module, {TRAINING}):
        allowed = BELOW_TRAINING | {TRAINING}
    else:
        floor = next((floor for floor, rooms in enumerate(CORE_LAYERS) if _within(module, rooms)), None)
        assert floor is not None, f"{module} has no room: give it one in CORE_LAYERS"
        allowed = set().union(*CORE_LAYERS[: floor + 1]) | ({TRAINING} if module in DOORS else set())
    wrong = {name for name in _ours(_path(module)) if name != "covseg_core" and not _within(name, allowed)}
    assert not wrong, f"{module} is not to import these"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: _module(path))
def test_imports_of_the_dashboard_run_down_only(path: Path) -> None:
    """A page that imports another page, or a service that draws, makes every change a change of everything."""
    module = _module(path)
    if module == "dashboard":
        return
    room = next(name for name in sorted(DASHBOARD_LAYERS, key=len, reverse=True) if _within(module, {name}))
    own = ".".join(module.split(".")[:3]) if room == "dashboard.app_pages" else room
    allowed, faces = (
        {own, "covseg_core", *DASHBOARD_LAYERS[room]},
        {"dashboard", "dashboard.app_pages", "dashboard.services"},
    )
    wrong = {name for name in _ours(path) - faces if not _within(name, allowed)}
    assert not wrong, f"{module} is not to import these"


def test_no_module_of_the_dashboard_is_imported_by_a_bare_name() -> None:
    """Streamlit puts the folder of app.py on the path: `import navigation` would work, and make a second copy."""
    bare = {path.relative_to(DASHBOARD).with_suffix("").parts[0] for path in PAGES} - {"__init__"}
    for path in [*PAGES, *_files(ROOT / "benchmarks")]:
        assert not {name for name in _imports(path) if _top(name) in bare}, path


def test_no_two_modules_import_each_other() -> None:
    """Directly or through others: neither could be understood, moved or tested without the other."""
    files = [path for path in (*_files(CORE), *PAGES) if path.name != "__init__.py"]
    graph = {_module(path): _ours(path) for path in files}
    while leaves := {name for name, imports in graph.items() if not (imports - {name}) & graph.keys()}:
        graph = {name: imports for name, imports in graph.items() if name not in leaves}
    assert not graph, f"circles among {sorted(graph)}"


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_the_core_never_imports_streamlit(module: str) -> None:
    assert not {name for name in GRAPH[module] if _top(name) in {"streamlit", "dashboard"}}


@pytest.mark.parametrize("module", OUTSIDE)
def test_only_training_imports_a_framework(module: str) -> None:
    assert not {name for name in GRAPH[module] if _top(name) in FRAMEWORKS}


def test_one_module_speaks_to_a_backend() -> None:
    """Everything else is written against Keras alone, so that TensorFlow, JAX and PyTorch train the same model."""
    backends = {"tensorflow", "tf", "jax", "torch"}
    assert {name for name in GRAPH if {_top(imported) for imported in GRAPH[name]} & backends} == {
        "covseg_core.training.device"
    }


@pytest.mark.parametrize("module", OUTSIDE)
def test_nobody_reaches_training_but_by_its_doors(module: str) -> None:
    """Not even inside a function: importing, evaluating and predicting must work without waiting for TensorFlow."""
    reached = {name: by for name, by in _reachable(module).items() if _within(name, {TRAINING})}
    assert not {name for name, by in reached.items() if by not in DOORS and not _within(by, {TRAINING})}


def test_importing_every_other_module_loads_no_framework_and_no_streamlit() -> None:
    """What the graph cannot see: a third-party package that brings TensorFlow along."""
    apart = {TRAINING, "covseg_core.worker", "covseg_core.__main__"}
    modules = sorted(name for name in GRAPH if not _within(name, apart))
    loaded = _in_a_fresh_python(
        f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\n"
        f"print(*sorted({FRAMEWORKS | {'streamlit'}} & set(sys.modules)))"
    )
    assert loaded == ""


def test_the_dashboard_process_never_imports_a_framework(tmp_path: Path) -> None:
    """Runs every page as a browser would ask for it, sample data included, and looks at what was loaded."""
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
app = AppTest.from_file({str(DASHBOARD / "app.py")!r}, default_timeout=100).run()
assert not app.exception, app.exception
[button] = [b for b in app.button if b.label == "Use sample data"]
button.click().run()
assert not app.exception, app.exception
assert app.dataframe, "the sample data are not listed"
print(*sorted({FRAMEWORKS} & set(sys.modules)))
"""
    assert _in_a_fresh_python(code) == ""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: _module(path))
def test_no_page_names_a_framework_or_training(path: Path) -> None:
    imports, apart = _imports(path), {TRAINING, "covseg_core.worker"}
    assert not {name for name in imports if _top(name) in FRAMEWORKS or _within(name, apart)}


def test_every_package_the_code_imports_is_installed_by_the_requirements() -> None:
    """What is only there because another package brought it, or by hand, is missing on the next computer."""
    called = {"cv2": "opencv-python-headless", "PIL": "pillow", "skimage": "scikit-image"}
    called["python_multipart"] = "python-multipart"
    optional = {"jax", "torch", "tensorflow"}  # which of them is there is the user's choice, or the platform's
    ours = {"covseg_core", "dashboard"}
    core = {_top(name) for names in GRAPH.values() for name in names}
    pages = {_top(name) for path in _files(DASHBOARD) for name in _imports(path)}
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([\w-]+)==", pins, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=]", dependency)[0] for dependency in project["dependencies"]}

    def packages(names: set[str]) -> set[str]:
        return {called.get(name, name) for name in names - ours - optional - sys.stdlib_module_names}

    assert packages(core | pages) <= pinned, "pin it in requirements.txt"
    assert packages(core) <= declared, "name it in pyproject.toml"
    assert declared <= pinned, "pin it in requirements.txt"


def test_a_gpu_gets_the_same_versions_as_a_cpu() -> None:
    """Otherwise a model trained on one machine could not be repeated on the other."""

    def pins(name: str) -> list[str]:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        known = ("#", "tensorflow", "nvidia-")
        return [line for line in lines if "==" in line and not line.startswith(known)]

    assert pins("requirements.txt") == pins("requirements-gpu.txt")
    tensorflow = set(re.findall(r"^tensorflow\S*==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    assert tensorflow == set(re.findall(r"^tensorflow\S*==(\S+)", (ROOT / "requirements-gpu.txt").read_text(), re.M))


def _pins(name: str) -> dict[str, str]:
    """Package -> version, marker and hashes, as in a file of requirements."""
    whole = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    return dict(re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(.+)$", whole, re.MULTILINE))


@pytest.mark.parametrize("name", ["run", "gpu", "dev", "docs"])
def test_every_package_is_pinned_with_its_hashes(name: str) -> None:
    """Otherwise tomorrow's installation is another one, or somebody else's file."""
    top = "requirements.txt" if name == "run" else f"requirements-{name}.txt"
    hashed, bare = _pins(f"requirements/{name}.txt"), _pins(top)
    assert all("--hash=sha256:" in pin for pin in hashed.values())
    assert {package: pin.split(" --hash")[0].split() for package, pin in hashed.items()} == {
        package: pin.split() for package, pin in bare.items()
    }, "make pins"
    wanted = _pins(f"requirements/{name}.in")
    for package, pin in wanted.items():
        assert bare[package.lower()].split()[0] == pin.split()[0], f"{package}: make pins"
    assert len(bare) > len(wanted)


def test_every_installed_package_has_its_licence_in_the_docs() -> None:
    rows = re.findall(r"^\| ([\w.-]+) \| (\S+) \| (.+) \|$", (ROOT / "docs/reference/licences.md").read_text(), re.M)
    other = ("sys_platform != 'linux'", "sys_platform == 'win32'", "sys_platform == 'darwin'", "python_full_version >=")
    pins = {package: pin for package, pin in _pins("requirements.txt").items() if not any(one in pin for one in other)}
    listed = {package: version for package, version, _ in rows}
    assert {package: pin.split()[0] for package, pin in pins.items()}.items() <= listed.items(), "make licences"
    assert {package for package, _, licence in rows if licence == "not said"} <= {"namex"}  # comes with Keras
