"""Loading of any module with the HEAR API."""

from __future__ import annotations

import hashlib
import sys
from types import SimpleNamespace

import pytest
import torch

from hear_core.errors import CheckpointError, ConfigError
from hear_eval.embeddings.plugin import Plugin


class Model(torch.nn.Module):
    sample_rate = 800

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.register_buffer("matrix", torch.arange(6).reshape(2, 3).to(dtype))
        self.register_buffer("scale", torch.tensor(2).to(dtype))


@pytest.fixture
def stub(monkeypatch):
    """A module whose model can be chosen."""
    module = SimpleNamespace(model=Model(), load_model=lambda: module.model)
    monkeypatch.setitem(sys.modules, "stub", module)
    return module


def raising(error):
    def load_model():
        raise error

    return load_model


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("no weights"), "stub cannot be loaded: RuntimeError: no weights"),
        (ImportError("no jax"), "stub cannot be loaded: ImportError: no jax"),
        (KeyError("a"), "stub cannot be loaded: KeyError: 'a'"),
    ],
)
def test_errors_of_a_module_are_reported(stub, error, message):
    stub.load_model = raising(error)
    with pytest.raises(ConfigError) as caught:
        Plugin("stub")
    assert str(caught.value) == message
    assert caught.value.__cause__ is error


def test_our_own_errors_stay_what_they_are(stub):
    stub.load_model = raising(CheckpointError("half a file"))
    with pytest.raises(CheckpointError, match=r"^half a file$"):
        Plugin("stub")


def test_a_module_that_breaks_on_import_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "breaks_on_import.py").write_text("import hear_core.no_such_thing_here")
    with pytest.raises(ConfigError, match="there is no plug-in module 'breaks_on_import'"):
        Plugin("breaks_on_import")
    (tmp_path / "breaks_on_import.py").write_text("1 / 0  # and nothing else")
    with pytest.raises(ConfigError, match="breaks_on_import cannot be loaded: ZeroDivisionError"):
        Plugin("breaks_on_import")


def test_a_model_without_a_sample_rate_is_refused(stub):
    stub.model = torch.nn.Identity()
    with pytest.raises(ConfigError, match="its model has no valid sample_rate"):
        Plugin("stub")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_weights_of_any_type_are_distinguished_by_their_bytes(stub, dtype):
    stub.model = Model(dtype)
    wanted = hashlib.sha256()
    for name, tensor in (("matrix", stub.model.matrix), ("scale", stub.model.scale)):
        wanted.update(name.encode() + bytes(tensor.flatten().view(torch.uint8).tolist()))
    assert Plugin("stub").settings["weights"] == wanted.hexdigest()
    stub.model.scale.zero_()
    assert Plugin("stub").settings["weights"] != wanted.hexdigest()


def test_weights_may_be_a_file_or_a_name(stub, tmp_path):
    of_weights = Plugin("stub").settings["weights"]
    stub.model.weights = "imagenet"
    assert Plugin("stub").settings["weights"] == of_weights
    (tmp_path / "weights.bin").write_bytes(b"some")
    stub.model.weights = str(tmp_path / "weights.bin")
    assert Plugin("stub").settings["weights"] == hashlib.sha256(b"some").hexdigest()
