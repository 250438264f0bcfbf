"""Split assignment: reproducible, class-balanced splits for clips that have none."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from hear_core.errors import ConfigError


def assign_splits(
    classes: Sequence[Sequence[str]],
    groups: Sequence[Hashable],
    shares: Mapping[str, float],
    seed: int = 0,
) -> list[str]:
    """Assign every clip to a split so that the splits have similar class distributions.

    Groups are assigned one after the other, the largest first and groups of equal size in random
    order. Each goes to the split that has the fewest clips of its classes, relative to the size of
    the split.

    Args:
        classes: Classes of each clip.
        groups: Group of each clip. All clips of a group are assigned to the same split.
        shares: Relative size of each split.
        seed: Seed of the random order.

    Returns:
        The split of each clip.

    Raises:
        ConfigError: A split would be empty, a share is not a positive number, or the seed is
            negative.
    """
    if not all(0 < share < math.inf for share in shares.values()):
        msg = f"the share of every split must be a positive number, but they are {dict(shares)}"
        raise ConfigError(msg)
    if seed < 0:
        msg = f"the seed must be at least 0, but is {seed}"
        raise ConfigError(msg)
    members: dict[Hashable, list[int]] = defaultdict(list)
    for clip, group in enumerate(groups):
        members[group].append(clip)
    kinds = [tuple(sorted(set(found))) or ("",) for found in classes]
    totals = Counter(name for kind in kinds for name in kind)
    rng = np.random.default_rng(seed)
    listed = list(members.values())
    order = sorted(rng.permutation(len(listed)), key=lambda i: -len(listed[i]))
    counts: dict[str, Counter[str]] = {split: Counter() for split in shares}
    sizes: Counter[str] = Counter()
    found = [""] * len(kinds)
    for index in order:
        clips = listed[index]
        wanted = Counter(name for clip in clips for name in kinds[clip])

        def fullness(split: str, wanted: Counter[str] = wanted) -> tuple[float, float]:
            filled = counts[split]
            classes = sum(n * filled[name] / totals[name] for name, n in wanted.items())
            return classes / shares[split], sizes[split] / shares[split]

        split = min(shares, key=fullness)
        counts[split] += wanted
        sizes[split] += len(clips)
        for clip in clips:
            found[clip] = split
    if empty := [split for split in shares if not sizes[split]]:
        msg = (
            f"there are too few groups of clips ({len(listed)}): "
            f"no clip would be in {', '.join(empty)}"
        )
        raise ConfigError(msg)
    return found
