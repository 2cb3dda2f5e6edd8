"""Shape and dtype together say what a target is; where they leave a choice, nothing is guessed."""

import warnings

import numpy as np
import pytest
import torch
from torch.masked import masked_tensor

from asl_det.losses import AsymmetricLoss, AsymmetricLossSingleLabel, asymmetric_loss, one_pass

BCE = dict(gamma_pos=0, gamma_neg=0, clip=0)
X = torch.tensor([[4.0], [-4.0]])
WIDE = torch.tensor([[0.5, -1.0, 2.0], [-0.5, 1.0, 0.0]])


def function(pred, target):
    return asymmetric_loss(pred, torch.as_tensor(target), **BCE)


def module(pred, target):
    return AsymmetricLoss(**BCE, reduction='none')(pred, target)


@pytest.mark.parametrize('loss', [function, module])
@pytest.mark.parametrize('target', [
    torch.tensor([0.9, 0.1]), torch.tensor([1.0, 0.0]), torch.tensor([True, False]),
    torch.tensor([1.0, 0.0], dtype=torch.float16), [1.0, 0.0], [True, False]])
def test_what_can_not_be_a_label_is_refused_beside_one_class(loss, target):
    with pytest.raises(ValueError, match=r'target.*\[:, None\].*\.long\(\)'):
        loss(X, target)


@pytest.mark.parametrize('loss', [function, module])
@pytest.mark.parametrize('target', [[0.0, 2.0], np.array([0.0, 2.0]), [True, False],
                                    torch.tensor([0.5, 0.25])])
def test_what_can_not_be_a_label_is_refused_beside_more_classes(loss, target):
    with pytest.raises(ValueError, match=r'class indices are integers, target.*\.long\(\)'):
        loss(WIDE, target)


def test_labels_of_a_pair_and_of_the_softmax_loss_are_integers_too():
    scores = torch.tensor([0.5, 0.25])
    with pytest.raises(ValueError, match=r'labels of target.*integers'):
        AsymmetricLoss()(WIDE, (scores, scores))
    with pytest.raises(ValueError, match=r'scores of target .*int64.*floats'):
        AsymmetricLoss()(WIDE[:, :2], [torch.tensor([1, 0]), torch.tensor([0, 1])])  # two rows
    for target in (scores.round(), torch.tensor([True, False]), [0.0, 1.0]):
        with pytest.raises(ValueError, match=r'class indices are integers, target.*\.long\(\)'):
            AsymmetricLossSingleLabel()(WIDE, target)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_integers_are_labels_for_one_class_as_mmdet_means_them(dtype):
    labels = torch.tensor([0, 1], dtype=dtype)  # object, background
    expected = module(X, torch.tensor([[1.0], [0.0]]))
    assert expected.max() < 0.02
    assert torch.equal(module(X, labels), expected)
    torch.testing.assert_close(function(X, labels), expected)
    assert torch.equal(module(X, labels.tolist()), expected)


def test_a_binary_head_learns_from_floats_with_an_axis_of_classes():
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        X, torch.tensor([[0.9], [0.1]]), reduction='none')
    torch.testing.assert_close(module(X, torch.tensor([0.9, 0.1])[:, None]), expected)
    torch.testing.assert_close(module(X[:, 0], torch.tensor([0.9, 0.1])), expected[:, 0])
    assert torch.equal(module(X[:, 0], torch.tensor([True, False])),
                       module(X[:, 0], torch.tensor([1.0, 0.0])))


@pytest.mark.parametrize('loss', [function, module])
@pytest.mark.parametrize('shape', [(2, 3, 3), (2, 3, 5), (2, 5, 3), (2, 3, 3, 3)])
def test_labels_that_fit_the_classes_on_another_axis_are_not_guessed(loss, shape):
    with pytest.raises(ValueError, match=r'flatten\(0, -2\).*movedim\(1, -1\)'):
        loss(torch.zeros(shape), torch.zeros(shape[:1] + shape[2:], dtype=torch.long))
    if shape[1] != shape[2]:
        assert loss(torch.zeros(shape), torch.zeros(shape[:-1], dtype=torch.long)).shape == shape
    dense = torch.rand(shape)
    torch.testing.assert_close(loss(torch.zeros(shape), dense).flatten(0, -2),
                               loss(torch.zeros(shape).flatten(0, -2), dense.flatten(0, -2)))


def test_weights_that_fit_the_classes_on_another_axis_are_not_guessed():
    pred, target = torch.randn(2, 3, 3), torch.rand(2, 3, 3)
    with pytest.raises(ValueError, match=r'weight has shape \(2, 3\).*movedim'):
        AsymmetricLoss()(pred, target, torch.ones(2, 3))
    assert torch.equal(AsymmetricLoss()(pred, target, torch.ones(2, 3, 1)),
                       AsymmetricLoss()(pred, target))


@pytest.mark.parametrize('targets', [torch.zeros(1, 3), torch.zeros(2, 1), torch.zeros(3)])
def test_the_function_broadcasts_no_target(targets):
    with pytest.raises(ValueError, match=r'targets has shape .*, but logits has \(2, 3\)'):
        function(WIDE, targets)


def layouts(dense):
    nested = [torch.nested.nested_tensor(list(dense))]
    if hasattr(torch, 'jagged'):
        nested.append(torch.nested.nested_tensor(list(dense), layout=torch.jagged))
    return [(dense.to_sparse(), r'\.to_dense\(\)'), (dense.to_sparse_csr(), r'\.to_dense\(\)'),
            (torch.quantize_per_tensor(dense, 1.0, 0, torch.quint8), r'\.dequantize\(\)'),
            *((n, 'to_padded_tensor') for n in nested),
            (masked_tensor(dense, dense > 0), r'get_data\(\)')]


@pytest.mark.filterwarnings('ignore')
def test_other_kinds_of_tensor_are_refused_with_what_to_do():
    dense, loss = torch.eye(3), AsymmetricLoss()
    for odd, message in layouts(dense):
        for name, called, inputs in (
                ('target', loss, (dense, odd)), ('weight', loss, (dense, dense, odd)),
                ('pred', loss, (odd, dense)), ('targets', function, (dense, odd)),
                ('target', AsymmetricLossSingleLabel(), (dense, odd))):
            with pytest.raises((TypeError, ValueError), match=rf'^{name} .*{message}'):
                called(*inputs)


def test_tables_of_other_libraries_are_refused_with_what_to_do():
    scipy = pytest.importorskip('scipy.sparse')
    masked = np.ma.masked_array(np.eye(3), mask=np.eye(3) > 0)
    for odd, message in ((scipy.csr_matrix(np.eye(3)), r'csr_matrix: .*target\.toarray\(\)'),
                         (masked, r'masked.*target\.filled\(-1\)')):
        with pytest.raises(TypeError, match=message):
            AsymmetricLoss()(torch.eye(3), odd)
    plain = np.ma.masked_array(np.eye(3))  # hides nothing
    assert AsymmetricLoss()(torch.eye(3), plain) == AsymmetricLoss()(torch.eye(3), np.eye(3))


CODED = [[-1, 1, 1], [1, -1, -1]]


@pytest.fixture
def fresh(monkeypatch):
    one_pass.warn_once.cache_clear()
    yield
    one_pass.warn_once.cache_clear()


@pytest.mark.parametrize('make', [torch.tensor, lambda rows: torch.tensor(rows).float(), list])
@pytest.mark.parametrize('impl', ['auto', 'torch'])
def test_absent_written_as_minus_one_is_said_once(fresh, make, impl):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        for _ in range(2):
            loss = AsymmetricLoss(impl=impl)
            loss(WIDE, make(CODED))
            loss(WIDE, make(CODED))
    assert len(seen) == 1
    assert '-1' in str(seen[0].message) and 'target.clamp(min=0)' in str(seen[0].message)


@pytest.mark.parametrize('targets, options', [
    ([[[0, 1, 1], [1, 0, -1]], CODED], {}),  # the data set writes 0
    ([[[-1, -1, -1], [-1, -1, -1]]], {}),  # nothing is known
    ([[[1, 1, 1], [1, 1, 1]]], {}),
    ([[0, -1]], {}),  # labels
    ([CODED], dict(check_targets=False))])
def test_unknown_labels_are_no_reason_to_warn(fresh, targets, options):
    loss = AsymmetricLoss(**options)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for target in targets:
            loss(WIDE, torch.tensor(target))


def test_a_data_set_is_looked_at_until_it_is_known(fresh):
    loss = AsymmetricLoss()
    loss(WIDE, torch.full((2, 3), -1))  # says nothing
    with pytest.warns(UserWarning, match='absent'):
        loss(WIDE, torch.tensor(CODED))


@pytest.mark.parametrize('empty', [torch.tensor([]), torch.zeros(0, dtype=torch.bool), np.zeros(0),
                                   torch.zeros(0, dtype=torch.long)])
@pytest.mark.parametrize('classes', [1, 3])
def test_of_no_rows_any_dtype_is_right(empty, classes):
    pred = torch.zeros(0, classes, requires_grad=True)
    assert function(pred, empty).sum() == 0
    for loss in (AsymmetricLoss(), AsymmetricLossSingleLabel()):
        value = loss(pred, empty)
        value.sum().backward()
        assert value.shape == () and pred.grad.shape == pred.shape
    assert AsymmetricLoss(reduction='none')(pred, empty).shape == (0, classes)
    assert AsymmetricLoss()(pred, (empty, torch.zeros(0))) == 0
