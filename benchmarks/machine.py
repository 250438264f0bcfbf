"""The machine of a measurement: processor, matrix instructions, versions, and its load."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import torch

# Instructions for matrix products, the fastest first, as ``/proc/cpuinfo`` names them.
_INSTRUCTIONS = (
    "amx_bf16",
    "amx_int8",
    "avx512_bf16",
    "avx512_vnni",
    "avx512f",
    "avx2",
    "bf16",
    "asimd",
)
_PACKAGES = ("torch", "onnxruntime", "numpy")


def processor() -> str:
    """Return the name of the processor."""
    names = _cpuinfo("model name")
    return names[0] if names else platform.processor() or platform.machine()


def matrix_instructions() -> list[str]:
    """Return the instructions for matrix products that the processor has, the fastest first."""
    flags = {flag for line in _cpuinfo("flags") + _cpuinfo("Features") for flag in line.split()}
    return [name for name in _INSTRUCTIONS if name in flags]


def describe_machine() -> str:
    """Return a sentence on the processor, its instructions, the versions and the present load."""
    load = f"; load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    versions = ", ".join(f"{name} {version}" for name in _PACKAGES if (version := _version(name)))
    return (
        f"{processor()}{gpu}, {os.cpu_count()} cores, {' '.join(matrix_instructions())}; "
        f"{versions}, {torch.get_num_threads()} threads{load}"
    )


def results_file(program: str) -> Path:
    """Return the page of a benchmark's results, one for each kind of processor.

    Args:
        program: Path of the benchmark, such as ``benchmarks/extraction.py``.
    """
    kind = (matrix_instructions() or [platform.machine()])[0]
    path = Path(program)
    return path.with_name(f"{path.stem}_{kind}.md")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpuinfo(field: str) -> list[str]:
    """Return the values of a field of ``/proc/cpuinfo``, which only Linux has."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return [line.split(":", 1)[1].strip() for line in lines if line.startswith(field)]
