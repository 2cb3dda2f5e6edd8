"""The adaptive gamma_neg."""

import copy
import io

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from asl_det.losses import AsymmetricLoss


def adaptive_loss(gamma=2.0, target=0.1, step=0.5, **kwargs):
    adaptive = {'delta_p_target': target, 'step_size': step,
                **{k: kwargs.pop(k) for k in ('gamma_min', 'gamma_max') if k in kwargs}}
    return AsymmetricLoss(gamma_neg=gamma, adaptive=adaptive, **kwargs)


def step(loss, logits, targets, **kwargs):
    logits = logits.clone().requires_grad_()
    loss(logits, targets, **kwargs).sum().backward()
    return logits.grad


def delta_p(logits, targets):
    p = logits.double().sigmoid()
    return (p[targets == 1].mean() - (1 - p[targets == 0]).mean()).item()


@pytest.mark.parametrize('impl', ['auto', 'torch', 'fused'])
def test_gamma_moves_by_the_step_size_times_the_distance_to_the_target(impl):
    loss = adaptive_loss(impl=impl)
    logits, targets = torch.randn(20, 5), (torch.rand(20, 5) < 0.3).long()
    step(loss, logits, targets)
    assert loss.gamma_neg == 2.0  # the first step uses the start
    step(loss, logits, targets)
    assert loss.gamma_neg == pytest.approx(2 + 0.5 * (0.1 - delta_p(logits, targets)), abs=1e-5)
    assert float(loss.adaptive.gamma_neg) == loss.gamma_neg


def test_the_step_after_uses_the_new_gamma():
    loss = adaptive_loss()
    logits, targets = torch.randn(20, 5), (torch.rand(20, 5) < 0.3).long()
    step(loss, logits, targets)
    grad = step(loss, logits, targets)
    plain = AsymmetricLoss(gamma_neg=loss.gamma_neg)
    assert torch.equal(grad, step(plain, logits, targets))


def test_calls_before_one_backward_pass_are_one_step():
    loss, whole = adaptive_loss(), adaptive_loss()
    logits, targets = torch.randn(30, 5), (torch.rand(30, 5) < 0.3).long()
    levels = [part.clone().requires_grad_() for part in logits.split([5, 10, 15])]
    sum(loss(x, y) for x, y in zip(levels, targets.split([5, 10, 15]), strict=True)).backward()
    step(whole, logits, targets)
    for module in (loss, whole):
        step(module, logits, targets)
    assert loss.gamma_neg == pytest.approx(whole.gamma_neg, abs=1e-9) and loss.gamma_neg != 2.0


def test_index_targets_and_what_does_not_count():
    loss, other = adaptive_loss(), adaptive_loss()
    logits, labels = torch.randn(12, 3), torch.randint(0, 4, (12,))  # 3 is background
    labels[:2] = -1
    weight = torch.ones(12)
    weight[2:5] = 0
    step(loss, logits, labels, weight=weight)
    step(loss, logits, labels, weight=weight)
    dense = torch.zeros(7, 4).scatter_(1, labels[5:, None], 1.0)[:, :3]
    step(other, logits[5:], dense)
    step(other, logits[5:], dense)
    assert loss.gamma_neg == pytest.approx(other.gamma_neg, abs=1e-6) and loss.gamma_neg != 2.0


@pytest.mark.parametrize('targets', [torch.zeros(4, 3), torch.ones(4, 3), -torch.ones(4, 3)])
def test_a_step_without_positives_or_negatives_changes_nothing(targets):
    loss = adaptive_loss()
    for _ in range(3):
        step(loss, torch.randn(4, 3), targets)
    assert loss.gamma_neg == 2.0


def test_gamma_stays_in_its_bounds():
    high, low = (adaptive_loss(target=t, step=10, gamma_min=1, gamma_max=3) for t in (0.9, -0.9))
    for _ in range(4):
        for loss in (high, low):
            step(loss, torch.zeros(4, 3), torch.eye(4)[:, :3])
    assert (low.gamma_neg, high.gamma_neg) == (1.0, 3.0)


def test_evaluation_and_calls_without_gradient_do_not_count():
    loss = adaptive_loss()
    logits, targets = torch.randn(20, 5), (torch.rand(20, 5) < 0.3).long()
    with torch.no_grad():
        loss(logits, targets)
    loss.eval()
    step(loss, logits, targets)
    loss.train()
    step(loss, logits, targets)
    assert loss.gamma_neg == 2.0 and float(loss.adaptive.sums.abs().sum()) > 0


def test_a_restored_loss_goes_on_with_the_same_values():
    loss, through = adaptive_loss(), adaptive_loss()
    batches = [(torch.randn(9, 4), (torch.rand(9, 4) < 0.4).long()) for _ in range(6)]
    for batch in batches[:3]:
        step(loss, *batch)
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    file.seek(0)
    restored = adaptive_loss()
    restored.load_state_dict(torch.load(file, weights_only=True))
    for batch in batches[3:]:
        step(restored, *batch)
    for batch in batches:
        step(through, *batch)
    assert restored.gamma_neg == through.gamma_neg != 2.0
    assert all(torch.equal(a, b) for a, b in zip(restored.buffers(), through.buffers(),
                                                 strict=True))


def test_the_loss_can_be_copied_in_the_middle_of_a_training():
    loss = adaptive_loss()
    step(loss, torch.randn(5, 3), torch.eye(5)[:, :3])
    again = copy.deepcopy(loss)
    for module in (loss, again):
        step(module, torch.ones(5, 3), torch.eye(5)[:, :3])
    assert again.gamma_neg == loss.gamma_neg != 2.0


def test_a_closed_loop_reaches_its_target_and_a_higher_one_has_a_higher_gamma():
    final = []
    for target in (0.0, 0.1, 0.2):
        torch.manual_seed(0)
        truth = (torch.rand(512, 8) < 0.15).float()
        inputs = truth @ torch.randn(8, 32) + 3.0 * torch.randn(512, 32)
        model = nn.Linear(32, 8)
        loss = adaptive_loss(target=target, step=0.2)
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(600):
            optimizer.zero_grad()
            loss(model(inputs), truth).backward()
            optimizer.step()
        assert delta_p(model(inputs), truth) == pytest.approx(target, abs=0.02)
        final.append(loss.gamma_neg)
    assert final[0] < final[1] < final[2]


@pytest.mark.parametrize('options', [dict(target=1.0), dict(step=0.0), dict(gamma_min=3.0),
                                     dict(gamma_max=1.0)])
def test_values_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match='adaptive: .* expected'):
        adaptive_loss(**options)


def _worker(rank, port, queue):
    dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    torch.manual_seed(rank)
    loss = adaptive_loss()
    for _ in range(4):
        step(loss, torch.randn(7 + 3 * rank, 4), (torch.rand(7 + 3 * rank, 4) < 0.4).long())
    queue.put((rank, loss.gamma_neg))


def test_two_processes_keep_one_gamma(free_port):
    context = mp.get_context('spawn')
    queue = context.Queue()
    processes = [context.Process(target=_worker, args=(rank, free_port, queue)) for rank in (0, 1)]
    for process in processes:
        process.start()
    found = dict(queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    assert found[0] == found[1]
    # As one process that saw both batches.
    loss = adaptive_loss()
    generators = []
    for rank in (0, 1):
        torch.manual_seed(rank)
        generators.append([(torch.randn(7 + 3 * rank, 4),
                            (torch.rand(7 + 3 * rank, 4) < 0.4).long()) for _ in range(4)])
    for (a, ya), (b, yb) in zip(*generators, strict=True):
        step(loss, torch.cat([a, b]), torch.cat([ya, yb]))
    assert found[0] == pytest.approx(loss.gamma_neg, abs=1e-6)
