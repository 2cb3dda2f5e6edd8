import torch
from processes import in_two_processes
from torch import nn

import asl_det  # noqa: F401  before mmcv.ops, in processes of their own too


def batches():
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(3, 4, 5, 6, generator=generator) * 2 + 1 for _ in range(4)]


def run(norm, batch):
    x = batch.clone().requires_grad_()
    out = norm(x)
    (out * torch.linspace(0, 1, out.numel() // len(out)).view(out.shape[1:])).sum().backward()
    return out.detach(), x.grad


def fill(norm):
    norm.load_state_dict(dict(norm.state_dict(), weight=torch.tensor([0.5, 1, 2, -1]),
                              bias=torch.tensor([0.0, 1, 2, 3])))
    return norm


def _worker(rank):
    from mmcv.ops import SyncBatchNorm
    norm = fill(SyncBatchNorm(4))
    found = [[t.tolist() for t in run(norm, batch)] for batch in batches()[rank::2]]
    return (found, norm.running_mean.tolist(), norm.running_var.tolist(),
            norm.weight.grad.tolist(), norm.bias.grad.tolist())


def test_two_processes_normalise_as_one_that_sees_both_batches(tmp_path):
    found = in_two_processes(_worker, tmp_path)
    norm = fill(nn.BatchNorm2d(4))
    data = batches()
    for k, pair in enumerate(zip(data[::2], data[1::2], strict=True)):
        for name, theirs in zip(('out', 'grad'), run(norm, torch.cat(pair)), strict=True):
            ours = torch.cat([torch.tensor(rank[0][k][name == 'grad']) for rank in found])
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for rank in found:
        torch.testing.assert_close(torch.tensor(rank[1]), norm.running_mean)
        torch.testing.assert_close(torch.tensor(rank[2]), norm.running_var)
        # mmcv averages the gradients of weight and bias over the processes
        torch.testing.assert_close(torch.tensor(rank[3]) * 2, norm.weight.grad, rtol=1e-4,
                                   atol=1e-4)
        torch.testing.assert_close(torch.tensor(rank[4]) * 2, norm.bias.grad)
