"""What a training takes of the machine: a wrong figure sends somebody after the wrong bottleneck."""

from __future__ import annotations

import subprocess
import sys
import types

import psutil
import pytest

from covseg_core.runs import Status, host, usage
from covseg_core.runs.liveness import this_process

BUSY = """
import subprocess, sys, time
from covseg_core.runs.liveness import this_process
held = bytearray(b"x" * 80_000_000)
child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
print(this_process(), flush=True)
sys.stdin.read()
child.kill(); child.wait()
"""


def test_processor_and_memory_are_those_of_the_process_and_its_children() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout
        process = worker.stdout.readline().decode().strip()
        status = Status("running", host=host(), pid=worker.pid, process=process, device="1 CPU")
        assert usage.usage(status) is not None
        child = psutil.Process(worker.pid).children()[0]
        before = child.cpu_times().user
        while child.cpu_times().user < before + 0.3:  # however busy the machine is
            pass
        seen = usage.usage(status)
        assert seen
        assert 0 < seen.cores < psutil.cpu_count() + 1
        assert 80e6 < seen.memory < 1e9
        assert seen.gpus == ()
        worker.communicate()
    assert usage.usage(status) is None, "it has ended"


def test_a_process_of_another_machine_is_not_looked_for_here() -> None:
    here = Status("running", host=host(), pid=psutil.Process().pid, process=this_process())
    assert usage.usage(here) is not None
    assert usage.usage(Status("running", host="elsewhere", pid=here.pid, process=here.process)) is None
    assert usage.usage(Status("queued", host=host())) is None


def _nvml(**changes: object) -> types.ModuleType:
    """As NVIDIA's library answers."""
    module = types.ModuleType("pynvml")
    answers = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda number: number,
        "nvmlDeviceGetMemoryInfo": lambda handle: types.SimpleNamespace(used=(1 + handle) * 10**9, total=80 * 10**9),
        "nvmlDeviceGetUtilizationRates": lambda handle: types.SimpleNamespace(gpu=40 + handle),
        "NVMLError": type("NVMLError", (Exception,), {}),
    }
    for name, value in (answers | changes).items():
        setattr(module, name, value)
    return module


def test_gpus_are_those_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _nvml())
    assert usage.gpus() == (
        usage.GpuUsage(0, 0.4, 10**9, 80 * 10**9),
        usage.GpuUsage(1, 0.41, 2 * 10**9, 80 * 10**9),
    )
    status = Status("running", host=host(), pid=psutil.Process().pid, process=this_process(), device="1 GPU (H100)")
    seen = usage.usage(status)
    assert seen
    assert len(seen.gpus) == 2


def test_without_a_driver_there_is_no_gpu_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    module = _nvml()

    def fail() -> None:
        raise module.NVMLError("Driver Not Loaded")

    module.nvmlInit = fail
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert usage.gpus() == ()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert usage.gpus() == ()
