import torch


def check_same(ours, theirs, inputs):
    """Values and gradients under a random upstream gradient."""
    results = []
    for function in (ours, theirs):
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = function(*leaves)
        upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(5)).to(out)
        results.append([out.detach(), *torch.autograd.grad(out, leaves, upstream)])
    for a, b in zip(*results, strict=True):
        assert a.abs().sum() > 0
        torch.testing.assert_close(a, b)
