import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.losses import FocalLoss
from mmdet.models.losses.utils import weight_reduce_loss

from asl_det.losses import AsymmetricLoss, asymmetric_loss
from asl_det.registry import MODELS

N, C = 50, 6


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(N, C, generator=generator) * 3
    labels = torch.randint(0, C + 1, (N,), generator=generator)
    return logits, labels


def focal_pair(**kwargs):
    ours = AsymmetricLoss(gamma_neg=2, gamma_pos=2, clip=0, alpha=0.25, **kwargs)
    return ours, FocalLoss(gamma=2.0, alpha=0.25, **kwargs)


def test_the_registry_builds_it_from_a_config():
    loss = MODELS.build(dict(type='AsymmetricLoss', use_sigmoid=True, gamma_neg=3.0))
    assert isinstance(loss, AsymmetricLoss) and loss.gamma_neg == 3 and loss.use_sigmoid


def test_peers_call_means_the_same(batch):
    logits, labels = batch
    targets = F.one_hot(labels, C + 1)[:, :C]
    expected = asymmetric_loss(logits, targets, gamma_neg=4, gamma_pos=1, clip=0.05)
    loss = AsymmetricLoss(gamma_neg=4, gamma_pos=1, clip=0.05, reduction='sum')
    torch.testing.assert_close(loss(logits, targets), expected.sum())


@pytest.mark.parametrize('weight_shape', [None, (N,), (N, 1), (N, C), (N * C,)])
@pytest.mark.parametrize('reduction, avg_factor', [
    ('mean', None), ('mean', 7), ('mean', torch.tensor(7.0)), ('mean', 0), ('sum', None),
    ('none', None), ('none', 7)])
def test_every_call_equals_mmdets_focal_loss(batch, weight_shape, reduction, avg_factor):
    logits, labels = batch
    ours, focal = focal_pair(reduction=reduction, loss_weight=1.7)
    weight = None if weight_shape is None else torch.rand(weight_shape)
    results = []
    for module in (ours, focal):
        x = logits.double().requires_grad_()  # in float32 mmdet's gradient is good to 4e-5
        loss = module(x, labels, weight, avg_factor=avg_factor)
        upstream = torch.linspace(-1, 2, loss.numel()).view(loss.shape)
        (loss * upstream).sum().backward()
        results.append((loss.detach(), x.grad))
    torch.testing.assert_close(*[r[0] for r in results])
    torch.testing.assert_close(*[r[1] for r in results])


def test_probabilities_equal_mmdets_activated_focal_loss(batch):
    logits, labels = batch
    targets = F.one_hot(labels, C + 1)[:, :C]
    ours, focal = focal_pair(activated=True)
    torch.testing.assert_close(ours(logits.sigmoid(), targets), focal(logits.sigmoid(), targets))


def test_reduction_override_wins(batch):
    loss = AsymmetricLoss(reduction='mean')
    assert loss(*batch, reduction_override='none').shape == (N, C)
    torch.testing.assert_close(loss(*batch, reduction_override='sum'),
                               loss(*batch, reduction_override='none').sum())


def test_unknown_labels_leave_the_batch_as_if_they_were_not_in_it(batch):
    logits, labels = batch
    labels = labels.clone()
    labels[10:] = -1
    loss = AsymmetricLoss()
    torch.testing.assert_close(loss(logits, labels), loss(logits[:10], labels[:10]))
    dense = (torch.rand(N, C) < 0.3).long()
    dense[:, 2:] = -1
    torch.testing.assert_close(loss(logits, dense), loss(logits[:, :2], dense[:, :2]))


@pytest.mark.parametrize('target', [torch.full((N,), -1), torch.full((N, C), -1.0)])
def test_a_batch_of_unknown_labels_is_zero_with_a_graph(batch, target):
    logits = batch[0].clone().requires_grad_()
    loss = AsymmetricLoss()(logits, target)
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


@pytest.mark.parametrize('avg_factor', [None, 0, 3.0, torch.tensor(0.0)])
@pytest.mark.parametrize('target', [torch.zeros(0, dtype=torch.long), torch.zeros(0, C)])
def test_an_empty_batch_is_zero_with_a_graph(target, avg_factor):
    logits = torch.zeros(0, C, requires_grad=True)
    weight = torch.zeros(target.shape)
    loss = AsymmetricLoss()(logits, target, weight, avg_factor=avg_factor)
    loss.backward()
    assert loss.item() == 0 and logits.grad.shape == (0, C)


def test_index_and_score_pairs_are_soft_targets(batch):
    logits, labels = batch
    labels = labels.clone()
    labels[3] = -1
    scores = torch.rand(N)
    dense = F.one_hot(labels.clamp(min=0), C + 1)[:, :C] * scores[:, None]
    dense[3] = -1
    loss = AsymmetricLoss()
    torch.testing.assert_close(loss(logits, (labels, scores)), loss(logits, dense))


def test_class_weights_multiply_their_column(batch):
    weights = [0.0, 1, 2, 3, 4, 5]
    plain = AsymmetricLoss(reduction='none')(*batch)
    weighted = AsymmetricLoss(reduction='none', class_weight=weights)(*batch)
    torch.testing.assert_close(weighted, plain * torch.tensor(weights))


def test_inputs_are_never_modified(batch):
    logits, labels = batch
    for target in (labels, torch.rand(N, C), (labels, torch.rand(N))):
        weight = torch.rand(N)
        tensors = [logits, weight, *(target if isinstance(target, tuple) else [target])]
        before = [t.clone() for t in tensors]
        AsymmetricLoss(alpha=0.3)(logits, target, weight, avg_factor=3)
        assert all(torch.equal(a, b) for a, b in zip(before, tensors, strict=True))


def test_it_leaves_the_gradient_mode_alone(batch):
    loss = AsymmetricLoss(disable_torch_grad_focal_loss=True)
    with torch.no_grad():
        assert not loss(*batch).requires_grad
        assert not torch.is_grad_enabled()
    loss(batch[0].requires_grad_(), batch[1])
    assert torch.is_grad_enabled()


def test_it_can_be_copied_and_pickled_after_a_step(batch):
    logits, labels = batch
    loss = AsymmetricLoss(class_weight=[1.0] * C)
    loss(logits.clone().requires_grad_(), labels).backward()
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(twin(logits, labels), loss(logits, labels))
    assert loss.state_dict() == {}  # checkpoints of focal-loss models stay loadable


def test_autocast_computes_in_float32(batch):
    logits, labels = batch
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = AsymmetricLoss()(logits.bfloat16(), labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, AsymmetricLoss()(logits.bfloat16().float(), labels))


@pytest.mark.skipif(not hasattr(torch, 'compiler'), reason='torch.compile comes with torch 2.1')
def test_torch_compile_needs_no_graph_break(batch):
    logits, labels = batch
    loss = AsymmetricLoss(alpha=0.25, gamma_neg=2)
    compiled = torch.compile(loss, fullgraph=True, backend='aot_eager')
    results = []
    for function in (loss, compiled):
        x = logits.clone().requires_grad_()
        value = function(x, labels, torch.ones(N), avg_factor=5)
        value.backward()
        results.append((value.detach(), x.grad))
    torch.testing.assert_close(results[0], results[1])


def test_noncontiguous_logits(batch):
    logits, labels = batch
    view = logits.repeat_interleave(2, 1)[:, ::2]
    assert not view.is_contiguous()
    torch.testing.assert_close(AsymmetricLoss()(view, labels), AsymmetricLoss()(logits, labels))


def test_reduction_equals_mmdets_helper(batch):
    logits, labels = batch
    weight = torch.rand(N)
    entries = AsymmetricLoss(reduction='none')(logits, labels)
    torch.testing.assert_close(
        AsymmetricLoss()(logits, labels, weight, avg_factor=9.0),
        weight_reduce_loss(entries, weight[:, None], 'mean', 9.0))


@pytest.mark.parametrize('kwargs, message', [
    (dict(clip=1.0), r'clip=1.0: expected a probability margin in \[0, 1\)'),
    (dict(clip=-0.1), 'clip=-0.1'),
    (dict(gamma_neg=-1), 'gamma_neg=-1: expected a number >= 0'),
    (dict(gamma_pos=float('nan')), 'gamma_pos=nan'),
    (dict(gamma_neg=float('inf')), 'gamma_neg=inf'),
    (dict(alpha=1.5), 'alpha=1.5'),
    (dict(reduction='avg'), "reduction='avg': expected 'mean', 'sum' or 'none'"),
    (dict(use_sigmoid=False), 'set use_sigmoid=True'),
    (dict(class_weight=[1.0, -1]), 'class_weight'),
    (dict(ignore_index=0), 'ignore_index=0'),
])
def test_wrong_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        AsymmetricLoss(**kwargs)


@pytest.mark.parametrize('target, message', [
    (torch.full((N,), C + 1), r'class index 7 at position \[0\]: expected 0 to 6'),
    (torch.full((N,), -2), 'class index -2'),
    (torch.full((N, C), 1.5), r'target 1.5 at position \[0, 0\]: expected 0 to 1'),
    (torch.full((N, C), float('nan')), 'target nan'),
    (torch.full((N, C), 2), 'target 2'),
    (torch.zeros(N + 1, dtype=torch.long), r'target has shape \(51,\), but pred has \(50, 6\)'),
    (torch.zeros(N, C - 1), r'target has shape \(50, 5\)'),
    ((torch.zeros(N).long(), torch.full((N,), 2.0)), 'target 2 at position'),
    ((torch.zeros(N), torch.zeros(N - 1)), r'the pair \(50,\), \(49,\)'),
])
def test_wrong_targets_are_refused(batch, target, message):
    with pytest.raises(ValueError, match=message):
        AsymmetricLoss()(batch[0], target)


def test_other_wrong_calls_are_refused(batch):
    loss = AsymmetricLoss()
    with pytest.raises(ValueError, match="avg_factor can not be used with reduction 'sum'"):
        loss(*batch, avg_factor=3, reduction_override='sum')
    with pytest.raises(ValueError, match='reduction'):
        loss(*batch, reduction_override='average')
    with pytest.raises(ValueError, match=r'weight has shape \(7,\), but pred has \(50, 6\)'):
        loss(*batch, torch.ones(7))
    with pytest.raises(ValueError, match='class_weight has 2 entries, but pred has 6 classes'):
        AsymmetricLoss(class_weight=[1.0, 1.0])(*batch)


def test_checking_targets_can_be_switched_off(batch):
    bad = torch.full((N, C), 1.5)
    with pytest.raises(ValueError):
        AsymmetricLoss(check_targets=True)(batch[0], bad)
    assert AsymmetricLoss(check_targets=False)(batch[0], bad).isfinite()
