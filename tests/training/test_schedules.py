"""One cycle from the optimizer's lr and the length of the run."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner
from torch import nn

import asl_det  # noqa: F401
from asl_det.errors import UserError
from asl_det.training.schedules import OneCycle


def make_optimizer(kind='Adam', lrs=(0.01, 0.1)):
    groups = [dict(params=[nn.Parameter(torch.ones(1))], lr=lr) for lr in lrs]
    return getattr(torch.optim, kind)(groups, **(dict(momentum=0.9) if kind == 'SGD' else {}))


def make(kind='Adam', lrs=(0.01, 0.1), **kwargs):
    optimizer = make_optimizer(kind, lrs)
    return optimizer, OneCycle(optimizer, **kwargs)


def run(optimizer, schedule, steps):
    """Learning rate and momentum of every group, before every step."""
    rows = []
    for step in range(steps):
        rows.append([(g['lr'], g['betas'] if 'betas' in g else g['momentum'])
                     for g in optimizer.param_groups])
        optimizer.step()
        if step < steps - 1:  # torch refuses more steps than the cycle has
            schedule.step()
    return rows


@pytest.mark.parametrize('three_phase', [False, True])
@pytest.mark.parametrize('strategy', ['cos', 'linear'])
@pytest.mark.parametrize('kind', ['Adam', 'SGD'])
def test_a_whole_cycle_is_that_of_torch(kind, strategy, three_phase):
    settings = dict(pct_start=0.3, anneal_strategy=strategy, div_factor=10.0,
                    final_div_factor=100.0, three_phase=three_phase)
    ours = run(*make(kind, end=40, momentum=(0.9, 0.7), by_epoch=False, **settings), 40)
    optimizer = make_optimizer(kind)
    theirs = run(optimizer, torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=[0.01, 0.1], total_steps=40, base_momentum=0.7, max_momentum=0.9,
        **settings), 40)
    for got, expected in zip(ours, theirs, strict=True):
        for (lr, momentum), (lr_of_torch, momentum_of_torch) in zip(got, expected, strict=True):
            assert lr == pytest.approx(lr_of_torch, rel=1e-9)
            assert momentum == pytest.approx(momentum_of_torch, rel=1e-9)


def test_the_maximum_is_the_optimizers_lr_of_every_group():
    rows = run(*make(end=50, by_epoch=False), 50)
    assert max(row[0][0] for row in rows) == pytest.approx(0.01, rel=2e-2)
    assert [row[1][0] / row[0][0] for row in rows] == pytest.approx([10.0] * 50)
    assert {row[0][1] for row in rows} == {(0.9, 0.999)}  # not asked to move


@pytest.mark.parametrize('epochs', [1, 5, 12, 99])
def test_a_run_of_any_length_goes_through_its_share_of_the_cycle(epochs):
    length = 7
    whole = run(*make(end=epochs * length, by_epoch=False), epochs * length)
    assert whole[-1][0][0] == pytest.approx(0.01 / 25 / 1e4, rel=1e-6)
    _, half = make(run_share=0.5, end=epochs * length, by_epoch=False)
    assert half.total_steps == 2 * epochs * length


@pytest.mark.parametrize('steps', range(1, 12))
def test_the_shortest_runs_have_a_cycle_too(steps):
    rates = [row[0][0] for row in run(*make(end=steps, by_epoch=False, pct_start=0.2), steps)]
    assert all(0 < rate <= 0.01 for rate in rates)
    assert max(rates) > 0.008 or steps < 5


def test_a_schedule_by_epochs_can_be_converted():
    built, _ = make(end=1)
    schedule = PARAM_SCHEDULERS.build(
        dict(type='mmdet.OneCycle', convert_to_iter_based=True, by_epoch=True, end=4),
        default_args=dict(optimizer=built, epoch_length=6))
    assert schedule.total_steps == 24 and not schedule.by_epoch


@pytest.mark.parametrize('wrong, message', [
    (dict(eta_max=0.1), 'the maximum is optim_wrapper.optimizer.lr'),
    (dict(total_steps=10), 'the length that of train_cfg'),
    (dict(run_share=0.0), 'expected more than 0, at most 1'),
    (dict(run_share=1.5), 'expected more than 0, at most 1'),
    (dict(end=int(1e9)), 'has no end')])
def test_what_would_not_count_is_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        make(**{'end': 10, **wrong})


def test_momentum_needs_an_optimizer_that_has_it():
    with pytest.raises(UserError, match='neither momentum nor betas'):
        make('Adagrad', end=10, momentum=(0.95, 0.85))


def resumed(steps, **changed):
    """A schedule that goes on from ``steps`` steps of another, as the Runner restores it."""
    settings = dict(end=20, momentum=(0.95, 0.85), by_epoch=False)
    optimizer, schedule = make(**settings)
    run(optimizer, schedule, steps + 1)
    state = copy.deepcopy((optimizer.state_dict(), schedule.state_dict()))
    optimizer, schedule = make(**{**settings, **changed})
    optimizer.load_state_dict(state[0])
    schedule.load_state_dict(state[1])
    return optimizer, schedule


def test_a_resumed_cycle_is_the_same():
    whole = run(*make(end=20, momentum=(0.95, 0.85), by_epoch=False), 20)
    assert run(*resumed(8), 12) == whole[8:]


def test_a_resumed_run_follows_the_lr_and_the_length_of_its_config():
    longer = run(*make(end=40, momentum=(0.95, 0.85), by_epoch=False), 40)
    assert run(*resumed(8, end=40), 32) == longer[8:]
    hotter = run(*make(lrs=(0.5, 0.5), end=20, momentum=(0.95, 0.85), by_epoch=False), 20)
    assert run(*resumed(8, lrs=(0.5, 0.5)), 12) == hotter[8:]


def test_a_run_that_is_longer_than_its_config_is_at_the_end_of_the_cycle():
    optimizer, _ = resumed(18, end=10)
    assert optimizer.param_groups[0]['lr'] == pytest.approx(0.01 / 25 / 1e4)


@pytest.mark.parametrize('path', [
    'multilabel/resnet18-w16_asl_digits', 'multilabel/efficientnet-lite0_asl_coco18',
    'multilabel/tresnet-l_asl_coco-448', 'digits/retinanet_r18-w16_fpn_asl-800i_digits',
    'own_data/retinanet_r18-w16_fpn_asl-12e_deeppcb'])
def test_a_config_states_lr_and_length_once(path):
    config = Config.fromfile(f'configs/{path}.py')
    schedule, = config.param_scheduler
    assert schedule.type == 'OneCycle'
    assert not {'eta_max', 'total_steps', 'end', 'T_max', 'max_epochs'} & set(schedule)
    assert 'max_epochs' not in config and 'max_iters' not in config
    length = 10 * config.train_cfg.get('max_iters', config.train_cfg.get('max_epochs'))
    wrapper = OptimWrapper(torch.optim.Adam([nn.Parameter(torch.ones(2, 2))],
                                            lr=config.optim_wrapper.optimizer.lr))
    built = PARAM_SCHEDULERS.build(dict(schedule, type='mmdet.OneCycle', end=length),
                                   default_args=dict(optimizer=wrapper, epoch_length=10))
    assert built.total_steps == round(length / schedule.get('run_share', 1))


class OneWeight(BaseModel):

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=(self.weight**2).sum())


class Rates(Hook):

    def __init__(self):
        self.rates = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates.append(runner.optim_wrapper.param_groups[0]['lr'])


def rates_of_run(work_dir, epochs, lr=0.02, length=5, **kwargs):
    """The learning rates of a Runner with the schedule of the digits config."""
    schedule = Config.fromfile('configs/multilabel/resnet18-w16_asl_digits.py').param_scheduler
    runner = Runner(
        OneWeight(), work_dir=str(work_dir), param_scheduler=schedule, default_scope='mmdet',
        train_dataloader=dict(dataset=[dict(inputs=torch.ones(1), data_samples=0)] * length,
                              sampler=dict(type='DefaultSampler'), batch_size=1),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=lr)),
        experiment_name=f'{work_dir.parent.name}-{work_dir.name}', **kwargs)
    rates = Rates()
    runner.register_hook(rates)
    runner.train()
    return rates.rates


def test_a_run_follows_the_two_values_that_a_user_changes(tmp_path):
    for epochs, lr in ((2, 0.02), (3, 0.02), (2, 0.002)):
        rates = rates_of_run(tmp_path / f'{epochs}-{lr}', epochs, lr)
        assert len(rates) == 5 * epochs
        assert rates == [row[0][0] for row in run(
            *make(lrs=(lr,), end=5 * epochs, by_epoch=False, pct_start=0.2), 5 * epochs)]
    scaled = rates_of_run(tmp_path / 'scaled', 2, 0.002,
                          auto_scale_lr=dict(enable=True, base_batch_size=4))
    assert scaled == pytest.approx([rate / 4 for rate in rates])


def test_a_resumed_run_can_be_made_longer(tmp_path):
    rates_of_run(tmp_path / 'short', 2)
    resumed = rates_of_run(tmp_path / 'long', 4, resume=True,
                           load_from=str(tmp_path / 'short/epoch_2.pth'))
    assert resumed == rates_of_run(tmp_path / 'whole', 4)[10:]
