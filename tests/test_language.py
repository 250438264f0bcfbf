"""Language of sources, help texts and pages: the field's terms, in complete phrases."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = (
    *("hear_core", "hear_mn", "hear_sed", "hear_eval", "hear_train", "hear_cli"),
    *("embeddings_configs", "training_configs"),
)
PAGES = ("README.md", "CONTRIBUTING.md", "docs", "benchmarks")

# A phrase and what to write instead. A blank matches a line break in a comment or text as well.
# "There is no file" is as good English as any; "the file is no table" is not.
IDIOMS = {
    r"\b(is|are|was|were) no (?!longer\b)": "is not a",
    r"\b(is|are|was|were) none\b(?! of\b)": "is missing, is empty",
    r"\bto be had\b": "is available",
    r"\bmeans? nothing\b": "is not meaningful",
    r"\b(goes?|went|going) on\b(?! to\b)": "continues, resumes",
    r"\bcut off\b": "truncated, interrupted",
    r"\blessons?\b": "batch",
    r"\b(hears|heard)\b": "processes, detects",
    r"\bnothing at all\b": "nothing",
    r"\bat hand\b": "available",
    r"\basked for\b": "requested",
    r"\b(says|said) of\b": "predicts for",
    # A description of a parameter is a noun phrase.
    r"(?m)^\s{4,}\w+: (Of|In|As|With|From) (?=\w)": "a noun phrase",
    r"\bhelp=f?\"(Of|In|As|With|From) (?=\w)": "a noun phrase",
    r"(?m)^\s{4,}\w+: (What|How|Which|Where|That) (?=\w)": "a noun phrase",
    r"(?m)^\s{8,}\w+: \((batch|clips|rows|samples|windows|frames|n_mels), ": "a noun first",
    r"\"{3}(Base of|What|How|Which|Those) (?=\w)": "a phrase that names the subject",
    r"\bstands? for\b": "covers, is",
}
# Former names, and the names that replaced them.
NAMES = {
    "Lesson": "Batch",
    "Lessons": "a batch source",
    "Listening": "preprocessing and a teacher",
    "Blur": "SpecAugment",
    "Moments": "timestamps",
    "untrained": "random_init",
    "outline": "skeleton",
    "mirrored": "reflect",
    "whole": "atomic_write",
    "settle": "check_or_write_settings",
    "widened": "pad_channels",
    "start_at": "init_output_bias",
    "nearness": "agreement",
    "in_parts": "chunked",
}
# Phrases in which one of these words has its usual meaning.
ALLOWED = ("what can be heard in recordings",)


def files(place, *suffixes):
    path = ROOT / place
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in suffixes)


@pytest.mark.parametrize("place", [*PACKAGES, *PAGES])
def test_phrases(place):
    found = []
    for file in files(place, ".py", ".md", ".yaml", ".html"):
        text = file.read_text("utf-8")
        for phrase in ALLOWED:
            text = text.replace(phrase, "-" * len(phrase))
        for pattern, better in IDIOMS.items():
            for match in re.finditer(pattern.replace(" ", r"[\s#]+"), text):
                if re.search(r"(?i)\bthere[\s#]+$", text[: match.start()]):
                    continue
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{file.relative_to(ROOT)}:{line}: {match[0].strip()!r}: {better}")
    assert not found, "\n".join(found)


def defined(file):
    """Yield the names that a module defines: functions, classes, parameters and attributes."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.lineno, node.target.id


@pytest.mark.parametrize("package", PACKAGES)
def test_names(package):
    found = [
        f"{file.relative_to(ROOT)}:{line}: {name}: {NAMES[name.strip('_')]}"
        for file in files(package, ".py")
        for line, name in defined(file)
        if name.strip("_") in NAMES
    ]
    assert not found, "\n".join(found)


# Names of commands.
COMMON = {"main", "mix", "resample", "weights"}


def test_a_public_name_is_defined_once():
    places = defaultdict(list)
    for package in PACKAGES:
        for file in files(package, ".py"):
            for node in ast.parse(file.read_text("utf-8")).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    places[node.name].append(str(file.relative_to(ROOT)))
    twice = {name: found for name, found in places.items() if len(found) > 1 and name[0] != "_"}
    assert {name: found for name, found in twice.items() if name not in COMMON} == {}


def test_no_two_files_share_ten_lines():
    places = defaultdict(set)
    for folder in (*PACKAGES, "benchmarks", "tests"):
        for file in files(folder, ".py"):
            lines = [" ".join(line.split()) for line in file.read_text("utf-8").splitlines()]
            lines = [line for line in lines if re.search(r"\w", line) and not is_import(line)]
            for start in range(len(lines) - 9):
                places[tuple(lines[start : start + 10])].add(str(file.relative_to(ROOT)))
    assert [(sorted(found), block[0]) for block, found in places.items() if len(found) > 1] == []


def is_import(line):
    return line.startswith(("import ", "from "))
