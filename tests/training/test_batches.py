"""An epoch is a function of seed and number: without it a resumed run would not be the run that was interrupted."""

from __future__ import annotations

import numpy as np
import pytest

from covseg_core.config import AugmentConfig, TrainConfig
from covseg_core.data.slices.slice_set import SliceSet
from covseg_core.training.batches import PlainBatches, TrainingBatches

pytestmark = pytest.mark.training


def _slices(positive: int = 6, empty: int = 5) -> SliceSet:
    """Slices whose grey value is their number; the first ones have a target pixel."""
    count = positive + empty
    images = np.repeat(np.arange(count, dtype=np.uint8), 16 * 16).reshape(count, 16, 16)
    masks = np.zeros_like(images)
    masks[:positive, 3, 4] = 1
    return SliceSet(images, masks, ("case",) * count, np.arange(count))


def _numbers(batches: TrainingBatches | PlainBatches) -> list[int]:
    return [int(image[0, 0, 0]) for index in range(len(batches)) for image in batches[index][0]]


def test_an_epoch_holds_every_slice_once():
    batches = TrainingBatches(_slices(), TrainConfig(batch=4))
    assert len(batches) == 3
    assert sorted(_numbers(batches)) == list(range(11))


def test_shapes_and_types():
    images, masks = TrainingBatches(_slices(), TrainConfig(batch=4))[0]
    assert (images.shape, images.dtype) == ((4, 16, 16, 1), np.uint8)
    assert (masks.shape, masks.dtype) == ((4, 16, 16, 1), np.uint8)


def test_epochs_differ_and_repeat_by_seed():
    config = TrainConfig(batch=4, seed=3, augment=AugmentConfig(flip=True, noise=0.2))
    through, started_there = TrainingBatches(_slices(), config), TrainingBatches(_slices(), config)
    first = _numbers(through)
    for epoch in (1, 2):
        through.start_epoch(epoch)
    started_there.start_epoch(2)
    assert _numbers(through) == _numbers(started_there) != first
    assert all(np.array_equal(a, b) for a, b in zip(through[1], started_there[1], strict=True))


def test_asking_twice_for_a_batch_gives_the_same():
    """Keras asks for the first batches once more, to see their shapes."""
    batches = TrainingBatches(_slices(), TrainConfig(batch=4, augment=AugmentConfig(shift=0.2, noise=0.2)))
    assert all(np.array_equal(a, b) for a, b in zip(batches[0], batches[0], strict=True))


def test_augmentation_leaves_the_slices_in_memory_alone():
    slices = _slices()
    before = slices.images.copy()
    batches = TrainingBatches(slices, TrainConfig(batch=11, augment=AugmentConfig(noise=0.5)))
    assert not np.array_equal(np.sort(batches[0][0].ravel()), np.sort(before.ravel()))
    assert np.array_equal(slices.images, before)


def test_empty_share_keeps_all_slices_with_target_and_varies_the_others():
    config = TrainConfig(batch=4, empty_share=0.4)
    batches, epochs = TrainingBatches(_slices(), config), []
    for epoch in range(8):
        batches.start_epoch(epoch)
        epochs.append(set(_numbers(batches)))
    assert all(set(range(6)) <= numbers and len(numbers) == 8 for numbers in epochs)
    assert set.union(*epochs) == set(range(11))


def test_a_set_without_any_target_still_gives_a_batch():
    assert len(TrainingBatches(_slices(positive=0), TrainConfig(batch=4, empty_share=0.0))) == 1


def test_validation_keeps_order_and_pixels():
    slices = _slices()
    assert _numbers(PlainBatches(slices, 4)) == list(range(11))
    assert np.array_equal(PlainBatches(slices, 4)[1][1][..., 0], slices.masks[4:8])


@pytest.mark.parametrize("multiple", [2, 4, 8])
def test_batches_are_filled_with_slices_of_weight_zero(multiple):
    """Devices share a batch equally; the repeated slices must not count."""
    images, _, weights = PlainBatches(_slices(), 4, multiple)[2]
    assert len(images) % multiple == 0
    assert weights.sum() == 3
    assert images[:3, 0, 0, 0].tolist() == [8, 9, 10]


def test_balance_draws_patients_alike():
    """Without it a patient with many slices is most of what a model sees."""
    slices = _slices(positive=100, empty=0)
    patients = ("many",) * 90 + tuple(f"one{number}" for number in range(10))
    slices = SliceSet(slices.images, slices.masks, slices.cases, slices.z, patients)
    shares = {}
    for balance in (0.0, 0.5, 1.0):
        batches = TrainingBatches(slices, TrainConfig(batch=10, balance=balance))
        drawn = []
        for epoch in range(40):
            batches.start_epoch(epoch)
            drawn += _numbers(batches)
        assert len(drawn) == 4000
        shares[balance] = np.mean(np.array(drawn) < 90)
    assert shares[0.0] == 0.9
    assert abs(shares[0.5] - 90**0.5 / (90**0.5 + 10)) < 0.03
    assert abs(shares[1.0] - 1 / 11) < 0.02


def test_a_slice_drawn_twice_is_changed_in_two_ways():
    slices = _slices(positive=2, empty=0)
    slices = SliceSet(slices.images, slices.masks, slices.cases, slices.z, ("a", "b"))
    config = TrainConfig(batch=2, balance=1.0, augment=AugmentConfig(noise=0.5))
    batches = TrainingBatches(slices, config)
    for epoch in range(20):
        batches.start_epoch(epoch)
        if batches._order[0] == batches._order[1]:
            break
    images, _ = batches[0]
    assert not np.array_equal(images[0], images[1])
