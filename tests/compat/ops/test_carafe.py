import pytest
import torch
from comparison import check_same
from mmcv.ops import CARAFEPack, carafe


def by_hand(x, masks, kernel, groups, scale):
    """An output pixel is a weighted sum of the window around its source pixel."""
    batch, channels, height, width = x.shape
    out = []
    reach = kernel // 2
    for i in range(height * scale):
        for j in range(width * scale):
            total = x.new_zeros(batch, groups, channels // groups)
            for tap in range(kernel**2):
                row, col = i // scale + tap // kernel - reach, j // scale + tap % kernel - reach
                if 0 <= row < height and 0 <= col < width:
                    pixel = x[:, :, row, col].reshape(batch, groups, -1)
                    share = masks.reshape(batch, groups, kernel**2, *masks.shape[2:])
                    total = total + pixel * share[:, :, tap, i, j].unsqueeze(2)
            out.append(total.flatten(1))
    return torch.stack(out, 2).view(batch, channels, height * scale, width * scale)


@pytest.mark.parametrize('kernel, groups, scale', [(3, 1, 2), (5, 2, 2), (3, 2, 3), (3, 4, 1)])
def test_values_and_gradients_are_those_of_a_weighted_window(kernel, groups, scale):
    inputs = [torch.randn(2, 4, 3, 4), torch.rand(2, groups * kernel**2, 3 * scale, 4 * scale)]
    check_same(lambda x, m: carafe(x, m, kernel, groups, scale),
               lambda x, m: by_hand(x, m, kernel, groups, scale), inputs)


def test_the_upsampling_layer_trains():
    layer = CARAFEPack(8, 2)
    x = torch.randn(1, 8, 5, 6, requires_grad=True)
    out = layer(x)
    assert out.shape == (1, 8, 10, 12)
    out.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in (x, *layer.parameters()))
