import numpy as np
import pytest
import torch

from hear_core.errors import ConfigError
from hear_core.networks.mobilenet_blocks import TAP_ALIASES
from hear_core.networks.taps import (
    FRONTEND_ALIASES,
    LOG_MEL_TAPS,
    POOLINGS,
    TapShape,
    concatenate,
    layout,
    resolve,
)

ALIASES = {**FRONTEND_ALIASES, **TAP_ALIASES}
OFFERED = ("mel_avgs", "b0", "b5", "b11", "b13", "b15", "e1", "logits")
MAP = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def in_bands(count):
    """The map with neighbouring bands averaged, by plain loops."""
    size = 4 // min(count, 4)
    parts = [MAP.numpy()[:, :, low : low + size].mean(2) for low in range(0, 4, size)]
    return np.stack(parts, axis=2)


def in_segments(*segments):
    """The averages of segments of frames, from their first to the one after their last."""
    parts = [MAP.numpy()[:, :, :, first:stop].mean((2, 3)) for first, stop in segments]
    return np.stack(parts, axis=2).reshape(2, -1)


def test_resolve_spells_out_aliases_in_order():
    assert resolve(["l", "clf1", "all_b"], OFFERED, ALIASES) == (
        "logits",
        "e1",
        "b5",
        "b11",
        "b13",
        "b15",
    )


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        (["e2"], "unknown tap 'e2'; did you mean 'e1'"),
        (["se5"], "unknown tap 'se5'"),
        (["b5", "all_b"], "'b5' is listed more than once"),
        ([], "at least one tap"),
        ("logits", "must be a list"),
    ],
)
def test_resolve_names_the_problem(taps, message):
    with pytest.raises(ConfigError, match=message):
        resolve(taps, OFFERED, ALIASES)


def test_an_unknown_tap_lists_what_there_is():
    with pytest.raises(ConfigError) as error:
        resolve(["nothing"], OFFERED, ALIASES)
    assert all(name in str(error.value) for name in (*OFFERED, "all_b", "clf1"))
    assert "all_se" not in str(error.value)


POOLED = {
    "avg": MAP.numpy().mean((2, 3)),
    "max": MAP.numpy().max((2, 3)),
    "add_avg_max": MAP.numpy().mean((2, 3)) + MAP.numpy().max((2, 3)),
    "cat_avg_max": np.concatenate([MAP.numpy().mean((2, 3)), MAP.numpy().max((2, 3))], axis=1),
    "avg_time": MAP.numpy().mean(3).reshape(2, 12),
    "avg_max_time": (MAP.numpy().mean(3) + MAP.numpy().max(3)).reshape(2, 12),
    # Five frames in segments that overlap where a frame belongs to both.
    "avg_segments2": in_segments((0, 3), (2, 5)),
    "avg_segments3": in_segments((0, 2), (1, 4), (3, 5)),
    "avg_segments5": MAP.numpy().mean(2).reshape(2, 15),
}
for count in (2, 4, 8):
    bands = in_bands(count)
    with_std = np.concatenate([bands.mean(3), bands.std(3)], axis=2)
    POOLED[f"avg_bands{count}"] = bands.mean(3).reshape(2, -1)
    POOLED[f"avg_max_bands{count}"] = (bands.mean(3) + bands.max(3)).reshape(2, -1)
    POOLED[f"avg_std_bands{count}"] = with_std.reshape(2, -1)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling(pooling):
    vector = torch.randn(2, 7)
    shapes = {"vector": TapShape(7), "map": TapShape(3, 4)}
    values = {"vector": vector, "map": MAP}
    taps = ("map", "vector")
    joined = concatenate(values, taps, pooling)
    slices = layout(taps, shapes, pooling)
    np.testing.assert_allclose(joined[:, slices["map"]], POOLED[pooling], atol=1e-6)
    assert torch.equal(joined[:, slices["vector"]], vector)
    assert joined.shape[1] == slices["vector"].stop


def test_unknown_pooling():
    with pytest.raises(ConfigError, match=r"unknown pooling 'mean'"):
        layout(["b"], {"b": TapShape(3, 4)}, "mean")


def test_no_alias_hides_another():
    assert not any(name in ALIASES for group in ALIASES.values() for name in group)


@pytest.mark.parametrize("bands", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_every_pooling_takes_maps_of_any_size(bands, frames):
    x = torch.randn(2, 3, bands, frames)
    for pooling in POOLINGS.values():
        pooled = pooling.pool(x)
        assert pooled.shape == (2, pooling.size(3, bands))
        assert pooled.isfinite().all()


def test_statistics_of_the_log_mel():
    log_mel = MAP[:, 0].numpy()
    changes = np.abs(np.diff(log_mel, axis=2)).mean(2)
    expected = (log_mel.mean(2), log_mel.std(2), log_mel.max(2), changes)
    for tap, values in zip(LOG_MEL_TAPS.values(), expected, strict=True):
        np.testing.assert_allclose(tap(MAP[:, 0]), values, atol=1e-6)
        assert tap(MAP[:, 0, :, :1]).isfinite().all()
