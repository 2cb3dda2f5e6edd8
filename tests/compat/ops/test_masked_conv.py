import pytest
import torch
from mmcv.ops import MaskedConv2d


@pytest.mark.parametrize('kernel, padding', [(3, 1), (1, 0), ((3, 5), (1, 2))])
def test_it_is_a_convolution_where_the_mask_is_and_zero_elsewhere(kernel, padding):
    conv = MaskedConv2d(4, 6, kernel, padding=padding)
    x, mask = torch.randn(1, 4, 7, 9), torch.rand(1, 7, 9) < 0.4
    with torch.no_grad():
        torch.testing.assert_close(conv(x, mask), conv(x) * mask[:, None])
        assert conv(x, mask).abs().sum() > 0
        assert conv(x, torch.zeros_like(mask)).abs().sum() == 0
