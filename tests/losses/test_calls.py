"""What people hand to the losses by mistake is refused by name; what is clear is taken."""

import math

import numpy as np
import pytest
import torch

from asl_det.losses import AsymmetricLoss, AsymmetricLossSingleLabel
from asl_det.losses.targets import check_weight

X = torch.tensor([[0.5, -1.0, 2.0], [-0.5, 1.0, 0.0]])
Y = torch.tensor([0, 3])


def call(pred=X, target=Y, *args, options=None, **kwargs):
    return AsymmetricLoss(**(options or {}))(pred, target, *args, **kwargs)


@pytest.mark.parametrize('target', [
    [0, 3], (0, 3), np.array([0, 3]), np.array([0, 3], dtype=np.uint8)])
def test_labels_are_taken_from_lists_and_arrays(target):
    assert torch.equal(call(target=target), call())


@pytest.mark.parametrize('make', [list, tuple, np.array])
def test_dense_targets_and_weights_are_taken_from_lists_and_arrays(make):
    dense, weight = [[1, 0, 0], [0, 0, 0]], [1.0, 0.5]
    expected = call(X, torch.tensor(dense), torch.tensor(weight))
    assert torch.equal(call(X, make(dense), make(weight)), expected)


def test_a_list_of_two_rows_is_dense_and_a_list_of_two_tensors_is_a_pair():
    x = X[:, :2]
    rows = [[1.0, 0.0], [0.0, 1.0]]
    assert torch.equal(call(x, rows), call(x, torch.tensor(rows)))
    labels, scores = np.array([0, 2]), np.array([0.25, 0.5])
    expected = call(x, (torch.tensor(labels), torch.tensor(scores)))
    assert torch.equal(call(x, (labels, scores)), expected)


def test_the_softmax_loss_takes_lists_and_arrays_too():
    loss = AsymmetricLossSingleLabel()
    expected = loss(X, torch.tensor([0, 2]), torch.tensor([1.0, 0.5]))
    assert torch.equal(loss(X, [0, 2], np.array([1.0, 0.5], np.float32)), expected)


@pytest.mark.parametrize('kwargs, message', [
    (dict(pred='logits'), "pred is 'logits': expected a tensor"),
    (dict(pred=None), 'pred is None'),
    (dict(pred=X.tolist()), 'pred is a list of 2'),
    (dict(pred=X.numpy()), 'pred is array'),
    (dict(pred=X > 0), 'pred has dtype torch.bool'),
    (dict(target='0'), "target is '0'"),
    (dict(target=['cat', 'dog']), 'target is a list of 2'),
    (dict(target=[[0, 1], [2]]), 'target is a list of 2, which make no tensor'),
    (dict(target=np.array(['a', 'b'])), 'target is array'),
    (dict(target=[0, None]), 'target is a list of 2'),
    (dict(pred=X[:, 0]), r'pred has shape \(2,\) .*pred.unsqueeze\(1\)'),
    (dict(weight='heavy'), "weight is 'heavy'"),
    (dict(weight=torch.ones(3, 2)), r'weight has shape \(3, 2\).* and it is transposed'),
    (dict(weight=torch.ones(1, 3)), r'weight has shape \(1, 3\)'),
    (dict(weight=torch.tensor([1.0, -0.5])), r'weight -0.5 at position \[1\]: .* >= 0'),
    (dict(weight=torch.tensor([math.nan, 1.0])), r'weight nan at position \[0\]'),
    (dict(weight=torch.full((2, 3), math.inf)), r'weight inf at position \[0, 0\]'),
    (dict(weight=np.array([1, -1])), r'weight -1 at position \[1\]'),
    (dict(avg_factor='10'), "avg_factor='10'"),
    (dict(avg_factor=-3), 'avg_factor=-3: expected .* >= 0'),
    (dict(avg_factor=math.inf), 'avg_factor=inf'),
    (dict(avg_factor=math.nan), 'avg_factor=nan'),
    (dict(avg_factor=[1.0, 2.0]), r'avg_factor=\[1.0, 2.0\]'),
    (dict(avg_factor=torch.tensor([1.0, 2.0])), r'avg_factor has shape \(2,\): expected one'),
    (dict(avg_factor=torch.tensor(-1.0)), 'avg_factor=-1.0'),
    (dict(avg_factor=torch.tensor(math.inf)), 'avg_factor=inf'),
    (dict(reduction_override=['mean']), 'reduction='),
    (dict(options=dict(activated=True)), r'pred has the value -1, but activated=True'),
    (dict(options=dict(loss_weight=-1.0)), 'loss_weight=-1.0: expected a number >= 0'),
    (dict(options=dict(loss_weight=None)), 'loss_weight=None'),
    (dict(options=dict(use_sigmoid='False')), "use_sigmoid='False'.*expected True or False"),
    (dict(options=dict(activated='no')), "activated='no'"),
    (dict(options=dict(disable_torch_grad_focal_loss='off')), 'disable_torch_grad_focal_loss='),
    (dict(options=dict(check_targets=1)), 'check_targets=1'),
    (dict(options=dict(class_weight=[1.0, math.nan, 1.0])), 'class_weight='),
    (dict(options=dict(class_weight=[1.0, math.inf, 1.0])), 'class_weight='),
    (dict(options=dict(gamma_neg=np.array([1.0, 2.0]))), 'gamma_neg='),
])
def test_a_mistake_is_refused_by_the_name_of_the_argument(kwargs, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(**kwargs)


@pytest.mark.parametrize('args, message', [
    ((X[:, 0], torch.tensor([0, 1])), 'expected logits'),
    ((X, torch.tensor([0, 1]), torch.tensor([1.0, -1.0])), r'weight -1 at position \[1\]'),
    ((X, torch.tensor([0, 1]), None, -2.0), 'avg_factor=-2.0'),
    ((X, torch.tensor([0, 1]), None, torch.ones(2)), 'avg_factor has shape'),
    ((X, 'one'), "target is 'one'"),
])
def test_the_softmax_loss_refuses_the_same(args, message):
    with pytest.raises((TypeError, ValueError), match=message):
        AsymmetricLossSingleLabel()(*args)
    with pytest.raises(ValueError, match='loss_weight=-1'):
        AsymmetricLossSingleLabel(loss_weight=-1.0)
    with pytest.raises(TypeError, match='use_sigmoid='):
        AsymmetricLossSingleLabel(use_sigmoid='True')


def test_what_looked_odd_but_is_meant_goes_on():
    assert call(avg_factor=0).isfinite() and call(avg_factor=torch.tensor([4])).isfinite()
    assert call(weight=torch.zeros(2)) == 0 and call(weight=torch.tensor([True, False])) > 0
    assert call(weight=torch.zeros(0, 3), pred=X[:0], target=Y[:0]) == 0
    assert torch.isnan(call(avg_factor=torch.tensor(math.nan)))  # of a network that has diverged
    probabilities = torch.tensor([[0.0, 1.0, math.nan]])
    assert AsymmetricLoss(activated=True)(probabilities, torch.tensor([[0, 1, 0]])).isnan()
    assert call(X[:, 0], torch.tensor([1.0, 0.0])) > 0  # a score an image, as centerness


def test_values_are_not_looked_at_where_that_is_switched_off(monkeypatch):
    bad = torch.tensor([1.0, -1.0])
    assert call(weight=bad, options=dict(check_targets=False)).isfinite()
    monkeypatch.setattr(torch.Tensor, 'aminmax', lambda self: pytest.fail('it looked'))
    call(weight=bad, options=dict(check_targets=False))
    with pytest.raises(pytest.fail.Exception):
        check_weight(bad)
