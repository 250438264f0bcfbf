"""Mutations of valid input: bytes, text, nested values and tensors, from a seeded generator."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

NAMES = [
    "",
    " ",
    ".",
    "..",
    "../../../x",
    "/tmp/x",
    "a\0b",
    "a/b",
    "a\\b",
    300 * "x",
    "\ud800",
    "~",
]
NUMBERS: list[Any] = [
    *(True, -1, 0, 1, 0.5, 1e12, 10**400, int("9" * 401)),
    *(float("inf"), float("-inf"), float("nan"), -0.0, 2**63),
]
VALUES: list[Any] = [None, *NAMES, *NUMBERS, "1", "nan", [], {}, [[]], [1], {"a": 1}, "2001-99-99"]
CONTENTS = [
    *(b"", b"[]", b"{}", b"null", b"3", b'"text"', b"[" * 5000, b'{"a":' * 5000, b"\xff\xfe"),
    *(
        b"PK\3\4" + bytes(50),
        b"\x93NUMPY\1\0",
        b"\x89HDF\r\n\x1a\n" + bytes(64),
        b"RIFF\xff\xff\xff\xff",
    ),
    *(b"ID3\4\0\0\x7f\x7f\x7f\x7f", b"OggS\0\2" + bytes(30), b"fLaC\0\0\0\x22" + b"\xff" * 34),
    *(b"\x80\4\x95", b"a: 1\na: 2\n", b"- &a [*a]", b"!!python/object/apply:os.system [ls]"),
]
WORDS = [
    *("nan", "inf", "-1", "1e400", "9" * 401, "2001-99-99", "null", "true", "~", "[]", "{}", '"'),
    *("[" * 5000, "../../../x", "/tmp/x", "a: b: c", "*a", "&a", "!!python/name:os.system", "\x00"),
    *(
        "'",
        ",",
        ";",
        "\t",
        "\n",
        "\r\n",
        "\ufeff",
        "é",
        "-" * 40,
        "<<: *a",
        "1_000",
        "0x10",
        "1:30",
    ),
]


def mutated_bytes(content: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """Return bytes that are damaged in one of nine ways.

    Args:
        content: Valid content.
        rng: Generator of the mutation.
        other: Other valid content, which may be spliced in.
    """
    if not content:
        return rng.choice(CONTENTS)
    data, size = bytearray(content), len(content)
    at, count = rng.randrange(size), rng.randrange(1, 1 + min(size, 64))
    head = rng.randrange(min(size, 128))  # headers are where it hurts
    match rng.randrange(9):
        case 0:
            for _ in range(rng.randrange(1, 8)):
                data[rng.randrange(size)] ^= 1 << rng.randrange(8)
        case 1:
            data[head : head + 4] = rng.choice(
                [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"]
            )
        case 2:
            data[head : head + count] = rng.randbytes(count)
        case 3:
            del data[at:]
        case 4:
            del data[at : at + count]
        case 5:
            data[at:at] = data[head : head + count] * rng.choice([1, 1, 50])
        case 6:
            data[at : at + count] = bytes(count)
        case 7:
            data[at:] = (other or content)[rng.randrange(size) :]
        case _:
            data = bytearray(rng.choice(CONTENTS))
    return bytes(data)


def mutated_text(text: str, rng: random.Random) -> bytes:
    """Return text in which a word, a line or bytes are damaged, in UTF-8."""
    lines = text.splitlines(keepends=True) or [""]
    index = rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            lines[index:index] = [lines[rng.randrange(len(lines))]]
        case 1:
            del lines[index]
        case 2:
            words = lines[index].replace(",", " , ").split(" ")
            words[rng.randrange(len(words))] = rng.choice(WORDS)
            lines[index] = " ".join(words).replace(" , ", ",")
        case 3:
            key, colon, _ = lines[index].partition(":")
            lines[index] = f"{key}{colon} {rng.choice(WORDS)}\n"
        case 4:
            at = rng.randrange(len(lines[index]) + 1)
            lines[index] = lines[index][:at] + rng.choice(WORDS) + lines[index][at:]
        case _:
            return mutated_bytes(text.encode(), rng)
    return "".join(lines).encode("utf-8", "surrogatepass")


def mutated_value(value: Any, rng: random.Random) -> Any:
    """Return a nested value with one part removed, renamed, added or replaced."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key, kept = rng.choice(list(value)), dict(value)
        match rng.randrange(7):
            case 0:
                del kept[key]
            case 1:
                kept[rng.choice(NAMES)] = kept.pop(key)
            case 2:
                kept["unknown"] = rng.choice(VALUES)
            case _:
                kept[key] = mutated_value(value[key], rng)
        return kept
    if isinstance(value, list) and value and rng.random() < 0.8:
        index = rng.randrange(len(value))
        return [*value[:index], mutated_value(value[index], rng), *value[index + 1 :]]
    return rng.choice(VALUES)


ARRAYS: list[Callable[[np.ndarray], Any]] = [
    lambda x: x.astype(np.float64),
    lambda x: x.astype(np.float16),
    lambda x: (x * 32767).astype(np.int16),
    lambda x: x > 0,
    lambda x: x.astype(np.complex64),
    lambda x: np.where(np.arange(x.shape[-1]) == 5, np.nan, x).astype(np.float32),
    lambda x: np.where(np.arange(x.shape[-1]) == 5, np.inf, x).astype(np.float32),
    lambda x: x * 1e38,
    lambda x: x * 1e-38,
    lambda x: x * 0,
    lambda x: x[..., ::-1],
    lambda x: x[..., ::2],
    lambda x: x[..., :0],
    lambda x: x[..., :1],
    lambda x: x[..., :2],
    lambda x: x[..., : x.shape[-1] // 3],
    lambda x: x[None],
    lambda x: x.T,
    lambda x: np.asfortranarray(x),
    lambda x: x.astype(">f4"),
    lambda x: x.astype(object),
    lambda x: x.astype(str),
    lambda x: np.float32(0.5),
    lambda x: x.tolist(),
    lambda x: None,
    lambda x: "text",
    lambda x: np.ma.masked_array(x, x > 0),
    lambda x: x[:0],
]
"""Changes of an array of audio; not all of them make it invalid."""

TENSORS: list[Callable[[torch.Tensor], Any]] = [
    lambda x: x.double(),
    lambda x: x.half(),
    lambda x: x.bfloat16(),
    lambda x: x.int(),
    lambda x: x > 0,
    lambda x: x.to(torch.complex64),
    lambda x: x.to_sparse(),
    lambda x: x.to("meta"),
    lambda x: x.requires_grad_(),
    lambda x: x.flip(-1),
    lambda x: x[..., ::2],
    lambda x: x.t() if x.ndim == 2 else x[:, None],
    lambda x: x[..., :0],
    lambda x: x[..., :1],
    lambda x: x[..., :7],
    lambda x: x[:0],
    lambda x: x[None],
    lambda x: x * float("nan"),
    lambda x: x * float("inf"),
    lambda x: x * 1e38,
    lambda x: x * 0,
    lambda x: x[:1].expand(3, *x.shape[1:]) if x.ndim == 2 else x,
    lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8),
    lambda x: torch.nn.Parameter(x),
    lambda x: x.numpy(),
    lambda x: None,
    lambda x: torch.tensor(0.5),
    lambda x: [x],
    lambda x: x.to_mkldnn(),
    lambda x: torch._neg_view(x),
]
"""Changes of a tensor of audio; not all of them make it invalid."""
