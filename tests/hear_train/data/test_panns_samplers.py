"""The samplers of PANNs: their orders are those of the original with its seed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from hear_core.errors import ConfigError
from hear_train.data.clips import Clip
from hear_train.data.datasets import DataConfig
from hear_train.data.samplers import (
    SAMPLERS,
    AlternatingSampler,
    ClassQueueSampler,
    ShuffledSampler,
    clips_by_class,
)
from tests import goldens

GOLDEN = goldens.arrays("train/panns")
SEED = 1234
BLACK_LIST = (3, 8, 9, 40)


def clips_of(targets):
    return [Clip(str(i), len, row) for i, row in enumerate(np.packbits(targets, axis=1))]


@pytest.mark.parametrize("excluded", [(), BLACK_LIST])
@pytest.mark.parametrize("which", ["train", "balanced", "alternate"])
def test_the_orders_are_those_of_the_original(which, excluded):
    targets = GOLDEN["sampler_targets"]
    balanced = ClassQueueSampler(clips_by_class(clips_of(targets), 12), SEED, excluded)
    plain = ShuffledSampler(60, SEED, excluded)
    for size, more in ((8, "_blacklist" if excluded else ""), (16, "_b16")):
        if excluded and size == 16:
            continue
        sampler = {
            "train": plain, "balanced": balanced,
            "alternate": AlternatingSampler(balanced, plain, size),
        }[which]  # fmt: skip
        expected = GOLDEN[f"sampler_{which}{more}"].ravel().tolist()
        assert [sampler[place] for place in range(len(expected))] == expected


def plain_balanced(targets, count):
    """The algorithm of the original, clip by clip."""
    state, classes = np.random.RandomState(SEED), targets.shape[1]
    lists = [np.where(targets[:, k] == 1)[0] for k in range(classes)]
    for each in lists:
        state.shuffle(each)
    queue, pointers, found = [], [0] * classes, []
    while len(found) < count:
        if len(queue) == 0:
            queue = np.arange(classes).tolist()
            state.shuffle(queue)
        k = queue.pop(0)
        found.append(int(lists[k][pointers[k]]))
        pointers[k] += 1
        if pointers[k] >= len(lists[k]):
            pointers[k] = 0
            state.shuffle(lists[k])
    return found


def test_the_first_thousand_of_527_classes():
    rng = np.random.default_rng(0)
    targets = rng.random((3000, 527)) < rng.uniform(0.001, 0.02, 527)
    targets[rng.integers(0, 3000, 527), np.arange(527)] = True
    sampler = SAMPLERS["class_queue"](clips_of(targets), 527, SEED, DataConfig())
    assert [sampler[place] for place in range(1000)] == plain_balanced(targets, 1000)
    assert len(sampler) == targets.any(1).sum()


def test_a_place_is_the_same_in_any_order_and_process():
    targets = GOLDEN["sampler_targets"]
    sampler = SAMPLERS["alternate"](clips_of(targets), 12, SEED, DataConfig(batch_size=8))
    found = [sampler[place] for place in range(10_000)]
    copied = pickle.loads(pickle.dumps(sampler))
    for place in (9_999, 5, 0, 4_500):
        assert sampler[place] == copied[place] == found[place]


def test_classes_and_clips_without_labels_are_left_out():
    targets = np.zeros((4, 3), bool)
    targets[[0, 2], 1] = True
    sampler = ClassQueueSampler(clips_by_class([*clips_of(targets), Clip("", len)], 3), SEED)
    assert {sampler[place] for place in range(20)} == {0, 2}
    with pytest.raises(ConfigError, match="no clip has any: use sampler: uniform"):
        ClassQueueSampler(clips_by_class([Clip("", len)], 3), SEED)
