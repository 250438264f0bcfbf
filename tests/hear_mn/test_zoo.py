import pytest

from hear_mn import ZOO
from hear_mn.dynamic_mobilenet import DynamicMobileNet
from hear_mn.mobilenet import MobileNet
from tests import goldens
from tests.shared import MN04, needs_mn04


def test_every_released_mobilenet_is_in_the_zoo():
    released = goldens.facts("mn/checkpoints")["EfficientAT"]
    kinds = (MobileNet, DynamicMobileNet)
    mobilenets = {n: row for n, row in ZOO.items() if row.network in kinds and row.checkpoint.url}
    families = {n: row["family"] for n, row in released.items()}
    assert set(mobilenets) == {n for n, family in families.items() if family in ("mn", "dymn")}
    for name, ours in mobilenets.items():
        theirs = released[name]
        frontend = ours.frontend()
        assert ours.checkpoint.file == theirs["file"]
        assert ours.checkpoint.url == theirs["url"]
        assert ours.arguments["width"] == theirs["width_mult"]
        assert ours.arguments.get("head", "mlp") == theirs["head_type"]
        assert list(ours.arguments.get("strides", (2, 2, 2, 2))) == theirs["strides"]
        assert ours.arguments.get("n_mels", 128) == frontend.n_mels == theirs["n_mels"]
        assert frontend.hop == theirs["hopsize"]
        blocks = ours.arguments.get("dynamic_blocks", "all")
        assert blocks == theirs.get("use_dy_blocks", "all")
        assert ours.network.__name__.startswith("Dynamic") == (theirs["family"] == "dymn")
        published = theirs["mAP_in_file_name"] or theirs["mAP_in_readme"]
        assert ours.reported_metrics.get("mAP") == published


@pytest.mark.parametrize("name", ZOO)
def test_a_front_end_and_its_network_agree(name):
    row = ZOO[name]
    assert row.skeleton().n_mels == row.frontend().n_mels


@needs_mn04
def test_the_released_weights_load_as_they_are_and_have_the_published_checksum(monkeypatch):
    network = ZOO.load("mn04_as", MN04)
    assert sum(p.numel() for p in network.parameters()) == 983599
    monkeypatch.setenv("HEAR_CHECKPOINTS", str(MN04.parent))
    ZOO.load("mn04_as")  # which compares the checksum
