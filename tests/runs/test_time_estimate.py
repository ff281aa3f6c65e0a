"""How long a training will take: a figure that is far off costs a night, or a training that nobody dared to start."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time

import pytest

from covseg_core import runs
from covseg_core.config import PRESETS, ModelConfig, PrepareConfig, RunConfig, SplitConfig
from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.splitting.split import Split, make_split
from covseg_core.errors import CovsegError
from covseg_core.files import write_json
from covseg_core.runs import Status, host, pace, time_estimate
from covseg_core.runs.time_estimate import FORWARD, STARTUP, Calibration, Measurement, Network

CPU = "1 CPU (2 cores), tensorflow, float32"


def network(name: str = "quick", **train: object) -> Network:
    preset = PRESETS[name]
    return Network(preset.prepare, preset.model, dataclasses.replace(preset.train, **train))


@pytest.fixture
def dataset(phantoms: str) -> Dataset:
    return load_dataset(phantoms)


@pytest.fixture
def split(dataset: Dataset) -> Split:
    return make_split(dataset, SplitConfig())


def trained(
    name: str, of: Network, split: Split, seconds: list[float], steps: int = 10, queued: float = 1.0, **status: object
) -> runs.Run:
    """A run that trained epochs of so many seconds."""
    config = RunConfig(
        name, "e", "d", "0", "dice", "quick", "", "infection", of.prepare, split.config, of.model, of.train
    )
    run = runs.create_run(config, split)
    rows = [{"epoch": float(number), "seconds": took} for number, took in enumerate(seconds, start=1)]
    run.write_history(rows)
    state = Status("finished", queued=queued, host=host(), device=CPU, epoch=len(seconds), epochs=9, steps=steps)
    run.write_status(dataclasses.replace(state, **status))  # type: ignore[arg-type]
    return run


def measured(*found: Measurement) -> None:
    write_json(time_estimate._calibration_json(), Calibration(found))


def measurement(of: Network, seconds: float, device: str = CPU, where: str = "") -> Measurement:
    return Measurement(where or host(), of.key, of.macs, device, seconds, 7.0)


def test_multiply_accumulates_of_the_thesis() -> None:
    """12.03 GMAC a slice; a quarter of the pixels cost a quarter."""
    assert time_estimate.multiply_accumulates(256, 32) == pytest.approx(12.03e9, rel=1e-3)
    assert time_estimate.multiply_accumulates(128, 32) == pytest.approx(time_estimate.multiply_accumulates(256, 32) / 4)


def test_nothing_known_is_said_to_be_unknown(dataset: Dataset, split: Split) -> None:
    assert time_estimate.estimate(network(), split, dataset, [16]) is None


def test_work_counts_what_an_epoch_sees(dataset: Dataset, split: Split) -> None:
    voxels = {case.id: case.infection_voxels or () for case in dataset.cases}
    hits = [voxels[case][z] > 0 for case, chosen in split.train.items() for z in chosen]
    validation = sum(map(len, split.validation.values()))
    whole = len(hits) + FORWARD * validation
    assert time_estimate.work(split, dataset, 1.0) == pytest.approx(whole)
    assert time_estimate.work(split, dataset, 0.0) == pytest.approx(sum(hits) + FORWARD * validation)


def test_the_last_runs_of_the_same_network_count_most(dataset: Dataset, split: Split) -> None:
    """The first epoch, with its tracing, does not."""
    validation = FORWARD * sum(map(len, split.validation.values()))
    a_run = 10 * 8 + validation  # steps, slices a batch
    trained("a", network(), split, [50.0, a_run * 0.02, a_run * 0.02, a_run * 0.9])
    measured(measurement(network(), 99.0))
    found = time_estimate.estimate(network(), split, dataset, [10, 20])
    assert found is not None
    assert found.speed.basis == "runs"
    assert found.speed.seconds_per_slice == pytest.approx(0.02)
    an_epoch = 0.02 * time_estimate.work(split, dataset, network().train.empty_share)
    assert found.epoch_seconds == pytest.approx(an_epoch)
    assert found.seconds == pytest.approx(2 * 7.0 + 30 * an_epoch), "the measured start-up of each run, and its epochs"
    assert "the last run" in found.origin


def test_estimates_follow_a_running_run(dataset: Dataset, split: Split) -> None:
    """Refined as epochs pass."""
    run = trained("a", network(), split, [10.0], state="running", heartbeat=time.time())
    first = time_estimate.find_speed(network())
    run.write_history([{"epoch": float(n), "seconds": s} for n, s in ((1, 10.0), (2, 5.0))])
    second = time_estimate.find_speed(network())
    assert first is not None
    assert second is not None
    assert second.seconds_per_slice == pytest.approx(first.seconds_per_slice / 2)


def test_seed_and_epochs_do_not_make_another_network() -> None:
    assert network().key == network(seed=3, epochs=99, learning_rate=0.1).key
    assert network().key != network(batch=16).key
    assert network().key != network("standard").key


def test_a_measurement_of_the_network_comes_before_other_networks_runs(split: Split) -> None:
    trained("a", network("standard"), split, [1.0, 1.0])
    measured(measurement(network(), 0.5))
    speed = time_estimate.find_speed(network())
    assert speed is not None
    assert (speed.basis, speed.seconds_per_slice) == ("measured", 0.5)


def test_other_networks_are_scaled_by_their_multiply_accumulates_and_it_says_so(dataset: Dataset, split: Split) -> None:
    measured(measurement(network("quick"), 0.01), measurement(network("standard"), 0.05))
    found = time_estimate.estimate(network("paper"), split, dataset, [1])
    assert found is not None
    ratio = network("paper").macs / network("standard").macs
    assert found.speed.seconds_per_slice == pytest.approx(0.05 * ratio), "of the nearest one"
    assert found.speed.startup == 7.0
    assert "scaled" in found.origin
    assert "factor" in found.origin


def test_a_toy_says_nothing_of_a_real_network(dataset: Dataset, split: Split) -> None:
    """Its steps cost mostly what is not multiplied: scaled up, three minutes became an hour and a half."""
    toy = dataclasses.replace(network(), prepare=PrepareConfig(size=64), model=ModelConfig(filters=4))
    measured(measurement(toy, 0.02))
    assert time_estimate.estimate(network("quick"), split, dataset, [1]) is None
    assert time_estimate.find_speed(toy) is not None


def test_another_computer_says_nothing_about_this_one(split: Split) -> None:
    """Checkpoints and data can lie on a shared disk."""
    trained("a", network(), split, [1.0, 1.0], host="elsewhere")
    measured(measurement(network(), 0.5, where="elsewhere"))
    assert time_estimate.find_speed(network()) is None


def test_a_new_device_is_not_mixed_with_the_old(split: Split) -> None:
    """After a GPU was built in, the CPU's runs would be wrong by a factor of fifty."""
    trained("a", network(), split, [90.0, 90.0], queued=1.0)
    trained("b", network(), split, [2.0, 2.0], queued=2.0, device="1 GPU (NVIDIA H100), tensorflow, mixed_bfloat16")
    speed = time_estimate.find_speed(network())
    assert speed is not None
    assert "GPU" in speed.device
    assert speed.runs == 1
    assert speed.startup == STARTUP


GPU = "1 GPU (NVIDIA H100), tensorflow, mixed_bfloat16"


def test_a_gpu_that_takes_larger_batches_says_so_and_counts_their_slices(dataset: Dataset, split: Split) -> None:
    """With the batch of the settings, a step of 32 slices would look four times as slow."""
    run = trained("a", network(), split, [9.0, 5.0], device=GPU)
    write_json(run.folder / pace.FILE, pace.Pace(32, 4e-3, True))
    found = time_estimate.estimate(network(), split, dataset, [1])
    assert found is not None
    validation = FORWARD * sum(map(len, split.validation.values()))
    assert found.speed.seconds_per_slice == pytest.approx(5.0 / (10 * 32 + validation))
    assert found.speed.chosen == "batch 32 and learning rate 0.004 on this GPU, in place of 8 and 0.002"
    own = time_estimate.find_speed(
        Network(network().prepare, network().model, dataclasses.replace(network().train, batch=8, scale_batch=False))
    )
    assert own is not None
    assert (own.basis, own.chosen) == ("scaled", ""), "whoever asks for 8 is not told the time of 32"


def test_a_measured_batch_is_kept_beside_that_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Network(network().prepare, network().model, dataclasses.replace(network().train, batch=8, scale_batch=False))
    for of, batch, rate, seconds in ((network(), 32, 4e-3, 0.1), (own, 8, 2e-3, 0.3)):
        answer = {"device": GPU, "seconds_per_slice": seconds, "startup": 3.0, "batch": batch, "learning_rate": rate}
        with monkeypatch.context() as patch:
            answer_with(patch, f"print({json.dumps(answer)!r})")
            time_estimate.measure(of)
    found = time_estimate.find_speed(own)
    assert found is not None
    assert (found.seconds_per_slice, found.chosen) == (0.3, "")
    assert [one.batch for one in time_estimate.measurements()] == [32, 0]


def test_epoch_slices_are_what_an_epoch_holds(dataset: Dataset, split: Split) -> None:
    whole = sum(map(len, split.train.values()))
    assert time_estimate.epoch_slices(split, dataset, 1.0) == whole
    assert 0 < time_estimate.epoch_slices(split, dataset, 0.0) < whole


def test_broken_runs_and_a_broken_calibration_cost_nothing_but_themselves(split: Split) -> None:
    good = trained("a", network(), split, [1.0, 1.0])
    for name, file in (("b", "config.json"), ("c", "status.json"), ("d", "split.json")):
        (trained(name, network(), split, [5.0, 5.0]).folder / file).write_text("{")
    trained("e", network(), split, []).write_history([])
    time_estimate._calibration_json().write_text("[1")
    speed = time_estimate.find_speed(network())
    assert speed is not None
    assert speed.runs == 1, good.id


def answer_with(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda args, **more: real([sys.executable, "-c", code], **more))


def test_a_measurement_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = json.dumps({"device": CPU, "seconds_per_slice": 0.25, "startup": 3.0})
    answer_with(monkeypatch, f"print('a word of a library'); print({answer!r})")
    for _ in range(2):
        found = time_estimate.measure(network())
    assert found == Measurement(host(), network().key, network().macs, CPU, 0.25, 3.0)
    assert time_estimate.measurements() == (found,), "the newer replaces the older"


@pytest.mark.parametrize(
    ("code", "words"),
    [("raise MemoryError('12 GB')", "MemoryError: 12 GB"), ("print('what?')", "no result"), ("", "no result")],
)
def test_a_measurement_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, code: str, words: str) -> None:
    answer_with(monkeypatch, code)
    with pytest.raises(CovsegError, match=words):
        time_estimate.measure(network())
    assert time_estimate.measurements() == ()


def ended(started: list[subprocess.Popen[bytes]]) -> bool:
    return bool(started) and all(child.poll() is not None for child in started)


@pytest.mark.parametrize("how", ["cancelled", "too long"])
def test_a_measurement_can_be_ended_and_takes_its_process_along(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """A forgotten process would keep a core busy."""
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def popen(args: list[str], **more: object) -> subprocess.Popen[bytes]:
        started.append(real([sys.executable, "-c", "import time; time.sleep(600)"], **more))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)

    class Cancelled(Exception):
        pass

    def check() -> None:
        if how == "cancelled":
            raise Cancelled

    with pytest.raises(Cancelled if how == "cancelled" else CovsegError):
        time_estimate.measure(network(), check, timeout=0.5)
    assert ended(started)
