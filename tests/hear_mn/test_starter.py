"""The weights in the package: there at once, small, and like their teacher where it matters."""

from __future__ import annotations

import csv

import pytest
import torch

import hear_mn
from hear_core.audio.reading import read_audio
from hear_core.zoo.checkpoints import fetch_checkpoint, find_checkpoint
from hear_core.zoo.labels import audioset_labels
from hear_mn import ZOO
from tests.shared import ESC10, METRO, MN04, SHARED, needs_esc10, needs_metro, needs_mn04

# The first second of this one is a clip of FSD50K, which it was trained on.
SEEN = {"5-235671-A.ogg"}
RAILS = {
    "Train",
    "Rail transport",
    "Railroad car, train wagon",
    "Subway, metro, underground",
    "Vehicle",
}
CHECKPOINT = ZOO["mn01_starter"].checkpoint


@pytest.fixture(autouse=True)
def _nothing_else(monkeypatch, tmp_path):
    """Neither a network nor a folder with weights."""
    monkeypatch.setenv("HEAR_CHECKPOINTS", "")
    monkeypatch.setenv("HEAR_CACHE", str(tmp_path))
    monkeypatch.setenv("HEAR_MIRROR", "http://127.0.0.1:9")


def logits(name, waveforms, path=""):
    """Return what a network says of clips, by operations of torch alone."""
    network, frontend = ZOO.load(name, path).eval(), ZOO[name].frontend()
    with torch.no_grad():
        return torch.stack([network(frontend(w[None]))["logits"][0] for w in waveforms])


def test_the_weights_are_packaged_small_and_as_in_the_table():
    path = fetch_checkpoint(CHECKPOINT)
    assert path == find_checkpoint(CHECKPOINT)
    assert path.parent.parent.name == "hear_mn"
    assert path.stat().st_size < 700_000
    assert CHECKPOINT.sha256 is not None
    assert "hear train distill" in path.with_suffix(".md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "size"), [("starter", 184), ("starter_e1_l", 623)])
def test_modules(name, size):
    model = getattr(hear_mn, name).load_model()
    assert model.scene_embedding_size == size
    clips = torch.rand(2, 32000, generator=torch.Generator().manual_seed(0)) - 0.5
    clips[1] *= torch.linspace(0, 1, 32000)
    first, second = model.get_scene_embeddings(clips)
    assert torch.isfinite(first).all()
    assert not torch.allclose(first, second, atol=1e-2)


@needs_metro
def test_the_metro_station_is_classified_as_rails():
    """There was no train in the training data, but synthetic rides that the teacher tags so."""
    scores = logits("mn01_starter", [read_audio(METRO, 32000)])[0]
    first = {audioset_labels()[i] for i in scores.topk(5).indices}
    assert len(first & RAILS) >= 2


@needs_esc10
def test_only_one_clip_of_fold_5_shares_a_recording_with_the_training_data():
    """Clips of ESC-10 are called after their recordings at Freesound, as those of FSD50K are."""
    fold5 = {path.name.split("-")[1] for path in (ESC10 / "audio").glob("5-*")}
    others = [path for path in (ESC10 / "audio").iterdir() if not path.name.startswith("5-")]
    seen = {path.name.split("-")[1] for path in others}
    seen |= {path.stem for path in (SHARED / "data" / "unlabelled").rglob("*.*")}
    assert fold5 & seen == {name.split("-")[1] for name in SEEN}


@needs_esc10
@needs_mn04
def test_the_starter_agrees_with_its_teacher_on_unseen_clips():
    with (ESC10 / "meta.csv").open(newline="") as file:
        names = {row["filename"] for row in csv.DictReader(file) if row["fold"] == "5"} - SEEN
    waveforms = [read_audio(ESC10 / "audio" / name, 32000) for name in sorted(names)]
    assert len(waveforms) == 79
    student = logits("mn01_starter", waveforms)
    teacher = logits("mn04_as", waveforms, MN04)
    agreement = (student.argmax(1) == teacher.argmax(1)).double().mean()
    assert agreement >= 0.6
    untrained = ZOO.random_init("mn01_starter").eval()
    with torch.no_grad():
        frontend = ZOO["mn01_starter"].frontend()
        control = torch.stack([untrained(frontend(w[None]))["logits"][0] for w in waveforms])
    assert (control.argmax(1) == teacher.argmax(1)).double().mean() < 0.1
    errors = [(x.sigmoid() - teacher.sigmoid()).square().mean() for x in (student, control)]
    mean = (teacher.sigmoid().mean(0) - teacher.sigmoid()).square().mean()
    assert errors[0] < 0.5 * mean < errors[1]
