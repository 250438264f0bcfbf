import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from hear_core.errors import CheckpointError, ConfigError
from hear_core.frontends.log_mel import LogMel
from hear_core.networks.backbone import Backbone
from hear_core.networks.taps import TapShape
from hear_core.zoo.checkpoints import Checkpoint
from hear_core.zoo.registry import NetworkRecord, Zoo


class Tiny(Backbone):
    class_layers = ("last",)

    def __init__(self, width, num_classes=5):
        super().__init__()
        self.first, self.last = nn.Linear(128, width), nn.Linear(width, num_classes)
        self.tap_shapes = {"e1": TapShape(width), "logits": TapShape(num_classes)}

    def forward(self, log_mel, taps=("logits",)):
        e1 = self.first(log_mel.mean(2))
        return {"e1": e1, "logits": self.last(e1)}


def row(width):
    checkpoint = Checkpoint(f"tiny{width}.pt", "http://127.0.0.1:9/tiny.pt")
    return NetworkRecord(Tiny, {"width": width}, LogMel, checkpoint)


ZOO = Zoo({"tiny3": row(3), "tiny4": row(4)})


@pytest.fixture
def file(tmp_path):
    """Weights for tiny3."""
    torch.save(ZOO["tiny3"].build().state_dict(), tmp_path / "w.pt")
    return tmp_path / "w.pt"


def test_loads_what_the_file_holds(file):
    network = ZOO.load("tiny3", file)
    for key, value in torch.load(file, weights_only=True).items():
        assert torch.equal(network.state_dict()[key], value)
    assert all(p.requires_grad for p in network.parameters())


def test_unknown_backbone():
    with pytest.raises(ConfigError, match=r"unknown backbone 'tiny5'; did you mean 'tiny4' or"):
        ZOO.load("tiny5")
    assert "tiny5" not in ZOO


def test_weights_of_another_width_are_named(file):
    with pytest.raises(CheckpointError) as error:
        ZOO.load("tiny4", file)
    message = str(error.value)
    assert f"{file} does not fit tiny4" in message
    assert "first.weight is (3, 128) in the file and (4, 128) here" in message
    assert "It fits tiny3" in message


def test_missing_and_unexpected_keys_are_named(tmp_path):
    state = ZOO["tiny3"].build().state_dict()
    state["extra"] = state.pop("last.bias")
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"it lacks last.bias; the network has no extra"):
        ZOO.load("tiny3", tmp_path / "w.pt")


@pytest.mark.parametrize("held", [{}, {"window": (8,)}])
def test_a_file_may_hold_constants_of_the_front_end(file, tmp_path, held):
    zoo = Zoo({"tiny3": replace(row(3), constants={"window": (8,), "bank": (4, 2)})})
    state = torch.load(file, weights_only=True)
    torch.save(state | {k: torch.ones(s) for k, s in held.items()}, tmp_path / "held.pt")
    network = zoo.load("tiny3", tmp_path / "held.pt")
    assert torch.equal(network.first.weight, state["first.weight"])


def test_constants_of_another_front_end_are_named(file, tmp_path):
    zoo = Zoo({f"w{n}": replace(row(3), constants={"window": (n,)}) for n in (8, 16)})
    torch.save(
        torch.load(file, weights_only=True) | {"window": torch.ones(16)}, tmp_path / "other.pt"
    )
    message = r"window is \(16,\) in the file and \(8,\) here. It fits w16"
    with pytest.raises(CheckpointError, match=message):
        zoo.load("w8", tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"the network has no window"):
        ZOO.load("tiny3", tmp_path / "other.pt")


def test_another_number_of_classes_drops_the_last_layer_with_a_warning(file, caplog):
    with caplog.at_level(logging.WARNING):
        network = ZOO.load("tiny3", file, num_classes=7)
    assert "not for 7 classes" in caplog.text
    assert "last starts untrained" in caplog.text
    assert network.last.weight.shape == (7, 3)
    assert network.last.weight.isfinite().all()
    assert torch.equal(network.first.weight, torch.load(file, weights_only=True)["first.weight"])


def test_the_same_number_of_classes_keeps_the_last_layer(file, caplog):
    network = ZOO.load("tiny3", file, num_classes=5)
    assert torch.equal(network.last.weight, torch.load(file, weights_only=True)["last.weight"])
    assert not caplog.text


def test_another_number_of_classes_excuses_nothing_else(file):
    with pytest.raises(CheckpointError, match=r"first.weight is \(3, 128\)"):
        ZOO.load("tiny4", file, num_classes=7)


def test_keys_are_renamed_and_optional_layers_excused(file, tmp_path, caplog):
    renaming = replace(row(3), rename=lambda key: key.removeprefix("net."), optional=("last",))
    zoo = Zoo({"tiny3": renaming})
    state = torch.load(file, weights_only=True)
    torch.save({f"net.{key}": value for key, value in state.items()}, tmp_path / "net.pt")
    assert torch.equal(zoo.load("tiny3", tmp_path / "net.pt").last.weight, state["last.weight"])
    assert not caplog.text
    first = {key: value for key, value in state.items() if key.startswith("first")}
    torch.save(first, tmp_path / "first.pt")
    network = zoo.load("tiny3", tmp_path / "first.pt")
    assert "last starts untrained" in caplog.text
    assert torch.equal(network.first.weight, state["first.weight"])
    with pytest.raises(CheckpointError, match=r"it lacks last"):
        ZOO.load("tiny3", tmp_path / "first.pt")


def test_a_renamed_release_is_only_read_and_a_fake_release_is_refused(file, tmp_path):
    released = Checkpoint("released.pt", "http://127.0.0.1:9/released.pt", "0" * 64)
    zoo = Zoo({"tiny3": NetworkRecord(Tiny, {"width": 3}, LogMel, released)})
    zoo.load("tiny3", file)
    fake = file.rename(tmp_path / "released.pt")
    with pytest.raises(CheckpointError, match=r"not the file that was released"):
        zoo.load("tiny3", fake)


def test_random_networks_are_the_same_and_keep_the_random_state():
    before = torch.get_rng_state()
    first, second = ZOO.random_init("tiny3"), ZOO.random_init("tiny3")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.first.weight, second.first.weight)
    assert not torch.equal(first.first.weight, ZOO.random_init("tiny3", seed=1).first.weight)


def test_integers_in_place_of_weights_are_named(file, tmp_path):
    state = torch.load(file, weights_only=True)
    state["first.weight"] = torch.ones(3, 128, dtype=torch.int32)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"first.weight holds int32 and not floating-point"):
        ZOO.load("tiny3", tmp_path / "w.pt")


def test_keys_that_become_one_must_hold_the_same_values(file, tmp_path):
    zoo = Zoo({"tiny3": replace(row(3), rename=lambda key: key.removeprefix("copy."))})
    state = torch.load(file, weights_only=True)
    copies = {f"copy.{key}": tensor.clone() for key, tensor in state.items()}
    torch.save(state | copies, tmp_path / "w.pt")
    zoo.load("tiny3", tmp_path / "w.pt")
    torch.save(state | copies | {"copy.last.bias": torch.ones(5)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"two different tensors for last.bias"):
        zoo.load("tiny3", tmp_path / "w.pt")


def test_the_checksum_of_a_file_that_does_not_fit_is_not_kept(file, tmp_path, monkeypatch):
    monkeypatch.setenv("HEAR_CACHE", str(tmp_path))
    file.rename(tmp_path / "tiny4.pt")
    with pytest.raises(CheckpointError, match=r"does not fit tiny4"):
        ZOO.load("tiny4")
    assert not (tmp_path / "tiny4.pt.sha256").exists()
    torch.save(ZOO["tiny4"].build().state_dict(), tmp_path / "tiny4.pt")
    ZOO.load("tiny4")
    assert (tmp_path / "tiny4.pt.sha256").exists()
