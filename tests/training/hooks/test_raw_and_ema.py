"""Raw and averaged weights in trainings of mmengine's Runner."""

import copy

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

import asl_det  # noqa: F401
from asl_det.errors import UserError
from asl_det.registry import METRICS, MODELS

STEPS = 4  # of an epoch


@MODELS.register_module()
class Averaging(BaseModel):
    """Batch norm, an integer buffer, weights that move; predictions tell the weights."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.layer = nn.Linear(2, 1)

    def init_weights(self):
        nn.init.constant_(self.layer.weight, 5.0)  # after the hook has made its copy

    def forward(self, inputs, data_samples=None, mode='tensor'):
        out = self.layer(self.norm(torch.stack(list(inputs))))
        return dict(loss=((out - 3) ** 2).mean()) if mode == 'loss' else [self.layer.weight.sum()]


@METRICS.register_module()
class WeightMetric(BaseMetric):
    """High where the sum of the weights is near what is wanted."""

    default_prefix = 'toy'

    def __init__(self, wanted):
        super().__init__()
        self.wanted = wanted

    def process(self, data_batch, data_samples):
        self.results.append(float(data_samples[0]))

    def compute_metrics(self, results):
        return dict(score=-abs(results[0] - self.wanted), weight=results[0])


class Record(Hook):
    """The whole state before the first step and after every step, and all metrics."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.states, self.metrics = [], []

    def before_train(self, runner):
        self.states.append(copy.deepcopy(runner.model.state_dict()))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.states.append(copy.deepcopy(runner.model.state_dict()))

    def after_val_epoch(self, runner, metrics=None):
        self.metrics.append(dict(metrics))


def make_runner(work_dir, epochs=2, wanted=0.0, val_loop='mmdet.RawAndEMAValLoop', key='toy/score',
                save_best='toy/score', **kwargs):
    ema = kwargs.pop('ema', dict(decay=0.9))
    torch.manual_seed(3)
    items = [dict(inputs=torch.randn(2) + 1, data_samples=0) for _ in range(4 * STEPS)]
    loader = dict(dataset=items, batch_size=4, sampler=dict(type='DefaultSampler', shuffle=False),
                  collate_fn=dict(type='pseudo_collate'))
    val_cfg = dict(type=val_loop, **(dict(key=key) if 'EMA' in val_loop else {}))
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, save_best=save_best,
                                 rule='greater'))
    if ema is not None:
        hooks['ema'] = dict(type='mmdet.RawAndEMAHook', **ema)
    runner = Runner(
        MODELS.build(dict(type='Averaging')), work_dir=str(work_dir), train_dataloader=loader,
        val_dataloader=loader, test_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1), val_cfg=val_cfg,
        test_cfg=dict(), val_evaluator=dict(type='mmdet.WeightMetric', wanted=wanted),
        test_evaluator=dict(type='mmdet.WeightMetric', wanted=wanted),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)), default_hooks=hooks,
        randomness=dict(seed=0), experiment_name=f'{work_dir.name}-{len(kwargs)}-{id(kwargs)}',
        default_scope='mmdet', **kwargs)
    record = Record()
    runner.register_hook(record)
    return runner, record


def load(path):
    return torch.load(path, weights_only=False)


def average_of(states, decay):
    average = {name: tensor.clone() for name, tensor in states[0].items()}
    for state in states[1:]:
        for name, tensor in state.items():
            if tensor.is_floating_point():
                average[name] = decay * average[name] + (1 - decay) * tensor
    return average


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-6, msg=name)


def both(path):
    """Raw and averaged weights of a checkpoint."""
    checkpoint = load(path)
    first = checkpoint['meta']['state_dict_is']
    second = {name[7:]: tensor for name, tensor in checkpoint['ema_state_dict'].items()
              if name.startswith('module.')}
    return {first: checkpoint['state_dict'], {'raw': 'ema', 'ema': 'raw'}[first]: second}


def test_the_average_is_of_weights_and_buffers_from_the_initial_ones_on(tmp_path):
    runner, record = make_runner(tmp_path)
    runner.train()
    assert len(record.states) == 2 * STEPS + 1
    assert (record.states[0]['layer.weight'] == 5).all()
    sets = both(tmp_path / 'epoch_2.pth')
    assert_equal(sets['ema'], average_of(record.states, 0.9))
    assert_equal(sets['raw'], record.states[-1])
    assert_equal(runner.model.state_dict(), record.states[-1])
    assert sets['ema']['norm.running_mean'].abs().sum() > 0.1


@pytest.mark.parametrize('horizon, epoch, decay', [(0.5, STEPS, 2 / 3), (2, STEPS, 8 / 9)])
def test_a_horizon_is_in_epochs(tmp_path, horizon, epoch, decay):
    runner, record = make_runner(tmp_path, ema=dict(horizon=horizon))
    runner.train()
    assert_equal(both(tmp_path / 'epoch_2.pth')['ema'], average_of(record.states, decay))


@pytest.mark.parametrize('better, wanted', [('raw', -100.0), ('ema', 100.0)])
def test_both_are_validated_and_the_better_is_the_best_checkpoint(tmp_path, better, wanted):
    runner, record = make_runner(tmp_path, wanted=wanted)  # the weights fall, the average follows
    runner.train()
    for epoch, metrics in enumerate(record.metrics, 1):
        states = record.states[:epoch * STEPS + 1]
        sums = {'raw': states[-1], 'ema': average_of(states, 0.9)}
        sums = {name: float(state['layer.weight'].sum()) for name, state in sums.items()}
        for name in sums:
            expected = -abs(sums[name] - wanted)
            assert metrics[f'toy/score_{name}'] == pytest.approx(expected, rel=1e-5)
        assert metrics['toy/score'] == max(metrics['toy/score_raw'], metrics['toy/score_ema'])
        assert metrics['toy/weight'] == pytest.approx(sums[better], rel=1e-5)
    best, = tmp_path.glob('best_*.pth')
    meta = load(best)['meta']
    assert meta['state_dict_is'] == better
    states = record.states[:meta['epoch'] * STEPS + 1]
    assert_equal(both(best)['raw'], states[-1])
    assert_equal(both(best)['ema'], average_of(states, 0.9))
    assert load(tmp_path / 'epoch_2.pth')['meta']['state_dict_is'] == better


@pytest.mark.parametrize('wanted, epoch', [(-100.0, 2), (100.0, 1)], ids=['raw', 'ema'])
@pytest.mark.parametrize('kind', ['epoch', 'best'])
def test_a_resumed_run_goes_on_with_both(tmp_path, wanted, epoch, kind):
    runner, _ = make_runner(tmp_path / 'whole', epochs=3, wanted=wanted)
    runner.train()
    runner, _ = make_runner(tmp_path / 'first', epochs=2, wanted=wanted)
    runner.train()
    start = tmp_path / 'first/epoch_2.pth'
    if kind == 'best':
        start, = (tmp_path / 'first').glob('best_*.pth')
        assert load(start)['meta']['epoch'] == epoch
    runner, _ = make_runner(tmp_path / 'second', epochs=3, wanted=wanted, resume=True,
                            load_from=str(start))
    runner.train()
    whole, resumed = tmp_path / 'whole/epoch_3.pth', tmp_path / 'second/epoch_3.pth'
    for name, state in both(whole).items():
        assert_equal(state, both(resumed)[name])
    assert load(whole)['meta']['state_dict_is'] == load(resumed)['meta']['state_dict_is']
    assert load(whole)['ema_state_dict']['steps'] == load(resumed)['ema_state_dict']['steps']


def test_a_run_of_mmengines_own_hook_can_be_resumed(tmp_path):
    from mmengine.hooks import EMAHook
    runner, record = make_runner(tmp_path / 'theirs', epochs=1, ema=None,
                                 val_loop='mmengine.ValLoop')
    runner.register_hook(EMAHook(momentum=0.1))
    runner.train()
    runner, ours = make_runner(tmp_path / 'ours', epochs=2, resume=True,
                               load_from=str(tmp_path / 'theirs/epoch_1.pth'))
    runner.train()
    assert_equal(ours.states[0], record.states[-1])
    theirs = load(tmp_path / 'theirs/epoch_1.pth')['state_dict']
    assert_equal(both(tmp_path / 'ours/epoch_2.pth')['ema'],
                 average_of([theirs, *ours.states[1:]], 0.9))


def test_a_run_without_an_average_starts_one_when_it_is_resumed(tmp_path):
    runner, record = make_runner(tmp_path / 'plain', epochs=1, ema=None,
                                 val_loop='mmengine.ValLoop')
    runner.train()
    runner, ours = make_runner(tmp_path / 'ours', epochs=2, resume=True,
                               load_from=str(tmp_path / 'plain/epoch_1.pth'))
    runner.train()
    assert_equal(ours.states[0], record.states[-1])
    assert_equal(both(tmp_path / 'ours/epoch_2.pth')['ema'], average_of(ours.states, 0.9))


def weight_in_test(tmp_path, checkpoint, weights):
    runner, _ = make_runner(tmp_path / f'test-{weights}', ema=dict(decay=0.9, weights=weights),
                            load_from=str(checkpoint))
    return runner.test()['toy/weight']


@pytest.mark.parametrize('better, wanted', [('raw', -100.0), ('ema', 100.0)])
def test_a_test_uses_the_weights_that_are_asked_for(tmp_path, better, wanted):
    runner, record = make_runner(tmp_path / 'run', epochs=1, wanted=wanted)
    runner.train()
    sums = dict(raw=record.states[-1], ema=average_of(record.states, 0.9))
    sums = {name: float(state['layer.weight'].sum()) for name, state in sums.items()}
    last = tmp_path / 'run/epoch_1.pth'
    kept, = (tmp_path / 'run').glob('best_*.pth')
    for weights in ('raw', 'ema'):
        for checkpoint in (last, kept):
            got = weight_in_test(tmp_path, checkpoint, weights)
            assert got == pytest.approx(sums[weights], rel=1e-5)
    for checkpoint in (last, kept):
        got = weight_in_test(tmp_path, checkpoint, 'saved')
        assert got == pytest.approx(sums[better], rel=1e-5)
    # In the process of the training, and validation of a checkpoint alone.
    assert runner.test()['toy/weight'] == pytest.approx(sums[better], rel=1e-5)
    assert_equal(runner.model.state_dict(), record.states[-1])
    runner, _ = make_runner(tmp_path / 'val', load_from=str(kept), save_best=None)
    assert runner.val()['toy/weight'] == pytest.approx(sums[better], rel=1e-5)


def test_a_training_starts_from_the_weights_that_are_asked_for(tmp_path):
    runner, record = make_runner(tmp_path / 'run', epochs=1, wanted=100.0)
    runner.train()
    for weights, expected in (('raw', record.states[-1]),
                              ('saved', average_of(record.states, 0.9))):
        runner, again = make_runner(tmp_path / weights, ema=dict(decay=0.9, weights=weights),
                                    load_from=str(tmp_path / 'run/epoch_1.pth'))
        runner.train()
        assert_equal(again.states[0], expected)
        assert_equal(both(tmp_path / weights / 'epoch_2.pth')['ema'],
                     average_of(again.states, 0.9))


@pytest.mark.parametrize('ema, message', [
    (dict(), 'give one of them'), (dict(decay=0.9, horizon=1), 'give one of them'),
    (dict(decay=1.0), 'between 0 and 1'), (dict(horizon=0), 'more than 0'),
    (dict(decay=0.9, weights='best'), "expected 'saved', 'raw' or 'ema'")])
def test_arguments_out_of_range_are_refused(tmp_path, ema, message):
    with pytest.raises(UserError, match=message):
        make_runner(tmp_path, ema=ema)


def test_what_a_loop_or_a_checkpoint_lacks_is_named(tmp_path):
    with pytest.raises(UserError, match='needs a RawAndEMAHook'):
        make_runner(tmp_path / 'a', epochs=1, ema=None)[0].train()
    with pytest.raises(UserError, match='val_cfg.key=toy/none: there is no such metric, but toy/s'):
        make_runner(tmp_path / 'b', epochs=1, key='toy/none')[0].train()
    runner, _ = make_runner(tmp_path / 'plain', epochs=1, ema=None, val_loop='mmengine.ValLoop')
    runner.train()
    with pytest.raises(UserError, match='has only one set of weights'):
        weight_in_test(tmp_path, tmp_path / 'plain/epoch_1.pth', 'ema')
