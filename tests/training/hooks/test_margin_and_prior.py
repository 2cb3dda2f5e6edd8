"""Where the classes of a head start, and a margin that rises."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel, BaseModule
from mmengine.runner import Runner
from torch import nn

from asl_det.errors import UserError
from asl_det.losses import AsymmetricLoss
from asl_det.training.hooks import ClassifierPriorHook, RisingMarginHook
from asl_det.training.hooks.classifier_prior import set_prior


class Head(BaseModule):
    """As the heads of mmdet that no config reaches: the start stands in its code."""

    def __init__(self, clip=0.2):
        super().__init__()
        self.num_classes = 3
        self.retina_cls = nn.Linear(2, 3)
        self.loss_cls = AsymmetricLoss(gamma_neg=2.0, clip=clip)

    def init_weights(self):
        super().init_weights()
        nn.init.constant_(self.retina_cls.bias, -4.595)


class Detector(BaseModel):

    def __init__(self, clip=0.2):
        super().__init__()
        self.bbox_head = Head(clip)

    def forward(self, inputs, mode):
        logits = self.bbox_head.retina_cls(torch.stack(list(inputs)))
        return dict(loss_cls=self.bbox_head.loss_cls(logits, torch.zeros_like(logits)))


class Watch(Hook):
    """What the head had before each iteration."""

    priority = 'LOWEST'

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        head = runner.model.bbox_head
        self.seen.append((head.retina_cls.bias.detach().sigmoid().tolist(), head.loss_cls.clip))


def train(folder, hooks, length=10, lr=0.0, model=None, **settings):
    watch = Watch()
    data = [dict(inputs=torch.ones(2))] * length
    runner = Runner(
        model=model or Detector(), work_dir=str(folder), experiment_name=f'{folder.name}{length}',
        train_dataloader=dict(batch_size=1, dataset=data, num_workers=0,
                              sampler=dict(type='DefaultSampler', shuffle=False)),
        train_cfg=dict(by_epoch=False, max_iters=length),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=lr)), default_scope='mmengine',
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=5)),
        custom_hooks=[*hooks, watch], **settings)
    runner.train()
    return runner, watch.seen


def test_classes_start_at_the_prior_after_the_runner_has_initialised_the_head(tmp_path):
    _, seen = train(tmp_path, [])
    assert seen[0][0] == pytest.approx([0.01] * 3, rel=0.01)
    _, seen = train(tmp_path, [ClassifierPriorHook(0.22, ['bbox_head'])])
    assert seen[0][0] == pytest.approx([0.22] * 3)


def test_what_a_checkpoint_holds_is_not_started_again(tmp_path):
    hook = ClassifierPriorHook(0.22, ['bbox_head'])
    trained, _ = train(tmp_path, [hook], lr=30.0, model=Detector(clip=0.0))
    bias = trained.model.bbox_head.retina_cls.bias.detach()
    assert (bias.sigmoid() < 0.219).all()
    last = tmp_path / 'iter_10.pth'
    _, seen = train(tmp_path / 'from', [hook], load_from=str(last))
    assert seen[0][0] == pytest.approx(bias.sigmoid().tolist())
    _, seen = train(tmp_path / 'again', [hook], length=12, load_from=str(last), resume=True)
    assert len(seen) == 2 and seen[0][0] == pytest.approx(bias.sigmoid().tolist())


def test_a_checkpoint_without_the_classifier_leaves_it_at_the_prior(tmp_path):
    torch.save(dict(state_dict={}, meta={}), tmp_path / 'backbone.pth')
    _, seen = train(tmp_path, [ClassifierPriorHook(0.22, ['bbox_head'])],
                    load_from=str(tmp_path / 'backbone.pth'))
    assert seen[0][0] == pytest.approx([0.22] * 3)


@pytest.mark.parametrize('prior', [0, 1, True, 'x', None])
def test_a_prior_is_a_probability(prior):
    with pytest.raises(UserError, match='expected a number between 0 and 1'):
        ClassifierPriorHook(prior, ['bbox_head'])


def test_heads_that_are_not_there_are_named_with_those_that_are():
    with pytest.raises(UserError, match='has no rpn_head; it has data_preprocessor, bbox_head'):
        set_prior(Detector(), 'rpn_head', 0.1)
    model = Detector()
    del model.bbox_head.retina_cls
    with pytest.raises(UserError, match=r'bbox_head \(Head\) has no classifier with a bias'):
        set_prior(model, 'bbox_head', 0.1)


def test_the_heads_of_a_student_and_its_teacher_are_found_by_the_end_of_their_names():
    model = nn.ModuleDict(dict(student=Detector(), teacher=Detector()))
    assert set_prior(model, 'bbox_head', 0.1) == ['student.bbox_head.retina_cls',
                                                  'teacher.bbox_head.retina_cls']
    # but not of a part that has another name for the same
    both = Detector()
    both.roi_head = Detector()
    assert set_prior(both, 'bbox_head', 0.1) == ['bbox_head.retina_cls']


def test_background_keeps_its_start():
    head = nn.Module()
    head.num_classes, head.fc_cls = 3, nn.Linear(2, 4)
    nn.init.zeros_(head.fc_cls.bias)
    set_prior(nn.ModuleDict(dict(bbox_head=head)), 'bbox_head', 0.1)
    assert head.fc_cls.bias.sigmoid().tolist() == pytest.approx([0.1, 0.1, 0.1, 0.5])


def test_the_margin_rises_linearly_and_stays(tmp_path):
    runner, seen = train(tmp_path, [RisingMarginHook(0.5)])
    assert [clip for _, clip in seen] == pytest.approx(
        [0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.2, 0.2, 0.2, 0.2])
    assert runner.model.bbox_head.loss_cls.clip == 0.2


def test_a_resumed_training_goes_on_with_the_margin(tmp_path):
    train(tmp_path, [RisingMarginHook(1.0)], length=5)
    _, seen = train(tmp_path, [RisingMarginHook(1.0)], resume=True)
    assert [clip for _, clip in seen] == pytest.approx([0.1, 0.12, 0.14, 0.16, 0.18])


def test_with_a_rising_margin_negatives_under_it_have_gradient_at_the_start(tmp_path):
    runner, _ = train(tmp_path, [], lr=1e5)  # at 0.01, far under the margin
    assert runner.model.bbox_head.retina_cls.bias.sigmoid().tolist() == pytest.approx(
        [0.01] * 3, rel=0.01)
    started = Detector()
    runner, seen = train(tmp_path, [RisingMarginHook(0.5)], lr=1e5, model=started)
    assert max(seen[1][0]) < 0.0099


def test_a_margin_that_can_not_rise_is_refused(tmp_path):
    with pytest.raises(UserError, match='no loss of the model is an AsymmetricLoss with a margin'):
        train(tmp_path, [RisingMarginHook(0.5)], model=Detector(clip=0.0))
    for share in (0, 1.5, True):
        with pytest.raises(UserError, match='expected a part of the training'):
            RisingMarginHook(share)
