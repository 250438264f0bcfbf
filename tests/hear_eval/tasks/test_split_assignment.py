from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_core.errors import ConfigError
from hear_eval.tasks.split_assignment import assign_splits

FIVE = {f"fold{i}": 1.0 for i in range(5)}


@given(
    st.lists(st.integers(5, 30), min_size=1, max_size=6),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_every_class_is_spread_evenly(sizes, seed, random):
    classes = [[str(kind)] for kind, size in enumerate(sizes) for _ in range(size)]
    random.shuffle(classes)
    found = assign_splits(classes, range(len(classes)), FIVE, seed)
    for kind, size in enumerate(sizes):
        counts = Counter(f for f, c in zip(found, classes, strict=True) if c == [str(kind)])
        assert set(counts.values()) <= {size // 5, -(-size // 5)}
    counts = Counter(found)
    assert max(counts.values()) - min(counts.values()) <= len(sizes)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("ab")), min_size=40, max_size=80))
def test_groups_stay_together(drawn):
    groups = [group for group, _ in drawn] + list(range(10))
    found = assign_splits([[c] for _, c in drawn] + [["a"]] * 10, groups, FIVE)
    splits = {
        group: {f for f, g in zip(found, groups, strict=True) if g == group} for group in groups
    }
    assert all(len(split) == 1 for split in splits.values())
    assert set(found) == set(FIVE)


def test_shares_are_kept_in_every_class():
    classes = [["a"]] * 100 + [["b"]] * 40
    found = assign_splits(classes, range(140), {"train": 60, "valid": 20, "test": 20})
    assert Counter(found[:100]) == {"train": 60, "valid": 20, "test": 20}
    assert Counter(found[100:]) == {"train": 24, "valid": 8, "test": 8}


def test_clips_with_several_classes_or_none_are_spread():
    classes = [["a", "b"], ["a"], [], ["b"]] * 25
    found = assign_splits(classes, range(100), FIVE)
    for kind in ("a", "b"):
        counts = Counter(f for f, c in zip(found, classes, strict=True) if kind in c)
        assert all(8 <= count <= 12 for count in counts.values())
    assert set(Counter(f for f, c in zip(found, classes, strict=True) if not c).values()) == {5}


def test_a_seed_gives_the_same_splits_and_another_others():
    classes = [["a"], ["b"]] * 50
    first = assign_splits(classes, range(100), FIVE, 1)
    assert assign_splits(classes, range(100), FIVE, 1) == first
    assert assign_splits(classes, range(100), FIVE, 2) != first


def test_what_cannot_be_split_is_refused():
    with pytest.raises(
        ConfigError, match=r"too few groups of clips \(3\): no clip would be in fold3, fold4"
    ):
        assign_splits([["a"]] * 9, [i % 3 for i in range(9)], FIVE)
    with pytest.raises(ConfigError, match="must be a positive number"):
        assign_splits([["a"]], [0], {"train": 1, "test": 0})
