import torch
from torch import nn

from hear_core.networks.batch_norm_folding import fold_batch_norms, inference_copy


def network():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, eps=1e-3), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8)),
    )
    for norm in (net[0][1], net[1][1]):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return net


def test_folding_changes_nothing_but_the_number_of_layers():
    net, x = network().eval(), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = net(x)
        fold_batch_norms(net)
        torch.testing.assert_close(net(x), expected, atol=1e-5, rtol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())


def test_folding_leaves_other_batch_norms_alone():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))
    fold_batch_norms(net)
    assert isinstance(net[0], nn.BatchNorm2d)


def test_a_copy_shares_what_folding_does_not_change():
    net = nn.Sequential(network(), nn.Flatten(), nn.Linear(8, 3)).train()
    twin = inference_copy(net)
    assert twin[2].weight.data_ptr() == net[2].weight.data_ptr()
    assert not twin[2].weight.requires_grad
    assert not twin.training
    assert net.training
    assert net[2].weight.requires_grad
    assert isinstance(net[0][0][1], nn.BatchNorm2d)


def test_half_precision_is_folded_in_single_precision():
    net = network().eval()
    half = inference_copy(net.half())
    exact = inference_copy(net.float())
    assert half[0][0].weight.dtype == torch.float16
    assert torch.equal(half[0][0].weight, exact[0][0].weight.half())
