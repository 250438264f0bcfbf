"""The released detectors: that all are there, that their files load, and what they cost."""

from __future__ import annotations

import logging

import pytest
import torch

from hear_core.analysis.complexity import complexity
from hear_core.errors import CheckpointError, ConfigError
from hear_core.zoo.labels import audioset_labels, audioset_mids
from hear_core.zoo.registry import Zoo
from hear_sed import ZOO
from hear_sed.labels import strong_labels, strong_mids
from hear_sed.zoo import build_detector
from tests import goldens

FAST = ("fmn04", "fmn10", "fmn04+tf:104", "fmn10+tf:256", "fmn10+hybrid:256", "fmn04+gru:104")


PANNS = {
    "cnn14_max": "Cnn14_DecisionLevelMax",
    "cnn14_avg": "Cnn14_DecisionLevelAvg",
    "cnn14_att": "Cnn14_DecisionLevelAtt",
}
PROJECTS = ("efficientsed", "pretrainedsed")
FRAME_MN = {"frame_mn06": "fmn06", "frame_mn10": "fmn10"}


def manifest_of(name):
    return FRAME_MN.get(name, name.partition("_")[0].replace(":", "-"))


def released_layout(state):
    """Name weights as in the released files, as far as is known of them."""
    return {
        f"net.{key.replace('model.fmn.', 'model.', 1)}": tensor for key, tensor in state.items()
    }


def pretrained_sed_layout(state):
    return {key.replace("model.fmn.", "model.frame_mn.", 1): t for key, t in state.items()}


def test_every_released_detector_is_in_the_zoo():
    released = goldens.facts("sed/checkpoints")
    records = {record.checkpoint.file: record for record in ZOO.values()}
    files = [theirs["file"] for part in PROJECTS for theirs in released[part].values()]
    panns = {ZOO[name].checkpoint.file for name in PANNS}
    assert sorted(set(records) - panns) == sorted(files)
    for theirs in released["efficientsed"].values():
        ours = records[theirs["file"]]
        assert ours.checkpoint.url == theirs["url"]
        assert ours.arguments["backbone"] == theirs["model"]
        assert ours.arguments.get("sequence_model") == theirs.get("seq_model")
        assert ours.arguments.get("dim") == theirs.get("seq_model_dim")
        assert ours.reported_metrics == ({"PSDS1": theirs["psds1"]} if "psds1" in theirs else {})
        assert (ours.optional == ("strong_head",)) == (theirs["trained_on"] == "AudioSet Weak")
    for name, theirs in released["pretrainedsed"].items():
        ours, psds1 = records[theirs["file"]], theirs.get("psds1_of_configuration")
        assert ours.checkpoint.url == theirs["url"]
        assert ours.arguments["backbone"] == manifest_of(name.removesuffix("_strong_1"))
        assert ours.reported_metrics == ({} if psds1 is None else {"PSDS1": psds1})
        assert ("strong_head" in ours.optional) == (theirs["stage"] != "AudioSet Strong")


def test_licences_are_those_of_the_weights():
    """M2D may be used for evaluation only, ImageNet weights are DeiT's, ASiT states none."""
    licences = {name: record.checkpoint.licence for name, record in ZOO.items()}
    assert {licences.pop(name) for name in PANNS} == {"CC-BY-4.0"}
    others = {name: licence for name, licence in licences.items() if licence != "MIT"}
    assert others == {
        "M2D": "LicenseRef-NTT-M2D",
        "M2D_weak": "LicenseRef-NTT-M2D",
        "M2D_ssl": "LicenseRef-NTT-M2D",
        "fpasst_ssl": "Apache-2.0",
        "ASIT_ssl": "NOASSERTION",
    }


@pytest.mark.parametrize("name", PANNS)
def test_a_detector_of_panns_has_the_tensors_of_its_manifest(name):
    record = ZOO[name]
    facts = goldens.manifest(f"PANNs_{PANNS[name]}")
    expected = {key: tuple(row[1]) for key, row in (facts["tensors"] | facts["computed"]).items()}
    found = {key: tuple(value.shape) for key, value in record.skeleton().state_dict().items()}
    assert found | record.constants == expected
    assert record.labels == audioset_labels()


@pytest.mark.parametrize("name", [name for name in ZOO if name not in PANNS])
def test_a_record_has_the_tensors_of_its_manifest(name):
    record = ZOO[name]
    network, frontend = record.skeleton(), record.frontend()
    facts = goldens.manifest(manifest_of(name))
    tensors = facts["tensors"] | facts["computed"]
    weak = name.endswith("_weak")
    tensors |= facts["weak527"] if weak else {}
    shapes = {key: row[1] for key, row in tensors.items()}
    shapes |= {key: shapes[source] for key, source in facts["tied"].items()}
    expected = {record.rename(key): tuple(shape) for key, shape in shapes.items()}
    found = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    constants = {k: shape for k, shape in record.constants.items() if k in expected}
    assert found | constants == expected
    assert network.n_mels == frontend.n_mels
    assert (frontend.sample_rate, frontend.hop) == (16000, 160)
    assert record.labels == (() if name.endswith(("_weak", "_ssl")) else strong_labels())
    assert network.tap_shapes["logits"].channels == 447
    assert network.tap_shapes["weak"].channels == (527 if weak else 447)


def transformer_layout(kind, wrapper):
    """Return a function that names weights as the release of a transformer does."""
    return lambda state: {
        key.replace(f"model.{kind}.", wrapper): tensor for key, tensor in state.items()
    }


RELEASED_LAYOUTS = {
    "BEATs": ("beats", "model.model."),
    "ATST-F": ("atst", "model.atst."),
    "fpasst": ("fpasst", "model."),
    "M2D": ("m2d", "model."),
    "ASIT": ("asit", "model."),
}


@pytest.mark.parametrize("name", RELEASED_LAYOUTS)
def test_transformers_load_in_both_layouts(name):
    """Checked by names and shapes alone, as the weights take 360 MB."""
    facts, record = goldens.manifest(name), ZOO[name]
    keys = [*facts["tensors"], *facts["tied"]]
    released = transformer_layout(*RELEASED_LAYOUTS[name])
    for layout in (dict, released):
        renamed = {record.rename(key) for key in layout(dict.fromkeys(keys))}
        assert renamed - set(record.constants) == set(record.skeleton().state_dict())


@pytest.mark.parametrize("layout", [dict, released_layout, pretrained_sed_layout])
@pytest.mark.parametrize("name", ["fmn04", "fmn04+tf:104", "fmn04+hybrid:104", "fmn04+gru:104"])
def test_a_file_in_any_layout_loads(name, layout, tmp_path):
    state = goldens.detector(manifest_of(name))
    torch.save(layout(state), tmp_path / "w.pt")
    network = ZOO.load(name, tmp_path / "w.pt")
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_the_head_that_was_not_trained_may_be_missing_or_of_another_size(tmp_path, caplog):
    state = goldens.detector("fmn04", weak527=True)
    torch.save(released_layout(state), tmp_path / "w.pt")
    with caplog.at_level(logging.WARNING):
        weak = ZOO.load("fmn04_weak", tmp_path / "w.pt")
        assert not caplog.text
        strong = ZOO.load("fmn04", tmp_path / "w.pt")
    assert "not for these classes; it was dropped, and weak_head starts untrained" in caplog.text
    assert weak.weak_head.weight.shape == (527, 384)
    assert strong.weak_head.weight.shape == (447, 384)
    assert torch.equal(strong.strong_head.weight, state["strong_head.weight"])
    without = {key: value for key, value in state.items() if "strong_head" not in key}
    torch.save(without, tmp_path / "w.pt")
    network = ZOO.load("fmn04_weak", tmp_path / "w.pt")
    assert "strong_head starts untrained" in caplog.text
    assert network.strong_head.weight.isfinite().all()
    with pytest.raises(CheckpointError, match=r"lacks strong_head.weight.* fits fmn04_weak"):
        ZOO.load("fmn04", tmp_path / "w.pt")


def test_another_number_of_classes_drops_both_heads(tmp_path, caplog):
    torch.save(released_layout(goldens.detector("fmn04")), tmp_path / "w.pt")
    network = ZOO.load("fmn04", tmp_path / "w.pt", num_classes=11)
    assert "strong_head" in caplog.text
    assert "weak_head" in caplog.text
    assert network.tap_shapes["logits"].channels == network.tap_shapes["weak"].channels == 11


def test_weights_of_another_sequence_model_are_refused(tmp_path):
    torch.save(goldens.detector("fmn04+tf-104"), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"the network has no seq_model.* fits fmn04\+tf:104"):
        ZOO.load("fmn04", tmp_path / "w.pt")


def test_a_row_that_was_not_released(tmp_path, monkeypatch):
    monkeypatch.setenv("HEAR_CACHE", str(tmp_path))
    zoo = Zoo({"fmn04+tcn:32": build_detector("fmn04", "tcn", 32, num_classes=11)})
    network = zoo.random_init("fmn04+tcn:32")
    assert network.tap_shapes["logits"].channels == 11
    message = r"weights fmn04\+tcn-32_strong.pt were never released.*model_file_path"
    with pytest.raises(CheckpointError, match=message):
        zoo.load("fmn04+tcn:32")
    torch.save(network.state_dict(), tmp_path / "fmn04+tcn-32_strong.pt")
    loaded = zoo.load("fmn04+tcn:32")
    assert torch.equal(loaded.strong_head.weight, network.strong_head.weight)


def test_an_unknown_name_is_explained():
    with pytest.raises(ConfigError, match=r"unknown backbone 'fmn10\+tf-256'; did you mean"):
        ZOO["fmn10+tf-256"]


def test_the_labels_are_those_of_the_release():
    theirs = goldens.facts("sed/labels_audioset_strong_447")
    assert strong_labels() == tuple(row["display_name"] for row in theirs)
    assert strong_mids() == {row["display_name"]: row["mid"] for row in theirs}
    assert list(strong_labels()) == sorted(strong_labels())
    shared = set(strong_mids().values()) & set(audioset_mids().values())
    assert len(shared) == sum(int(row["in_audioset_527"]) for row in theirs)
    assert len(audioset_labels()) == 527


def expected_macs(kind, d, channels, t=250, classes=447):
    """Count the products of a sequence model and the strong head, and their biases, by hand."""
    project = t * (channels + 1) * d
    attention = t * (3 * d * d + d * d) + 2 * t * t * d
    if kind == "tf":
        gates, feed = t * (d + 1) * (8 if d >= 128 else 4), t * ((d + 1) * 4 * d + (4 * d + 1) * d)
        return project + 2 * (attention + gates + feed) + t * (d + 1) * classes
    if kind == "hybrid":
        feed = t * ((d + 1) * 4 * d + (4 * d + 1) * d)
        recurrent = t * (2 * d * 2 * d + 2 * d * d)
        return project + 2 * (attention + recurrent + feed) + t * (d + 1) * classes
    if kind == "gru":
        inner = sum(t * 2 * 3 * d * (i + 1 + d + 1) for i in (channels, 2 * d))
        return inner + t * (2 * d + 1) * classes
    return t * (channels + 1) * classes


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in ZOO if "fmn" in n],
)
def test_what_a_detector_costs_is_counted_to_the_last_product(name):
    network = ZOO[name].skeleton()
    backbone = network.backbone.channels
    kind, d = ZOO[name].arguments.get("sequence_model"), ZOO[name].arguments.get("dim", 0)
    found = complexity(ZOO[name])
    plain = ZOO[name.partition("+")[0]] if "+" in name else ZOO[name]
    without = complexity(plain).macs - expected_macs(None, 0, backbone)
    assert found.macs == without + expected_macs(kind, d, backbone)
    assert found.parameters == sum(p.numel() for p in network.parameters())
    if kind is None:
        assert found.receptive_field[1] == 163
    else:  # attention and recurrences see all frames
        assert found.receptive_field is found.receptive_field_seconds is None


@pytest.mark.parametrize(
    ("name", "tokens", "positions", "bias", "resampled"),
    [
        ("ATST-F", 250, 250, False, 0),
        ("M2D", 311, 311, True, 62 * 5 * 250),
        ("ASIT", 497, 1, True, 497 * 250),
    ],
)
def test_what_a_transformer_costs_is_counted_to_the_last_product(
    name, tokens, positions, bias, resampled
):
    """The products of patches, blocks and resampling to frames, and their biases, by hand.

    Positions count as biases where they are added as they are stored.
    """
    d = 768
    linear = tokens * ((3 * d + 4 * d) * (d + 1) + d * (d + 1) + d * (4 * d + 1))
    linear -= 0 if bias else tokens * 3 * d
    block = linear + 2 * tokens**2 * d
    patches = (tokens - (name != "ATST-F")) * 257 * d + positions * d
    head = 250 * (ZOO[name].skeleton().backbone.channels + 1) * 447
    found = complexity(ZOO[name])
    assert found.macs == patches + 12 * block + resampled * d + head
    assert found.receptive_field is None
    assert found.parameters == sum(p.numel() for p in ZOO[name].skeleton().parameters())
