"""Checkpoints that say which network they hold."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

import hear_core
from hear_core.errors import CheckpointError, ConfigError
from hear_core.events.change_points import ChangePoints
from hear_core.events.decoding import EventDecoding
from hear_core.frontends.log_mel import LogMel
from hear_core.zoo.checkpoints import Checkpoint, find_checkpoint
from hear_core.zoo.metadata import CheckpointMetadata, read_metadata, save_checkpoint
from hear_core.zoo.registry import NetworkRecord
from hear_mn import ZOO, EATagger
from hear_mn.mobilenet import MobileNet
from hear_sed import Detector
from hear_sed.zoo import ZOO as DETECTORS

FIFTY = tuple(f"sound {index}" for index in range(50))


def unreleased():
    """Return the record of a network that no checkpoint was released of."""
    return NetworkRecord(
        MobileNet,
        {"width": 0.1, "head": "fully_convolutional", "se_dims": "f", "n_mels": 64},
        partial(LogMel, n_mels=64, hop=160),
        Checkpoint("", ""),
    )


def save(path, record, labels=FIFTY, **entries):
    network = record.with_labels(labels).build()
    save_checkpoint(path, network, record.describe(labels, **entries), half=False)
    return network


@pytest.fixture
def fifty(tmp_path):
    """A network for fifty classes, as a training writes it."""
    path = tmp_path / "run" / "weights.safetensors"
    save(path, ZOO["mn01_as"], metrics={"mAP": 0.5}, recipe={"epochs": 3})
    return path


def test_metadata_are_read_as_they_were_written(fifty):
    metadata = read_metadata(fifty)
    assert metadata.network == "MobileNet"
    assert metadata.arguments == {"width": 0.1, "num_classes": 50}
    assert (metadata.frontend, metadata.frontend_arguments) == ("LogMel", {})
    assert metadata.labels == FIFTY
    assert (metadata.metrics, metadata.recipe) == ({"mAP": 0.5}, {"epochs": 3})
    assert metadata.version


@pytest.mark.parametrize("record", [unreleased(), ZOO["dymn04_as"], ZOO["mn10_as_hop_20"]])
def test_a_network_comes_back_with_its_front_end_and_labels(record, tmp_path):
    network = save(tmp_path / "w.safetensors", record)
    loaded = ZOO.open(str(tmp_path / "w.safetensors"))
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], value)
    assert loaded.record.labels == FIFTY
    ours, theirs = loaded.record.frontend(), record.frontend()
    assert (ours.hop, ours.n_mels) == (theirs.hop, theirs.n_mels)


def test_a_tagger_has_the_labels_of_the_file(fifty):
    for tagger in (
        EATagger(fifty),
        EATagger(str(fifty)),
        EATagger(model_file_path=fifty),
        EATagger("mn01_as", model_file_path=fifty),
        EATagger([str(fifty), fifty]),
    ):
        assert tagger.labels == FIFTY
        assert tagger.tag(torch.zeros(32000))[0].shape == (50,)


def test_a_detector_has_the_labels_and_thresholds_of_the_file(tmp_path):
    path = tmp_path / "d.safetensors"
    save(path, DETECTORS["fmn04+tcn:32"], ["hiss", "hum"], thresholds={"hum": 0.25})
    detector = Detector(path)
    assert detector.labels == ("hiss", "hum")
    assert detector.model.record.thresholds == {"hum": 0.25}
    assert detector.frames(torch.zeros(16000)).scores.shape == (25, 2)


def test_a_detector_decodes_events_as_the_file_says(tmp_path):
    path = tmp_path / "d.safetensors"
    tuned = EventDecoding(threshold=0.4, release=0.9, change_points=ChangePoints(0.32))
    record = DETECTORS["fmn04+tcn:32"]
    save(path, record, ["hiss", "hum"], thresholds={"hum": 0.25}, decoding=tuned.entries())
    detector = Detector(path)
    assert detector.tuned_decoding == tuned
    assert detector.decoding == replace(tuned, thresholds={"hum": 0.25})
    assert record.with_labels(["a"]).decoding is None
    described = detector.model.record.describe()
    assert EventDecoding.from_entries(described.decoding) == tuned


def test_a_decoding_that_cannot_be_read_is_reported_with_the_file(tmp_path):
    path = tmp_path / "d.safetensors"
    save(path, DETECTORS["fmn04+tcn:32"], ["hiss", "hum"], decoding={"medium": 3})
    with pytest.raises(CheckpointError, match=r"d.safetensors describes .*medium"):
        Detector(path)


def test_a_model_is_loaded_by_the_path_of_its_file(fifty, tmp_path):
    model = hear_core.load_model(str(fifty))
    assert model.scene_embedding_size == 50
    assert model.record.labels == FIFTY
    path = tmp_path / "d.safetensors"
    save(path, DETECTORS["fmn04"], ["hiss", "hum"], taps=("b2", "sequence"), pooling="max")
    model = hear_core.load_model(str(path))
    assert model.config.pooling == "max"
    assert model.extractor.taps == ("b2", "sequence")


def test_the_file_of_a_record_is_found_where_it_is(fifty):
    checkpoint = ZOO[str(fifty)].checkpoint
    assert find_checkpoint(checkpoint) == fifty
    assert not checkpoint.url


def test_a_file_never_loads_as_another_network(fifty, tmp_path):
    with pytest.raises(CheckpointError, match=r"width is 0.1 in the file and 0.4 here"):
        ZOO.load("mn04_as", fifty)
    path = tmp_path / "hop.safetensors"
    save(path, ZOO["mn10_as_hop_20"])
    with pytest.raises(CheckpointError, match=r"hop is 640 in the file and 320 here"):
        ZOO.load("mn10_as", path)
    with pytest.raises(CheckpointError, match=r"unknown network 'MobileNet'"):
        Detector(fifty)


def test_a_released_file_never_loads_as_another_network(tmp_path):
    torch.save(ZOO.random_init("mn10_as_hop_5").state_dict(), tmp_path / "mn10_as_hop_5_mAP_475.pt")
    with pytest.raises(CheckpointError, match=r"hop is 160 in the file and 320 here"):
        ZOO.load("mn10_as", tmp_path / "mn10_as_hop_5_mAP_475.pt")
    assert EATagger(tmp_path / "mn10_as_hop_5_mAP_475.pt").labels == ZOO["mn10_as"].labels


def test_without_metadata_labels_are_never_wrong(tmp_path):
    path = tmp_path / "own.pt"
    torch.save(ZOO["mn01_as"].build(50).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"give their number as num_classes"):
        EATagger("mn01_as", model_file_path=path)
    tagger = EATagger("mn01_as", model_file_path=path, num_classes=50)
    assert tagger.labels[:2] == ("class 0", "class 1")
    assert len(tagger.labels) == 50
    torch.save(ZOO["mn01_as"].build().state_dict(), path)
    with pytest.raises(CheckpointError, match=r"does not identify its network.* It fits mn01_as"):
        ZOO.load(str(path))


def test_fewer_classes_of_a_described_file_start_untrained(fifty, caplog):
    loaded = ZOO.open(str(fifty), num_classes=7)
    assert "starts untrained" in caplog.text
    assert loaded.record.labels == tuple(f"class {index}" for index in range(7))


def test_half_precision_is_refused_where_it_would_overflow(tmp_path):
    state, metadata = {"weight": torch.tensor([1e6])}, ZOO["mn01_as"].describe()
    with pytest.raises(CheckpointError, match=r"weight holds a value of 1e\+06"):
        save_checkpoint(tmp_path / "w.safetensors", state, metadata)
    save_checkpoint(tmp_path / "w.safetensors", state, metadata, half=False)
    with pytest.raises(CheckpointError, match=r"weight holds a value of nan"):
        save_checkpoint(tmp_path / "n.safetensors", {"weight": torch.tensor([torch.nan])}, metadata)
    assert not (tmp_path / "n.safetensors").exists()


def test_what_cannot_be_described_is_not_written(tmp_path):
    network = ZOO["mn01_as"].build(50)
    with pytest.raises(ConfigError, match=r"50 logits, but 527 labels"):
        save_checkpoint(tmp_path / "w.safetensors", network, ZOO["mn01_as"].describe())
    with pytest.raises(ConfigError, match=r"name it w.safetensors"):
        save_checkpoint(tmp_path / "w.pt", network, ZOO["mn01_as"].describe(FIFTY))
    with pytest.raises(ConfigError, match=r"JSON"):
        save(tmp_path / "w.safetensors", unreleased(), recipe={"network": network})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["one"]}, r"1 labels, but a network with 50 classes"),
        ({"labels": "one"}, r"its entry 'labels' is 'one'"),
        ({"labels": None}, r"'labels' is None"),
        ({"network": "Sequential"}, r"unknown network 'Sequential'"),
        ({"frontend": "open"}, r"unknown front-end 'open'"),
        ({"arguments": {"size": 3}}, r"cannot be built here: .*size"),
        ({"arguments": {"width": "wide"}}, r"cannot be built here"),
        ({"frontend_arguments": {"n_mels": 64}}, r"front-end of 64 mel bands"),
        ({"metrics": {"mAP": "high"}}, r"'metrics'"),
        ({"format": 2}, r"its format is 2"),
    ],
)
def test_metadata_that_are_wrong_are_explained(change, message, fifty):
    metadata = {"format": 1, **json.loads(read_metadata(fifty).to_json()), **change}
    save_file(load_file(fifty), fifty, {"hear": json.dumps(metadata)})
    with pytest.raises(CheckpointError, match=message) as error:
        ZOO.load(str(fifty))
    assert str(fifty) in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"format": 1}'])
def test_metadata_that_cannot_be_read_are_explained(text, fifty):
    save_file(load_file(fifty), fifty, {"hear": text})
    with pytest.raises(CheckpointError, match=r"weights.safetensors cannot be read"):
        ZOO.load(str(fifty))


def test_metadata_survive_a_round_trip_through_json():
    metadata = ZOO["mn01_as"].describe(thresholds={"Speech": 0.5}, licence="MIT")
    assert CheckpointMetadata.from_json(metadata.to_json()) == metadata
