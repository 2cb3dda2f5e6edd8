"""The state of a loss through casts, and what copies a loss into another language."""

import copy

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from asl_det.losses import AsymmetricLoss, AsymmetricLossSingleLabel, RoIAsymmetricLoss
from asl_det.losses.backends import native

LOSSES = [AsymmetricLoss, AsymmetricLossSingleLabel, RoIAsymmetricLoss]
WEIGHTS = [1 / 3, 70000.0, 0.1]
CASTS = [lambda m: m.half(), lambda m: m.bfloat16(), lambda m: m.to(torch.float16),
         lambda m: m.type(torch.bfloat16), lambda m: m.half().float(),
         lambda m: copy.deepcopy(m.half()), lambda m: m.double()]


@pytest.mark.parametrize('cast', CASTS)
@pytest.mark.parametrize('loss', LOSSES)
def test_class_weights_keep_their_digits_when_a_model_is_cast(loss, cast):
    model = cast(nn.Sequential(nn.Linear(2, 3), loss(class_weight=WEIGHTS)))
    assert model[1].class_weight.dtype == torch.float32
    assert torch.equal(model[1].class_weight, torch.tensor(WEIGHTS))
    logits, labels = torch.tensor([[0.5, -1.0, 2.0]]), torch.tensor([1])
    assert torch.equal(model[1](logits, labels), loss(class_weight=WEIGHTS)(logits, labels))


@pytest.mark.parametrize('loss', LOSSES)
def test_class_weights_follow_a_model_to_its_device_and_stay_out_of_checkpoints(loss):
    module = loss(class_weight=WEIGHTS)
    assert module.state_dict() == {}
    assert module.half().to('meta').class_weight.device.type == 'meta'


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('loss', LOSSES)
def test_torchscript_is_refused_in_a_sentence(loss):
    for module in (loss(), nn.Sequential(nn.Linear(2, 3), loss())):
        with pytest.raises(RuntimeError, match=f'^{loss.__name__} .*TorchScript.*torch.compile'):
            torch.jit.script(module)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('trace', [torch.jit.trace, lambda m, inputs: make_fx(m)(*inputs)])
def test_a_traced_loss_is_that_of_its_inputs(trace):
    """Not the numbers of the batch that it was traced with."""
    module = AsymmetricLoss()
    traced = trace(module, (torch.randn(4, 3), torch.eye(4)[:, :3]))
    other = torch.randn(4, 3), torch.eye(4)[:, 1:]
    torch.testing.assert_close(traced(*other), module(*other))
    labels = torch.tensor([0, 3, 1, 2])
    traced = torch.jit.trace(module, (other[0], labels))
    torch.testing.assert_close(traced(-other[0], labels.flip(0)), module(-other[0], labels.flip(0)))


def test_tensors_without_values_give_a_loss_without_a_value():
    with FakeTensorMode():
        logits = torch.randn(4, 3, requires_grad=True)
        loss = AsymmetricLoss()(logits, torch.zeros(4, 3))
        loss.backward()
        assert loss.shape == () and logits.grad.shape == (4, 3)
    meta = torch.zeros(4, 3, device='meta')
    assert AsymmetricLoss()(meta, meta).device.type == 'meta'


@pytest.mark.skipif(not native.is_available(), reason='there is no C compiler')
def test_the_compiled_pass_refuses_tensors_without_values():
    with FakeTensorMode(), pytest.raises(RuntimeError, match='without values'):
        AsymmetricLoss(impl='fused', check_targets=False)(torch.zeros(4, 3), torch.zeros(4, 3))
