import copy

import pytest
import torch

from hear_core.errors import ConfigError
from hear_core.frontends.log_frequency import LogFrequency
from hear_core.frontends.log_mel import DecibelMel, LogMel
from hear_core.networks.extractor import Extractor, offered_taps
from hear_core.networks.panns import Panns
from hear_mn.mobilenet import MobileNet


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return MobileNet(0.1).eval()


def test_joins_front_end_and_backbone_in_the_order_of_the_taps(network):
    extractor = Extractor(LogMel(), network, ["clf", "mels", "b3"], "max")
    audio = torch.rand(2, 16000) - 0.5
    with torch.no_grad():
        log_mel = LogMel()(audio)
        values = network(log_mel, ("clf", "b3"))
        expected = torch.cat([values["clf"], log_mel.mean(2), values["b3"].amax((2, 3))], dim=1)
        found = extractor(audio)
    torch.testing.assert_close(found, expected)
    assert found.shape[1] == extractor.size
    assert extractor.slices["mel_avgs"] == slice(
        values["clf"].shape[1], values["clf"].shape[1] + 128
    )


def test_mel_averages_alone_do_not_run_the_backbone(network):
    extractor = Extractor(LogMel(), network, ["mel_avgs"])
    handle = network.features[0].register_forward_hook(lambda *_: pytest.fail("the stem was run"))
    assert extractor(torch.rand(1, 16000)).shape == (1, 128)
    handle.remove()


def test_starts_in_evaluation_mode():
    extractor = Extractor(LogMel(), MobileNet(0.1).train(), ["logits"])
    assert not any(module.training for module in extractor.modules())
    assert all(module.training for module in extractor.train().modules())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_front_end_stays_in_single_precision(network, dtype):
    extractor = Extractor(LogMel(), network, ["mels", "b16"])
    audio = torch.rand(1, 16000, generator=torch.Generator().manual_seed(0)) - 0.5
    with torch.inference_mode():
        expected = extractor(audio)
        found = copy.deepcopy(extractor).to(dtype)(audio)
    assert found.dtype == torch.float32
    mels = extractor.slices["mel_avgs"]
    assert torch.equal(found[:, mels], expected[:, mels])
    scale = expected.abs().max()
    assert (found - expected).abs().max() < 0.03 * scale


def test_unknown_tap(network):
    with pytest.raises(ConfigError, match=r"unknown tap 'se1'; did you mean"):
        Extractor(LogMel(), network, ["se1"])


def test_takes_its_shortest_clip(network):
    with torch.device("meta"):
        poolings = Panns()
    for frontend, backbone, shortest in [
        (LogMel(), network, 402),
        (LogMel(), poolings, 31 * 320 + 1),
        (DecibelMel(), poolings, 31 * 320),
    ]:
        extractor = Extractor(frontend, backbone, ["logits"])
        assert extractor.min_samples == shortest
        log_mel = frontend(torch.rand(1, shortest))
        assert log_mel.shape[2] >= backbone.min_frames


def test_averages_over_log_frequency_do_not_depend_on_the_backbone(network):
    audio = torch.rand(2, 16000) - 0.5
    extractor = Extractor(LogMel(), network, ["logf_avgs", "b3"], "avg_bands2")
    expected = LogFrequency(32000)(audio).mean(2)
    torch.testing.assert_close(extractor(audio)[:, extractor.slices["logf_avgs"]], expected)
    assert set(offered_taps(LogMel(), network)) >= {"logf_avgs", "mel_stds", "b3"}
