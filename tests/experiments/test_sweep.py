"""Sweeps are ordinary trainings, kept and continued."""

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from command_line import run_command

from asl_det.config.key_values import read_key_values
from asl_det.data.digits import make_digits
from asl_det.engine import load_config
from asl_det.errors import UserError
from asl_det.experiments import sweep as sweep_module
from asl_det.experiments.grid import read_grid
from asl_det.experiments.sweep import grid_variants, iteration_seconds, last_metrics, sweep
from asl_det.files import code
from asl_det.files.identity import hold

CONFIG = 'configs/multilabel/resnet18-w16_asl_digits.py'
LOSS = 'model.head.loss'
TWO = {'a': {}, 'b': {'model.more': ['F1']}}  # variants of quick


def test_a_grid_is_every_combination_and_joined_keys_share_a_value():
    variants = grid_variants({'a.gamma_neg,a.gamma_pos': [0, 2], 'a.clip': [0.0, 0.05]})
    assert list(variants) == ['gamma_neg-0_clip-0.0', 'gamma_neg-0_clip-0.05',
                              'gamma_neg-2_clip-0.0', 'gamma_neg-2_clip-0.05']
    assert variants['gamma_neg-2_clip-0.05'] == {'a.gamma_neg': 2, 'a.gamma_pos': 2, 'a.clip': 0.05}


@pytest.mark.parametrize('values', [[0, 2, 0.0], ['a', 'a'], [[1], [1]], [True, True]])
def test_equal_values_of_a_grid_are_refused(values):
    with pytest.raises(UserError, match='a.g: the value .* stands there twice'):
        grid_variants({'a.g': values})
    assert len(grid_variants({'a.g': [True, 1]})) == 2


def test_values_become_names_of_folders():
    assert list(grid_variants({'a.b': ['x/y.pth', [1, 2]]})) == ['b-x_y.pth', 'b-[1,2]']
    with pytest.raises(UserError, match='--variant'):
        grid_variants({'a.b': ['x/y', 'x_y']})


def run(*args):
    return run_command('sweep', *args)


def test_values_are_read_as_cfg_options_are_and_lists_keep_their_commas():
    assert read_grid(['a.b=[1,2],[3,4]', 'c,d=0,0.5,x,true,None', 'e=[1,2]', 'f=(1,[2,3]),4']
                          ) == {'a.b': [[1, 2], [3, 4]], 'c,d': [0, 0.5, 'x', True, None],
                                'e': [[1, 2]], 'f': [(1, [2, 3]), 4]}
    assert read_key_values('--variant', ['a.b=1,2', 'c=False']) == {'a.b': [1, 2], 'c': False}
    for text in ('a', 'a=', 'a=1,,2', 'a=[1,2', 'a=1]', 'a=1,'):
        with pytest.raises(UserError, match='expected'):
            read_grid([text])
    with pytest.raises(UserError, match='a is given twice'):
        read_grid(['a=1', 'a=2'])


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A config whose trainings take no time: they log their settings as a metric."""
    def train(cfg, *, work_dir, resume=None):
        value = cfg.model['value']
        if value < 0:
            raise UserError(f'value {value} is negative')
        logs = Path(work_dir, '1', 'vis_data')
        logs.mkdir(parents=True)
        scalars = dict(step=1, **{f'x/{name}': value + cfg.randomness.seed
                                  for name in ('mAP', *cfg.model.more)})
        (logs / 'scalars.json').write_text(json.dumps(scalars) + '\n')

    monkeypatch.setattr(sweep_module, 'train', train)
    path = tmp_path / 'config.py'
    path.write_text('model = dict(value=1, more=[])\n')
    return path


def test_losses_are_an_axis_of_a_sweep_with_differences_to_one_of_them(quick, tmp_path,
                                                                       monkeypatch, capsys):
    seen = {}

    def load(config, options, quiet=False):
        seen[options['loss'], options.get('loss_options.clip')] = options
        value = {'focal': 1, 'asl': 3}[options['loss']]
        return load_config(config, {'model.value': value,
                                    'randomness.seed': options['randomness.seed']})

    monkeypatch.setattr(sweep_module, 'load_config', load)
    own = {'train_json': 'a.json', 'train_images': 'a', 'val_json': 'b.json', 'val_images': 'b'}
    command = [quick, '--work-dir', tmp_path / 'work', '--losses', 'focal', 'asl', '--seeds', 0, 1,
               *(text for name, value in own.items()
                 for text in (f'--{name.replace("_", "-")}', value))]
    assert run(*command) is None
    assert set(seen) == {('focal', None), ('asl', None)}
    assert all(own.items() <= options.items() for options in seen.values())
    text = capsys.readouterr().out
    assert '| asl | 3.500 ± 0.707 |' in text and '| asl | +2.000 ± 0.000 |' in text
    saved = json.loads((tmp_path / 'work/sweep.json').read_text())
    assert saved['baseline'] == 'focal' and 'differences' not in saved['variants']['focal']
    assert run(*command, '--baseline', 'asl') is None  # nothing is trained again
    assert '| focal | -2.000 ± 0.000 |' in capsys.readouterr().out
    assert 'there are focal, asl' in run(*command, '--baseline', 'bce')
    assert 'give one of them' in run(*command, '--loss', 'asl')
    assert run(*command, '--grid', 'loss_options.clip=0.1,0.2') is None
    assert ('asl', 0.2) in seen and (tmp_path / 'work/asl_clip-0.2/seed1').is_dir()


def test_a_size_that_no_object_has_and_the_time_of_validation_are_no_metrics(tmp_path):
    scalars = {'coco/bbox_mAP_l': ([1], [-1.0]), 'coco/bbox_mAP': ([1], [0.5]), 'loss': ([1], [2])}
    assert last_metrics(scalars) == {'coco/bbox_mAP': 0.5}
    logs = tmp_path / '1' / 'vis_data'
    logs.mkdir(parents=True)
    rows = [dict(step=i, time=t, loss=1.0) for i, t in enumerate((9.0, 1.0, 2.0))]
    (logs / 'scalars.json').write_text('\n'.join(
        json.dumps(row) for row in [*rows, dict(step=2, time=100.0)]) + '\n')
    assert iteration_seconds(tmp_path) == 2.0
    assert iteration_seconds(tmp_path / 'nothing') is None


def test_one_failed_run_leaves_the_table_of_the_others(quick, tmp_path, monkeypatch, capsys):
    work = tmp_path / 'work'
    message = run(quick, '--work-dir', work, '--seeds', 0, 1, '--grid',
                  'model.value=-1,2',
                  '--variant', 'more', 'model.more=F1,AP')
    assert message.startswith('error: 2 of 6 runs failed, the others are kept')
    assert 'value--1/seed1: ' in message and 'value -1 is negative' in message
    assert f'{work}/value--1/seed1/train.log' in message and '\n' not in message
    text = (work / 'table.md').read_text()
    assert '| value-2 | 2.500 ± 0.707 |' in text and '| value--1 | – |' in text
    assert 'failed: value--1/seed0: ' in text
    assert text in capsys.readouterr().out and (work / 'sweep.png').is_file()
    saved = json.loads((work / 'sweep.json').read_text())
    assert list(saved['failed']) == ['value--1/seed0', 'value--1/seed1']
    assert saved['variants']['value--1']['metrics'] == {}
    assert 'x/AP' not in saved['variants']['value-2']['metrics']
    assert saved['variants']['more']['metrics']['x/AP']['values'] == [1, 2]


def test_a_run_that_was_killed_is_said_to_have_been(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_module, 'train', lambda *args, **kwargs: os.kill(os.getpid(), 9))
    record = sweep(str(quick), {'a': {}}, [0], str(tmp_path / 'work'))
    assert record['failed'] == {
        'a/seed0': f'ended by signal 9: it wrote nothing ({tmp_path}/work/a/seed0/train.log)'}


def test_a_broken_record_of_the_monitor_costs_its_means_and_not_the_run(quick, tmp_path,
                                                                        monkeypatch):
    train = sweep_module.train

    def with_monitor(cfg, *, work_dir, resume=None):
        train(cfg, work_dir=work_dir)
        text = ['{"step": 1, "epo\n{"step": 2, "epoch": 0, "prob_pos": 0.5}\n', '']
        Path(work_dir, 'probabilities.jsonl').write_text(text[cfg.randomness.seed])

    monkeypatch.setattr(sweep_module, 'train', with_monitor)
    record = sweep(str(quick), {'a': {}}, [0, 1], str(tmp_path / 'work'))
    assert record['failed'] == {} and list(record['variants']['a']['metrics']) == ['x/mAP']
    assert 'no means of the last epoch' in (tmp_path / 'work/a/seed0/train.log').read_text()


def test_a_metric_that_one_seed_lacks_is_a_gap(quick, tmp_path):
    record = sweep(str(quick), {'a': {}}, [0, 2], str(tmp_path / 'work'),
                   options={'model.more': ['F1']})
    assert record['variants']['a']['metrics']['x/F1']['values'] == [1, 3]
    result = tmp_path / 'work/a/seed2/result.json'
    result.write_text(result.read_text().replace('x/F1', 'x/F2'))
    record = sweep(str(quick), {'a': {}}, [0, 2], str(tmp_path / 'work'),
                   options={'model.more': ['F1']})
    metrics = record['variants']['a']['metrics']
    assert metrics['x/F1'] == dict(mean=1, std=None, values=[1, None])
    assert metrics['x/F2'] == dict(mean=3, std=None, values=[None, 3])


@pytest.fixture
def data_config(quick, tmp_path, monkeypatch):
    """The quick config on a data set whose root comes from the environment."""
    for name in ('one', 'two'):
        (tmp_path / name / 'images').mkdir(parents=True)
        (tmp_path / name / 'train.json').write_text(f'["{name}"]')
        (tmp_path / name / 'images' / '1.png').write_text('an image')
    monkeypatch.setenv('DATA_ROOT', str(tmp_path / 'one'))
    (tmp_path / 'module_of_sweep.py').write_text('a = 1\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'module_of_sweep', raising=False)
    quick.write_text("model = dict(value=1, more=[], depth=18)\n"
                     "custom_imports = dict(imports=['module_of_sweep'])\n"
                     "train_dataloader = dict(dataset=dict(data_root='{{$DATA_ROOT:x}}', "
                     "ann_file='train.json', data_prefix=dict(img_path='images')))\n")
    return quick


def edit(path, old, new):
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize('change, says', [
    (lambda path, patch: edit(path / 'config.py', '18', '34'), 'config.model.depth: 18 -> 34'),
    (lambda path, patch: patch.setenv('DATA_ROOT', str(path / 'two')),
     'config.train_dataloader.dataset.data_root: '),
    (lambda path, patch: edit(path / 'one/train.json', 'one', 'two'),
     'data.{path}/one/train.json'),
    (lambda path, patch: edit(path / 'one/images/1.png', 'an', 'another'),
     'data.{path}/one/images'),
    (lambda path, patch: patch.setattr(code, 'source_hash', lambda package: 'new'),
     "code.asl_det_source: '"),
    (lambda path, patch: edit(path / 'module_of_sweep.py', 'a', 'b'),
     'code.modules.module_of_sweep: '),
    (lambda path, patch: patch.setattr('torchvision.__version__', '0'), 'code.torchvision: '),
], ids=['config', 'DATA_ROOT', 'annotations', 'images', 'code', 'module', 'library'])
def test_results_of_other_settings_data_or_code_are_not_reused(data_config, tmp_path, monkeypatch,
                                                               change, says):
    command = [data_config, '--work-dir', tmp_path / 'work', '--variant', 'a']
    result = tmp_path / 'work/a/seed0/result.json'
    assert run(*command) is None
    result.write_text(json.dumps(dict(metrics={'x/mAP': 7.0})))
    assert run(*command) is None  # what is finished is used
    assert '7.000' in (tmp_path / 'work/table.md').read_text()

    change(tmp_path, monkeypatch)
    message = run(*command)
    assert 'holds a run made with something else' in message and '\n' not in message
    assert says.format(path=tmp_path) in message
    assert 'another --work-dir' in message and '--overwrite' in message

    assert run(*command, '--overwrite') is None
    assert '| a | 1.000 |' in (tmp_path / 'work/table.md').read_text()
    assert '7.0' in (tmp_path / 'work/a/seed0.old1/result.json').read_text()  # nothing is lost
    assert run(*command) is None


def test_a_folder_without_a_record_is_not_continued(quick, tmp_path, monkeypatch):
    (tmp_path / 'work/a/seed0').mkdir(parents=True)
    (tmp_path / 'work/a/seed0/last_checkpoint').write_text('x.pth')
    message = run(quick, '--work-dir', tmp_path / 'work', '--variant', 'a')
    assert 'it has no run.json' in message


@pytest.mark.parametrize('content', ['{"metrics": {"x/mAP": 1', '', '[1]', '{"seconds": 1}',
                                     '{"metrics": {"x/mAP": "1"}}'])
def test_a_result_that_was_cut_is_said_and_made_again(quick, tmp_path, monkeypatch, capsys,
                                                      content):
    command = [quick, '--work-dir', tmp_path / 'work', '--variant', 'a']
    assert run(*command) is None
    result, whole = tmp_path / 'work/a/seed0/result.json', 'is cut off or no result of a run'
    assert whole not in capsys.readouterr().out
    result.write_text(content)
    (tmp_path / 'work/a/seed0/1/vis_data/scalars.json').unlink()
    (tmp_path / 'work/a/seed0/1/vis_data').rmdir(), (tmp_path / 'work/a/seed0/1').rmdir()
    assert run(*command) is None
    assert f'{result} {whole}: it is made again' in capsys.readouterr().out
    assert json.loads(result.read_text())['metrics'] == {'x/mAP': 1}


def test_the_record_of_a_run_that_was_cut_is_called_so(quick, tmp_path, monkeypatch):
    command = [quick, '--work-dir', tmp_path / 'work', '--variant', 'a']
    assert run(*command) is None
    (tmp_path / 'work/a/seed0/run.json').write_text('{"config": ')
    assert 'its run.json is cut off, which says what it was made with' in run(*command)


def test_the_record_of_a_run_has_config_data_and_code(data_config, tmp_path, monkeypatch):
    assert run(data_config, '--work-dir', tmp_path / 'work', '--variant', 'a',
               '--seeds', 3) is None
    found = json.loads((tmp_path / 'work/a/seed3/run.json').read_text())
    assert found['config']['model'] == dict(value=1, more=[], depth=18)
    assert found['config']['randomness']['seed'] == 3
    assert list(found['data']) == [f'{tmp_path}/one/images', f'{tmp_path}/one/train.json']
    assert {'asl_det', 'asl_det_source', 'torch', 'mmdet', 'mmcv', 'numpy', 'timm',
            'modules'} < set(found['code']) and 'commit' not in found['code']


def test_two_sweeps_in_one_folder_are_refused(quick, tmp_path, monkeypatch):
    command = [quick, '--work-dir', tmp_path / 'work', '--variant', 'a']
    with hold(tmp_path / 'work'):
        assert f'{tmp_path}/work is in use by another process' in run(*command)
    assert run(*command) is None


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_end_of_a_sweep_is_the_end_of_its_runs(quick, tmp_path, monkeypatch, number):
    def train(cfg, *, work_dir, resume=None):
        loader = os.fork()  # as a data loader's worker
        Path(work_dir, 'pids').write_text(f'{os.getpid()} {loader or os.getpid()}')
        time.sleep(60)

    monkeypatch.setattr(sweep_module, 'train', train)

    def run_sweep():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a job's background
        sweep(str(quick), TWO, [0], str(tmp_path), jobs=2)

    parent = multiprocessing.get_context('fork').Process(target=run_sweep)
    parent.start()
    files = [tmp_path / name / 'seed0' / 'pids' for name in 'ab']
    wait_until(lambda: all(f.exists() and len(f.read_text().split()) == 2 for f in files))
    time.sleep(0.2)
    os.kill(parent.pid, number)
    parent.join(10)
    assert parent.exitcode is not None
    pids = [int(pid) for f in files for pid in f.read_text().split()]
    wait_until(lambda: not any(alive(pid) for pid in pids))
    with hold(tmp_path):  # and its lock is free
        pass


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def test_every_gpu_has_one_run_at_a_time(quick, tmp_path, monkeypatch):
    def train(cfg, *, work_dir, resume=None):
        start = time.monotonic()
        time.sleep(0.3)
        Path(work_dir, 'gpu').write_text(
            f'{os.environ["CUDA_VISIBLE_DEVICES"]} {start} {time.monotonic()}')

    monkeypatch.setattr(sweep_module, 'train', train)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(sweep_module, 'start_method', lambda: 'fork')
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    sweep(str(quick), TWO, [0, 1], str(tmp_path / 'work'), gpus=['2', '5'])
    times = {}
    for file in (tmp_path / 'work').rglob('gpu'):
        gpu, *span = file.read_text().split()
        times.setdefault(gpu, []).append(tuple(map(float, span)))
    assert sorted(times) == ['2', '5'] and sorted(map(len, times.values())) == [2, 2]
    for first, second in map(sorted, times.values()):
        assert first[1] <= second[0]
    assert min(s for s, _ in times['2']) < max(e for _, e in times['5'])  # and both at once
    assert 'CUDA_VISIBLE_DEVICES' not in os.environ


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_that_is_not_there_fails_instead_of_training_on_the_cpu(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_module, 'start_method', lambda: 'spawn')  # as where there are GPUs
    record = sweep(str(quick), {'a': {}}, [0], str(tmp_path / 'work'), gpus=['9'])
    assert 'torch finds no GPU 9' in record['failed']['a/seed0']


def test_mistakes_in_a_sweep_are_said_before_it_starts(quick, tmp_path, monkeypatch):
    work = ('--work-dir', tmp_path / 'work')
    for args, says in [
            (['--variant', '../a'], 'expected the name of a folder'),
            (['--variant', 'a', '--variant', 'a'], 'there are two of this name'),
            (['--variant', 'a', '--seeds', 1, 1], 'one stands there twice'),
            (['--variant', 'a', '--seeds', -1], 'seed -1: expected a whole number from 0'),
            (['--variant', 'a', '--variant', 'b'], 'a and b have the same settings'),
            (['--variant', 'a', 'model.value=1', '--grid', 'model.value=2,1'], 'the same settings'),
            (['--variant', 'a', '--metrics', '*mAP'], '--metrics *mAP: no regular expression'),
            (['--variant', 'a', '--jobs', 0], 'expected at least 1'),
            (['--variant', 'a', 'b'], 'expected KEY=VALUE'),
            (['--grid', 'a'], 'expected KEY=VALUE'),
            (['--grid', 'model.value=1,1.0'], 'stands there twice'),
            ([], 'there is nothing to compare')]:
        assert says in run(quick, *work, *args)
    assert not (tmp_path / 'work').exists()


def test_a_sweep_trains_every_setting_and_seed_once_and_goes_on(tmp_path, monkeypatch, capsys):
    root = tmp_path / 'digits'
    make_digits(root, num_train=16, num_val=8, size=64, digits_per_image=(1, 3),
                digit_size=(20, 32), clutter=2)
    options = [f'{split}_dataloader.dataset.data_root={root}' for split in ('train', 'val')]
    command = [CONFIG, '--work-dir', tmp_path / 'sweep', '--seeds', 0, 1, '--jobs', 2,
               '--grid', f'{LOSS}.gamma_neg=0', '--variant', 'focal', f'{LOSS}.gamma_neg=2',
               f'{LOSS}.gamma_pos=2', f'{LOSS}.clip=0', '--metrics', '.*mAP', '.*CF1',
               '--cfg-options', *options, 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1',
               'train_dataloader.batch_size=8', 'default_hooks.monitor.interval=1']
    assert run(*command) is None
    saved = json.loads((tmp_path / 'sweep/sweep.json').read_text())
    assert list(saved['variants']) == ['gamma_neg-0', 'focal']
    values = saved['variants']['focal']['metrics']['multilabel/mAP']
    assert len(values['values']) == 2 and values['values'][0] != values['values'][1]
    assert 0 < saved['variants']['focal']['metrics']['train/grad_pos']['mean'] < 1
    assert values['mean'] == pytest.approx(sum(values['values']) / 2)
    assert 'gamma_neg-0 |' in (tmp_path / 'sweep/table.md').read_text()
    assert (tmp_path / 'sweep/sweep.png').is_file()
    one = tmp_path / 'sweep/focal/seed1'
    assert (one / 'epoch_1.pth').is_file() and 'Epoch(train)' in (one / 'train.log').read_text()

    # A run that was lost is trained again, and only that one, to the same numbers.
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / 'sweep').rglob('result.json')}
    metrics = json.loads((one / 'result.json').read_text())['metrics']
    for path in [one / 'result.json', one / 'last_checkpoint', *one.glob('*.pth')]:
        path.unlink()
    assert run(*command) is None
    again = json.loads((one / 'result.json').read_text())['metrics']
    assert again['multilabel/mAP'] == metrics['multilabel/mAP']
    changed = [p for p, t in before.items() if p.stat().st_mtime_ns != t]
    assert changed == [one / 'result.json']

    message = run(*command[:-1], 'default_hooks.monitor.interval=2')
    assert 'config.default_hooks.monitor.interval: 1 -> 2' in message
