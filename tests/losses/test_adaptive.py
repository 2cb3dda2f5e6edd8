"""The adaptive gamma_neg."""

import copy
import gc
import io

import pytest
import torch
from processes import in_two_processes
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks
from torch.utils.checkpoint import checkpoint

from asl_det.losses import AsymmetricLoss


def adaptive_loss(gamma=2.0, target=0.1, step=0.5, **kwargs):
    adaptive = {'delta_p_target': target, 'step_size': step,
                **{k: kwargs.pop(k) for k in ('gamma_min', 'gamma_max') if k in kwargs}}
    return AsymmetricLoss(gamma_neg=gamma, adaptive=adaptive, **kwargs)


def optimizer_step():
    """An optimizer of the process steps; which one does not matter."""
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    torch.optim.SGD([parameter], 0.1).step()


def backward(loss, logits, targets, **kwargs):
    logits = logits.clone().requires_grad_()
    loss(logits, targets, **kwargs).sum().backward()
    return logits.grad


def step(loss, logits, targets, **kwargs):
    grad = backward(loss, logits, targets, **kwargs)
    optimizer_step()
    return grad


def some_batch(seed=0, rows=20, classes=5):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, classes, generator=generator),
            (torch.rand(rows, classes, generator=generator) < 0.3).long())


def delta_p(logits, targets):
    p = logits.double().sigmoid()
    return (p[targets == 1].mean() - (1 - p[targets == 0]).mean()).item()


@pytest.mark.parametrize('impl', ['auto', 'torch', 'fused'])
def test_gamma_moves_by_the_step_size_times_the_distance_to_the_target(impl):
    loss = adaptive_loss(impl=impl)
    logits, targets = some_batch()
    step(loss, logits, targets)
    assert loss.gamma_neg == pytest.approx(2 + 0.5 * (0.1 - delta_p(logits, targets)), abs=1e-5)
    assert float(loss.adaptive.gamma_neg) == loss.gamma_neg


def test_the_first_step_uses_the_start_and_the_one_after_the_new_gamma():
    loss = adaptive_loss()
    batch = some_batch()
    assert torch.equal(step(loss, *batch), backward(AsymmetricLoss(gamma_neg=2.0), *batch))
    plain = AsymmetricLoss(gamma_neg=loss.gamma_neg)
    assert loss.gamma_neg != 2.0 and torch.equal(step(loss, *batch), backward(plain, *batch))


@pytest.mark.parametrize('accumulated', [False, True])
def test_calls_before_one_optimizer_step_are_one_step(accumulated):
    """The levels of a detector, and the batches of an accumulated gradient."""
    loss, whole = adaptive_loss(), adaptive_loss()
    logits, targets = some_batch(rows=30)
    parts = list(zip(logits.split([5, 10, 15]), targets.split([5, 10, 15]), strict=True))
    if accumulated:
        for part in parts:
            backward(loss, *part)
            assert loss.gamma_neg == 2.0
    else:
        levels = [(x.clone().requires_grad_(), y) for x, y in parts]
        sum(loss(x, y) for x, y in levels).backward()
    backward(whole, logits, targets)
    optimizer_step()
    assert loss.gamma_neg == pytest.approx(whole.gamma_neg, abs=1e-6) and loss.gamma_neg != 2.0


@pytest.mark.parametrize('reentrant', [False, True])
def test_a_pass_that_is_repeated_for_its_activations_counts_once(reentrant):
    """And the gradient is that of the gamma that the forward pass used."""
    loss, plain = adaptive_loss(), adaptive_loss()
    batches = [some_batch(seed) for seed in range(3)]
    for logits, targets in batches:
        x = logits.clone().requires_grad_()
        checkpoint(lambda x, y: loss(x, y), x, targets, use_reentrant=reentrant).backward()
        expected = backward(plain, logits, targets)
        assert torch.equal(x.grad, expected)
        optimizer_step()
        assert loss.gamma_neg == plain.gamma_neg
    assert loss.gamma_neg != 2.0


def test_a_batch_with_a_nan_does_not_count():
    loss, without = adaptive_loss(), adaptive_loss()
    batches = [some_batch(seed) for seed in range(3)]
    broken = batches[1][0].clone()
    broken[3, 1] = float('nan')
    step(loss, *batches[0])
    backward(loss, broken, batches[1][1])
    optimizer_step()
    step(loss, *batches[2])
    step(without, *batches[0])
    step(without, *batches[2])
    assert loss.gamma_neg == without.gamma_neg != 2.0


def test_a_retained_graph_counts_once():
    loss, once = adaptive_loss(), adaptive_loss()
    logits, targets = some_batch()
    x = logits.clone().requires_grad_()
    value = loss(x, targets)
    value.backward(retain_graph=True)
    value.backward()
    optimizer_step()
    step(once, logits, targets)
    assert loss.gamma_neg == once.gamma_neg


def test_half_a_model_keeps_all_digits_of_gamma():
    loss = adaptive_loss()
    step(loss, *some_batch())
    before = loss.gamma_neg
    for cast in (loss.half, loss.bfloat16, loss.double):
        cast()
        assert loss.gamma_neg == before and loss.adaptive.gamma_neg.dtype == torch.float32
    logits, targets = some_batch()
    step(loss, logits.half(), targets)
    assert loss.gamma_neg != before


def test_a_loaded_gamma_is_used_by_evaluation_too():
    trained, loaded = adaptive_loss(), adaptive_loss()
    step(trained, *some_batch())
    loaded.load_state_dict(trained.state_dict())
    batch = some_batch(1)
    with torch.no_grad():
        expected = AsymmetricLoss(gamma_neg=trained.gamma_neg)(*batch)
        assert torch.equal(loaded.eval()(*batch), expected)
    assert expected != AsymmetricLoss(gamma_neg=2.0)(*batch)


def test_checkpoints_load_strictly_with_and_without_an_adaptive_loss():
    trained = adaptive_loss()
    step(trained, *some_batch())
    fixed = AsymmetricLoss(gamma_neg=3.0)
    fixed.load_state_dict(trained.state_dict(), strict=True)
    assert fixed.gamma_neg == 3.0
    model, of_fixed = nn.ModuleDict(dict(loss=trained)), nn.ModuleDict(dict(loss=fixed))
    gamma = trained.gamma_neg
    assert not model.load_state_dict(of_fixed.state_dict(), strict=True).missing_keys
    assert trained.gamma_neg == gamma
    of_fixed.load_state_dict(model.state_dict(), strict=True)
    old = dict(model.state_dict(), **{'loss.adaptive.sums': torch.zeros(4)})
    model.load_state_dict(old, strict=True)
    with pytest.raises(RuntimeError, match='Unexpected.*other'):
        model.load_state_dict(dict(old, other=torch.zeros(1)), strict=True)


def test_a_loss_that_is_gone_is_not_stepped():
    gone = adaptive_loss()
    gc.collect()  # what other tests left
    handles = len(_global_optimizer_post_hooks)
    del gone
    gc.collect()
    assert len(_global_optimizer_post_hooks) == handles - 1
    optimizer_step()


@pytest.mark.skipif(not hasattr(torch, 'compiler'), reason='torch.compile comes with torch 2.1')
def test_a_gamma_that_moves_compiles_once():
    torch._dynamo.reset()
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    loss, eager = adaptive_loss(), adaptive_loss()
    compiled = torch.compile(loss, backend=count)
    for seed in range(6):
        batch = some_batch(seed)
        grads = [step(module, *batch) for module in (compiled, eager)]
        torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-7)
        if seed == 1:
            first = len(graphs)
    assert len(graphs) == first <= 2
    assert loss.gamma_neg == pytest.approx(eager.gamma_neg, abs=1e-5) and eager.gamma_neg != 2.0


def test_index_targets_and_what_does_not_count():
    loss, other = adaptive_loss(), adaptive_loss()
    logits, labels = torch.randn(12, 3), torch.randint(0, 4, (12,))  # 3 is background
    labels[:2] = -1
    weight = torch.ones(12)
    weight[2:5] = 0
    step(loss, logits, labels, weight=weight)
    dense = torch.zeros(7, 4).scatter_(1, labels[5:, None], 1.0)[:, :3]
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
    logits, targets = some_batch()
    with torch.no_grad():
        loss(logits, targets)
    loss.eval()
    step(loss, logits, targets)
    assert loss.gamma_neg == 2.0
    loss.train()
    step(loss, logits, targets)
    assert loss.gamma_neg != 2.0


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


@pytest.mark.parametrize('options, error', [
    (dict(target=1.0), ValueError), (dict(step=0.0), ValueError), (dict(gamma_min=3.0), ValueError),
    (dict(gamma_max=1.0), ValueError), (dict(step='0.1'), TypeError)])
def test_values_out_of_range_are_refused(options, error):
    with pytest.raises(error, match='adaptive: .* expected'):
        adaptive_loss(**options)


def test_a_loss_moves_with_the_optimizer_that_it_follows_alone():
    followed, other = (torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1) for _ in range(2))
    loss = adaptive_loss()
    loss.adaptive.follow(followed)
    backward(loss, *some_batch())
    copied = copy.deepcopy(loss)  # it follows nothing
    other.step()
    assert loss.gamma_neg == 2.0 != copied.gamma_neg
    followed.step()
    assert loss.gamma_neg == copied.gamma_neg


def _calls(rank):
    """Batches of the steps of a process: rank 1 calls the loss twice in one, never in another."""
    batches = [[some_batch(10 * rank + k, 7 + 3 * rank)] for k in range(4)]
    if rank == 1:
        batches[1] = []
        batches[2].append(some_batch(99))
    return batches


def _worker(rank):
    loss = adaptive_loss()
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    optimizer = torch.optim.SGD([parameter], 0.1)
    loss.adaptive.follow(optimizer)
    loss.adaptive.follow(optimizer)  # once is enough
    for calls in _calls(rank):
        for batch in calls:
            backward(loss, *batch)
        optimizer.step()
        if rank == 0:
            # One that this process alone has, and uses, waits for no other.
            step(adaptive_loss(), *some_batch())
    return loss.gamma_neg


def test_two_processes_that_call_differently_often_keep_one_gamma(tmp_path):
    found = in_two_processes(_worker, tmp_path)
    assert found[0] == found[1]
    loss = adaptive_loss()  # as one process that saw all of it
    for a, b in zip(_calls(0), _calls(1), strict=True):
        for batch in a + b:
            backward(loss, *batch)
        optimizer_step()
    assert found[0] == pytest.approx(loss.gamma_neg, abs=1e-6) and loss.gamma_neg != 2.0
