"""Labels of AudioSet, and selections, thresholds and groups of labels."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from hear_core.errors import ConfigError, unknown
from hear_core.io.yaml_files import read_yaml


@cache
def audioset_labels() -> tuple[str, ...]:
    """Return the 527 classes of AudioSet, in the order of its logits.

    From Gemmeke et al., "Audio Set" (ICASSP 2017), as in ``class_labels_indices.csv``.
    """
    return tuple(row["display_name"] for row in _audioset())


@cache
def audioset_mids() -> Mapping[str, str]:
    """Return the identifier of every class of AudioSet, such as ``/m/09x0r``, by its name."""
    return {row["display_name"]: row["mid"] for row in _audioset()}


def select_classes(text: str, labels: Sequence[str]) -> list[str]:
    """Return the labels that a text lists, separated by commas.

    Upper and lower case make no difference, and a class of AudioSet may be given by its
    identifier. A label with a comma in it is recognised as one.

    >>> choose("speech, Male speech, man speaking,/m/04rlf", audioset_labels())
    ['Speech', 'Male speech, man speaking', 'Music']

    Raises:
        ConfigError: A name is not a label; the nearest ones are given.
    """
    known = {label.casefold(): label for label in labels}
    known |= {mid: label for label, mid in audioset_mids().items() if label in labels}
    parts, chosen = [part.strip() for part in text.split(",")], []
    while parts:
        for length in range(len(parts), 0, -1):
            name = ", ".join(parts[:length])
            if label := known.get(name.casefold()):
                chosen.append(label)
                parts = parts[length:]
                break
        else:
            raise ConfigError(unknown("label", parts[0], labels))
    return chosen


def read_thresholds(path: Path, labels: Sequence[str]) -> dict[str, float]:
    """Read thresholds of classes: YAML, or JSON, of a number by label.

    Raises:
        ConfigError: The file cannot be read so, or names something that is not a label.
    """
    found: dict[str, float] = {}
    for name, value in _read_mapping(path).items():
        if type(value) not in (int, float) or not 0 <= value <= 1:
            msg = f"{path}: the threshold of {name!r} must be a number from 0 to 1, not {value!r}"
            raise ConfigError(msg)
        for label in _chosen(path, [str(name)], labels):
            if label in found:
                msg = f"{path} has two thresholds for {label}"
                raise ConfigError(msg)
            found[label] = float(value)
    return found


def read_groups(path: Path, labels: Sequence[str]) -> dict[str, list[str]]:
    """Read groups of classes: YAML, or JSON, of a list of labels by the name of the group.

    Raises:
        ConfigError: The file cannot be read so, or names something that is not a label.
    """
    found: dict[str, list[str]] = {}
    for name, members in _read_mapping(path).items():
        if str(name) in found or not str(name).strip():
            msg = f"{path}: {str(name)!r} cannot be the name of a group, or is that of two"
            raise ConfigError(msg)
        if not isinstance(members, list) or not members:
            msg = f"{path}: the group {name!r} must be a list of labels, not {members!r}"
            raise ConfigError(msg)
        found[str(name)] = _chosen(path, [str(member) for member in members], labels)
    return found


def group_scores(
    scores: np.ndarray, labels: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> np.ndarray:
    """Return the score of every group, the highest of its members.

    Args:
        scores: Scores (windows, classes).
        labels: Names of the classes, in order.
        groups: Labels by the name of the group.

    Returns:
        (windows, groups).
    """
    index = {label: i for i, label in enumerate(labels)}
    members = [[index[label] for label in group] for group in groups.values()]
    return np.stack([scores[:, group].max(1) for group in members], axis=1)


def _audioset() -> list[dict[str, str]]:
    return _table("audioset_527.csv")


def _table(name: str) -> list[dict[str, str]]:
    text = resources.files("hear_core.zoo").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _chosen(path: Path, names: Sequence[str], labels: Sequence[str]) -> list[str]:
    try:
        return [label for name in names for label in select_classes(name, labels)]
    except ConfigError as error:
        msg = f"{path}: {error}"
        raise ConfigError(msg) from None


def _read_mapping(path: Path) -> dict[Any, Any]:
    found = read_yaml(path)
    if not isinstance(found, dict) or not found:
        msg = f"{path} must map names to values, such as 'Speech: 0.5'"
        raise ConfigError(msg)
    return found


@cache
def audioset_ancestors() -> Mapping[str, frozenset[str]]:
    """Return the identifiers of the more general classes of every class of AudioSet.

    From the ontology of Gemmeke et al., "Audio Set" (ICASSP 2017), as far as the classes are among
    the 527 of AudioSet or the 447 of AudioSet Strong. Abstract classes are left out.
    """
    parents: dict[str, list[str]] = {}
    for row in _table("audioset_parents.csv"):
        parents.setdefault(row["mid"], []).append(row["parent"])
    found: dict[str, frozenset[str]] = {}

    def ancestors(mid: str) -> frozenset[str]:
        if mid not in found:
            above = parents.get(mid, ())
            found[mid] = frozenset(above).union(*map(ancestors, above))
        return found[mid]

    return {mid: ancestors(mid) for mid in parents}


def more_general(mids: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Return the labels that are more general than each of some labels.

    Args:
        mids: Identifiers of AudioSet by label. Labels that are missing, such as those of one's own
            groups, are neither more general nor more specific than others.
    """
    names = {mid: label for label, mid in mids.items()}
    known = audioset_ancestors()
    return {
        label: frozenset(names[above] for above in known.get(mid, ()) if above in names)
        for label, mid in mids.items()
    }
