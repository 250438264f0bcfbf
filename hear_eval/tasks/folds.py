"""Splits for clips that have none: alike in their classes, and reproducible."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from hear_core.errors import ConfigError


def assign(
    classes: Sequence[Sequence[str]],
    groups: Sequence[Hashable],
    shares: Mapping[str, float],
    seed: int = 0,
) -> list[str]:
    """Give every clip a split.

    Groups go, the largest first and else in random order, where clips of their classes are fewest
    by then, for the size of the split.

    Args:
        classes: Of each clip.
        groups: What each clip belongs to; clips of a group are in one split.
        shares: How large each split is to be, relative to the others.
        seed: Another one gives other splits.

    Returns:
        The split of each clip.

    Raises:
        ConfigError: A split would be empty, or a share is not above 0.
    """
    if min(shares.values()) <= 0:
        msg = f"every split needs a share above 0, and not {dict(shares)}"
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
        msg = f"{len(listed)} groups of clips leave nothing for the splits {', '.join(empty)}"
        raise ConfigError(msg)
    return found
