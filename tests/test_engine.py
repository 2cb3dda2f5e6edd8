"""Training and testing, from the outside: folders, status, logs."""

import copy
import json
import logging
import os
import subprocess
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from processes import python, python_twice
from toy import write_config

from asl_det import engine
from asl_det.config.options import use_amp, without_amp
from asl_det.engine import load_config
from asl_det.errors import UserError

# Where a process finds toy.py.
PATHS = [str(Path(__file__).parent), os.environ.get('PYTHONPATH', '')]
ENV = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=os.pathsep.join(PATHS))
ONE_CYCLE = ("param_scheduler = [dict(type='OneCycleLR', eta_max=0.1, total_steps=1, "
             "convert_to_iter_based=True)]\n")


def train(cfg, **kwargs):
    """Under a name of its own: mmengine shares logs of one name within a second."""
    named = copy.deepcopy(cfg)
    named.experiment_name = str(uuid.uuid4())
    return engine.train(named, **kwargs)


def log_of(work_dir):
    return ''.join(p.read_text() for p in sorted(Path(work_dir).glob('*/*.log')))


def scalars(work_dir, name):
    rows = [json.loads(line) for log in sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
            for line in log.read_text().splitlines()]
    return [row[name] for row in rows if name in row]


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


def test_no_process_ends_before_the_last_checkpoint_is_written(tmp_path):
    config = write_config(tmp_path, "default_hooks.update(checkpoint=dict(type="
                                    "'SlowCheckpointHook', interval=1))\n")
    result = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2',
         '--rdzv-backend=c10d', '--rdzv-endpoint=localhost:0', 'tools/train.py', config,
         '--work-dir', str(tmp_path / 'run'), '--launcher', 'pytorch'],
        capture_output=True, text=True, env=ENV)
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / 'run/epoch_1.pth').is_file()
    assert result.stdout.count('checkpoint: ') == 1  # said by one process


# What two processes do one after another; a failure of one fails the test that asks for it.
SCRIPT = """
import sys
from pathlib import Path
from asl_det.engine import load_config, train

folder = Path(sys.argv[1])

def run(name, **kwargs):
    try:
        train(load_config(str(folder / f'{name}.py')), work_dir=str(folder / name),
              launcher='pytorch', **kwargs)
    except Exception as error:
        (folder / f'{name}.failed').write_text(str(error))

run('slow_end')
assert (folder / 'slow_end/finished').exists()
for name in ('unused', 'wrapper', 'wrapper_without_type'):
    run(name)
for name in ('constant', 'one_cycle'):
    run(name, auto_scale_lr=True)
"""
UNUSED = "model = dict(type='Toy', unused=True)\n"
TWO = dict(
    slow_end="custom_hooks = [dict(type='SlowEndHook')]\n",
    unused=UNUSED + 'find_unused_parameters = True\n',
    wrapper=UNUSED + "model_wrapper_cfg = dict(type='MMDistributedDataParallel', "
    'find_unused_parameters=True)\n',
    wrapper_without_type=UNUSED + 'model_wrapper_cfg = dict(find_unused_parameters=True)\n',
    constant='', one_cycle=ONE_CYCLE)


@pytest.fixture(scope='module')
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('two')
    (folder / 'script.py').write_text(SCRIPT)
    for name, more in TWO.items():
        write_config(folder, more, name=f'{name}.py')
    return folder, python_twice(folder / 'script.py', folder, env=ENV)


def test_no_process_returns_before_the_hooks_of_another_have_finished(two_processes):
    for result in two_processes[1]:
        assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.parametrize('name', ['unused', 'wrapper', 'wrapper_without_type'])
def test_unused_parameters_are_found_in_two_processes_on_cpu(two_processes, name):
    folder, _ = two_processes
    failed = folder / f'{name}.failed'
    assert not failed.exists(), failed.read_text()
    assert (folder / name / 'epoch_1.pth').is_file()


@pytest.mark.parametrize('name, rate', [('constant', 0.1), ('one_cycle', 0.1 / 25)])
def test_the_learning_rate_follows_the_batch_of_all_processes(two_processes, tmp_path, name, rate):
    folder, _ = two_processes
    plain = train(load_config(str(folder / f'{name}.py')), work_dir=str(tmp_path)).parent
    assert scalars(plain, 'lr')[0] == pytest.approx(rate)
    # 2 processes x 2 images, for a learning rate that is meant for 1.
    assert scalars(folder / name, 'lr')[0] == pytest.approx(4 * rate)


def test_a_training_without_checkpoints_says_so_and_succeeds(tmp_path):
    config = write_config(tmp_path)
    # What an earlier training left is not what this one left.
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run/last_checkpoint').write_text('old.pth')
    result = python('tools/train.py', config, '--work-dir', tmp_path / 'run', '--cfg-options',
                    'default_hooks.checkpoint=None', '--epochs', 2, '--lr', 0.05, env=ENV)
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'checkpoint: none' in result.stdout and f'logs:       {tmp_path}/run' in result.stdout
    assert f'curves:     {tmp_path}/run/curves.png' in result.stdout
    assert scalars(tmp_path / 'run', 'lr') == [0.05] * 32  # 2 epochs


def test_a_first_run_with_resume_starts_from_load_from(tmp_path):
    config = write_config(tmp_path)
    start = train(load_config(config), work_dir=str(tmp_path / 'start'), seed=1)
    still = load_config(config, {'load_from': str(start), 'lr': 1e-30})
    last = train(still, work_dir=str(tmp_path / 'run'), resume='auto')
    before, after = weights(start), weights(last)
    assert all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize('resume', [dict(resume='auto'), dict(config=dict(resume=True))])
def test_a_run_is_resumed_from_its_own_checkpoint_not_from_load_from(tmp_path, resume):
    config = write_config(tmp_path)
    start = train(load_config(config), work_dir=str(tmp_path / 'start'), seed=1)
    first = train(load_config(config), work_dir=str(tmp_path / 'run'))
    options = {'max_epochs': 2, **resume.pop('config', {})}
    if resume:
        options['load_from'] = str(start)
    last = train(load_config(config, options), work_dir=str(tmp_path / 'run'), **resume)
    assert last.name == 'epoch_2.pth' and f'resumed from {first}' in log_of(
        tmp_path / 'run').replace('Load checkpoint', 'resumed')
    # Nothing is left to train: the last checkpoint is the one that is there.
    again = train(load_config(config, options), work_dir=str(tmp_path / 'run'), resume='auto')
    assert again == last


COSINE = ("param_scheduler = [dict(type='CosineAnnealingLR', T_max=1, end=1, "
          "convert_to_iter_based=True)]\n")


@pytest.mark.parametrize('schedule, options, change, values', [
    (ONE_CYCLE, {'max_epochs': 2}, 'param_scheduler.0.total_steps: 1 -> 2',
     'total_steps=16, .* asks for end=32, total_steps=32'),
    (ONE_CYCLE, {'lr': 0.2}, 'param_scheduler.0.eta_max: 0.1 -> 0.2',
     'eta_max=0.1, .* asks for eta_max=0.2'),
    (COSINE, {'max_epochs': 2}, 'param_scheduler.0.T_max: 1 -> 2',
     'end=16, T_max=16, .* asks for end=32, T_max=32'),
    ('', {'lr': 0.2}, 'optim_wrapper.optimizer.lr: 0.1 -> 0.2',
     r'lr=\[0.1\], .* asks for lr=\[0.2\]')])
def test_a_resumed_training_refuses_a_schedule_that_it_can_not_follow(tmp_path, schedule, options,
                                                                      change, values):
    config = write_config(tmp_path, schedule)
    first = train(load_config(config), work_dir=str(tmp_path / 'run'))
    for anyway in (False, True):
        with pytest.raises(UserError, match=f'{change}: .*can not be followed'):
            train(load_config(config, options), work_dir=str(tmp_path / 'run'), resume='auto',
                  resume_anyway=anyway)
    assert train(load_config(config), work_dir=str(tmp_path / 'run'), resume='auto') == first
    saved = torch.load(first, weights_only=False)
    del saved['meta']['cfg']  # by a program that notes no config
    torch.save(saved, first)
    with pytest.raises(UserError, match=values):
        train(load_config(config, options), work_dir=str(tmp_path / 'run'), resume='auto')


@pytest.mark.parametrize('damage', [b'{"step": 3, "lo', b'{"ste\n\x00\xff\n'])
def test_a_resumed_training_goes_on_where_a_crash_left_a_broken_log(tmp_path, damage):
    config = write_config(tmp_path)
    train(load_config(config), work_dir=str(tmp_path / 'run'))
    started, = tmp_path.glob('run/*/')  # in another second than the run that resumes
    scalars_json = started.rename(tmp_path / 'run/20240101_000000') / 'vis_data/scalars.json'
    scalars_json.write_bytes(scalars_json.read_bytes() + damage)
    (tmp_path / 'run/curves.png').unlink()
    last = train(load_config(config, {'max_epochs': 2}), work_dir=str(tmp_path / 'run'),
                 resume='auto')
    assert last.name == 'epoch_2.pth'
    cut = b'\n' not in damage
    said = 'the last record is cut off' if cut else 'CurvesHook drew nothing: UserError'
    assert (tmp_path / 'run/curves.png').exists() == cut
    assert f'{scalars_json}, line 17' in log_of(tmp_path / 'run')
    assert said in log_of(tmp_path / 'run')


def test_the_callers_config_stays_as_it_was(tmp_path):
    cfg = load_config(write_config(tmp_path))
    before = cfg.pretty_text
    last = engine.train(cfg, work_dir=str(tmp_path / 'run'), resume='auto', amp=True, seed=3,
                        auto_scale_lr=True)
    assert cfg.pretty_text == before
    engine.test(cfg, str(last), work_dir=str(tmp_path / 'test'), out=tmp_path / 'a.json',
                show_dir=tmp_path / 'drawn')
    assert cfg.pretty_text == before


def test_the_config_in_a_folder_is_that_of_its_training_after_a_resume_and_a_test(tmp_path):
    config, folder = write_config(tmp_path), tmp_path / 'run'
    train(load_config(config), work_dir=str(folder))
    left = folder / 'toy_config.py'
    first = load_config(str(left)).to_dict()
    longer = load_config(config, {'max_epochs': 2})
    checkpoint = train(longer, work_dir=str(folder), resume='auto')
    engine.test(load_config(config), str(checkpoint), work_dir=str(folder))
    after = load_config(str(left)).to_dict()
    assert after.pop('train_cfg').pop('max_epochs') == 2
    for key in ('train_cfg', 'experiment_name'):
        first.pop(key), after.pop(key, None)
    assert after == first and not after['resume'] and after['load_from'] is None
    again = train(load_config(str(left)), work_dir=str(tmp_path / 'again'))
    assert again.name == 'epoch_2.pth'  # from the start


@pytest.mark.parametrize('key, run', [
    ('train_dataloader', 'training'), ('train_cfg', 'training'), ('optim_wrapper', 'training'),
    ('test_dataloader', 'test'), ('test_evaluator', 'test')])
def test_a_config_without_a_part_that_is_needed_is_refused_in_a_line(tmp_path, key, run):
    cfg = load_config(write_config(tmp_path, f'{key} = None\n'))
    with pytest.raises(UserError, match=f'toy_config.py has no {key}: a {run} needs '):
        if run == 'test':
            engine.test(cfg, 'none.pth', work_dir=str(tmp_path / 'run'))
        else:
            train(cfg, work_dir=str(tmp_path / 'run'))
    assert not (tmp_path / 'run').exists()


def test_a_network_that_can_not_be_built_ends_a_training_in_a_line(tmp_path):
    cfg = load_config(write_config(tmp_path, 'model = dict(type="ResNet", depth=19)\n'))
    cfg.default_scope = 'mmdet'
    with pytest.raises(UserError, match='model: can not be built: .*invalid depth 19'):
        train(cfg, work_dir=str(tmp_path / 'run'))
    assert not (tmp_path / 'run').exists()


def test_metrics_of_any_type_are_written(tmp_path):
    cfg = load_config(write_config(tmp_path))
    last = train(cfg, work_dir=str(tmp_path / 'run'))
    engine.test(cfg, str(last), work_dir=str(tmp_path / 'test'), out=tmp_path / 'out/a.json')
    assert json.loads((tmp_path / 'out/a.json').read_text())['metrics'] == dict(
        single=0.5, array=[0, 1], tensor=0.25, of_classes=dict(a=1.0), plain=1)


@pytest.mark.parametrize('evaluator, files', [
    ("dict(type='mmengine.ToyWriter', prefix='a')", {'r.found.json': 'a'}),
    ("dict(type=ToyWriter, prefix='a')", {'r.found.json': 'a'}),  # the new style
    ("dict(type='ToyWriterOfMore')", {'r.found.json': 'more'}),
    ("dict(type='ToyWriterFixed')", {'r.found.json': 'fixed'}),
    ("dict(metrics=[dict(type='ToyWriter', prefix='a')])", {'r.found.json': 'a'}),
    ("[dict(type='ToyWriter', prefix='a'), dict(type='ToyMetric'), dict(type='ToyWriterFixed'),"
     " dict(type='mmdet.ToyWriter', prefix='a/b')]",
     {'r.1.found.json': 'a', 'r.2.found.json': 'fixed', 'r.3.found.json': 'a/b'})])
def test_every_evaluator_that_can_write_does_so_under_a_name_of_its_own(tmp_path, evaluator,
                                                                        files):
    last = train(load_config(write_config(tmp_path)), work_dir=str(tmp_path / 'run'))
    imports = 'from toy import ToyWriter\n' if 'type=ToyWriter' in evaluator else ''
    cfg = load_config(write_config(
        tmp_path, f'{imports}test_evaluator = {evaluator}\n'
        f"experiment_name = '{uuid.uuid4()}'\n"))
    engine.test(cfg, str(last), work_dir=str(tmp_path / 'test'), out=tmp_path / 'out/r.json')
    assert {p.name: p.read_text() for p in (tmp_path / 'out').glob('*found*')} == files
    log = log_of(tmp_path / 'test')
    assert ('ToyMetric can write no detections or scores' in log) == ('ToyMetric' in evaluator)
    assert log.count(' writes ') == (3 if len(files) == 3 else 0)


@pytest.mark.parametrize('text', [
    "'other'", "['other']", "('other',)", "dict(imports='other')",
    "dict(imports=['other'], allow_failed_imports=False)"])
def test_custom_imports_are_a_string_a_list_or_a_dict(tmp_path, monkeypatch, text):
    (tmp_path / 'other.py').write_text('')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'other', raising=False)
    cfg = load_config(write_config(tmp_path, imports=f'custom_imports = {text}\n'))
    assert list(cfg.custom_imports.imports) == ['other', 'asl_det'] and 'other' in sys.modules
    del sys.modules['other']
    for key in ('custom_imports', 'custom_imports.imports'):
        load_config(write_config(tmp_path), {key: 'other'})
        assert sys.modules.pop('other')


@pytest.mark.skipif(torch.cuda.is_available(), reason='mixed precision runs here')
@pytest.mark.parametrize('options, amp', [
    ({}, True), ({'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.loss_scale': 512.0,
                  'optim_wrapper.dtype': 'bfloat16'}, False)])
def test_mixed_precision_without_a_gpu_is_left_out_and_the_log_says_so(tmp_path, options, amp):
    last = train(load_config(write_config(tmp_path), options), work_dir=str(tmp_path / 'run'),
                 amp=amp)
    assert last.is_file()
    assert 'WARNING - mixed precision needs a GPU' in log_of(tmp_path / 'run')


@OPTIM_WRAPPERS.register_module()
class UsersWrapper(OptimWrapper):
    made = 0

    def __init__(self, **kwargs):
        UsersWrapper.made += 1
        super().__init__(**kwargs)


@OPTIM_WRAPPERS.register_module()
class UsersAmpWrapper(AmpOptimWrapper):
    pass


@OPTIM_WRAPPERS.register_module()
class AmpForCPU(AmpOptimWrapper):

    def __init__(self, loss_scale='dynamic', **kwargs):
        OptimWrapper.__init__(self, **kwargs)


@pytest.mark.skipif(torch.cuda.is_available(), reason='mixed precision runs here')
def test_a_wrapper_class_of_the_users_is_not_dropped_without_a_gpu(tmp_path):
    cfg = load_config(write_config(tmp_path), {'optim_wrapper.type': 'mmdet.UsersWrapper'})
    made = UsersWrapper.made
    train(cfg, work_dir=str(tmp_path / 'run'), amp=True)
    assert UsersWrapper.made == made + 1 and 'training in float32' in log_of(tmp_path / 'run')
    cfg = load_config(write_config(tmp_path), {'optim_wrapper.type': 'mmdet.UsersAmpWrapper'})
    with pytest.raises(UserError, match='UsersAmpWrapper is derived from AmpOptimWrapper, which '
                                        'needs a GPU.*optim_wrapper.type=AmpOptimWrapper trains'):
        train(cfg, work_dir=str(tmp_path / 'b'))
    cfg.optim_wrapper.type = 'mmdet.AmpForCPU'  # one that can do without
    assert not without_amp(cfg) and cfg.optim_wrapper.type == 'mmdet.AmpForCPU'


@pytest.mark.parametrize('kind, after', [
    (None, 'AmpOptimWrapper'), ('OptimWrapper', 'AmpOptimWrapper'),
    ('mmdet.UsersAmpWrapper', 'mmdet.UsersAmpWrapper'), ('mmdet.UsersWrapper', None)])
def test_mixed_precision_replaces_no_wrapper_class_of_the_users(kind, after):
    wrapper = dict(optimizer=dict(type='SGD', lr=0.1), **(dict(type=kind) if kind else {}))
    one, several = Config(dict(optim_wrapper=wrapper)), Config(dict(optim_wrapper=dict(
        constructor='Mine', a=wrapper, b=wrapper)))
    for cfg, parts in ((one, [one.optim_wrapper]),
                       (several, [several.optim_wrapper.a, several.optim_wrapper.b])):
        if after is None:
            with pytest.raises(UserError, match='type=UsersWrapper is a class of your own'):
                use_amp(cfg)
            continue
        use_amp(cfg)
        assert all(part.type == after and part.loss_scale == 'dynamic' for part in parts)
        assert 'type' not in several.optim_wrapper


def test_scaling_without_a_base_batch_size_is_refused(tmp_path):
    cfg = load_config(write_config(tmp_path, 'auto_scale_lr = None\n'))
    with pytest.raises(UserError, match='--cfg-options auto_scale_lr.base_batch_size=N'):
        train(cfg, work_dir=str(tmp_path / 'run'), auto_scale_lr=True)


def test_a_warm_up_of_less_than_an_iteration_is_left_out_with_a_word(tmp_path):
    config = write_config(tmp_path, (
        "train_cfg.update(max_epochs=60)\n"
        "param_scheduler = [dict(type='LinearLR', start_factor=0.01, end=1, by_epoch=True, "
        "convert_to_iter_based=True),\n    dict(type='CosineAnnealingLR', begin=1, end=60, "
        "by_epoch=True, convert_to_iter_based=True)]\n"))
    last = train(load_config(config, {'max_epochs': 1}), work_dir=str(tmp_path / 'run'))
    assert last.is_file() and 'LinearLR from epoch 0 to 0.01' in log_of(tmp_path / 'run')


@pytest.mark.parametrize('options, expected', [
    ({'train_cfg.max_epochs': 4, 'param_scheduler.0.total_steps': 3},
     r'param_scheduler.0.total_steps=3 is shorter than the training \(4 epochs\)'),
    ({'max_epochs': 4, 'param_scheduler.0.convert_to_iter_based': False,
      'param_scheduler.0.pct_start': 0.25}, 'can not rise within a single step')])
def test_a_one_cycle_schedule_that_would_fail_later_is_refused_at_once(tmp_path, options,
                                                                       expected):
    cfg = load_config(write_config(tmp_path, ONE_CYCLE), options)
    with pytest.raises(UserError, match=expected):
        train(cfg, work_dir=str(tmp_path / 'run'))
    assert not (tmp_path / 'run').exists()


def test_a_test_set_without_objects_has_no_metrics():
    """pycocotools says -1 then; a size without objects alone is its convention."""
    runner = SimpleNamespace(logger=logging.getLogger('test'))
    assert engine._known(runner, {'coco/bbox_mAP': -1.0, 'coco/a_precision': float('nan')}) == {}
    for known in ({'coco/bbox_mAP': 0.0, 'coco/bbox_mAP_s': -1.0}, {}):
        assert engine._known(runner, known) == known
