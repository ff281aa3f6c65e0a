"""Who may import whom. What a user loses otherwise: a dashboard that takes seconds and 600 MB to start, a core that
cannot be used without a web framework, and a prediction that waits for TensorFlow."""

from __future__ import annotations

import ast
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
MODEL_MODULES = {
    "covseg_core.training.batches",
    "covseg_core.training.calibrate",
    "covseg_core.training.callbacks",
    "covseg_core.training.device",
    "covseg_core.training.export",
    "covseg_core.training.metrics",
    "covseg_core.training.losses",
    "covseg_core.training.resume",
    "covseg_core.training.train",
    "covseg_core.training.unet",
    "covseg_core.worker",
}
"""Modules that may import a framework."""
COMMANDS = {"covseg_core.cli.export"}
"""May import model modules, inside the function of a command that needs them."""


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


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


def test_the_graph_is_read() -> None:
    """The tests below would pass on an empty graph."""
    assert "covseg_core.files" in GRAPH["covseg_core.data.library.datasets"]
    assert "keras" in _reachable("covseg_core.training.unet")
    assert set(GRAPH) >= MODEL_MODULES | COMMANDS, "a module was renamed: change the sets above"


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_the_core_never_imports_streamlit(module: str) -> None:
    assert not {name for name in GRAPH[module] if _top(name) in {"streamlit", "dashboard"}}


@pytest.mark.parametrize("module", sorted(set(GRAPH) - MODEL_MODULES))
def test_only_model_modules_import_a_framework(module: str) -> None:
    assert not {name for name in GRAPH[module] if _top(name) in FRAMEWORKS}


@pytest.mark.parametrize("module", sorted(set(GRAPH) - MODEL_MODULES - COMMANDS))
def test_other_modules_never_reach_a_model_module(module: str) -> None:
    """Not even inside a function: importing, evaluating and predicting must work without waiting for TensorFlow."""
    reached = _reachable(module)
    assert not {name: importer for name, importer in reached.items() if name in MODEL_MODULES}


def test_importing_every_other_module_loads_no_framework_and_no_streamlit() -> None:
    """What the graph cannot see: a third-party package that brings TensorFlow along."""
    modules = sorted(set(GRAPH) - MODEL_MODULES - {"covseg_core.__main__"})
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


@pytest.mark.parametrize("path", _files(DASHBOARD), ids=lambda path: path.name)
def test_no_page_names_a_framework_or_a_model_module(path: Path) -> None:
    imports = _imports(path)
    assert not {name for name in imports if _top(name) in FRAMEWORKS or name in MODEL_MODULES}
    for name in imports & set(GRAPH):
        assert not MODEL_MODULES & set(_reachable(name)), f"{path} imports {name}, which leads to a model module"


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
        return [line for line in lines if "==" in line and not line.startswith(("#", "tensorflow"))]

    assert pins("requirements.txt") == pins("requirements-gpu.txt")
    tensorflow = set(re.findall(r"^tensorflow\S*==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    assert tensorflow == set(re.findall(r"^tensorflow\S*==(\S+)", (ROOT / "requirements-gpu.txt").read_text(), re.M))
