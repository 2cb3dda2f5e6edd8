"""The commands, run as a user runs them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from command_line import CONFIG, run_command
from processes import python as run

from asl_det.data.digits import make_digits


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digits'
    make_digits(root, num_train=16, num_val=6)
    return root


def data_options(root, **options):
    """--cfg-options that point the digits config at ``root`` for a training of a few steps."""
    values = {
        'train_dataloader.dataset.data_root': f'{root}/',
        'val_dataloader.dataset.data_root': f'{root}/',
        'test_dataloader.dataset.data_root': f'{root}/',
        'val_evaluator.ann_file': f'{root}/instances_val.json',
        'test_evaluator.ann_file': f'{root}/instances_val.json',
        'train_dataloader.batch_size': 4,
        'train_cfg.max_iters': 4,
        'train_cfg.val_interval': 2,
        'default_hooks.checkpoint.interval': 2,
        'default_hooks.logger.interval': 1,
        **options}
    return ['--cfg-options', *(f'{k}={v}' for k, v in values.items())]


@pytest.fixture(scope='module')
def trained(digits, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('run')
    result = subprocess.run(  # with the start of Python
        [sys.executable, 'tools/train.py', CONFIG, '--work-dir', str(work_dir), '--seed', '7',
         *data_options(digits)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return work_dir, result


def test_training_leaves_a_checkpoint_and_curves(trained):
    work_dir, result = trained
    checkpoint = work_dir / 'iter_4.pth'
    assert checkpoint.is_file() and (work_dir / 'curves.png').stat().st_size > 10_000
    assert f'checkpoint: {checkpoint}' in result.stdout
    saved = torch.load(checkpoint, weights_only=False)
    assert saved['meta']['seed'] == 7 and saved['meta']['iter'] == 4


def losses_of(work_dir):
    rows = [json.loads(line) for log in sorted(work_dir.glob('*/vis_data/scalars.json'))
            for line in log.read_text().splitlines()]
    return [row['loss'] for row in rows if 'loss' in row]


def test_training_is_the_same_with_the_plain_definition(trained, digits, tmp_path):
    result = run('tools/train.py', CONFIG, '--work-dir', tmp_path, '--seed', 7, *data_options(
        digits, **{'model.bbox_head.loss_cls.impl': 'torch', 'val_cfg': None,
                   'val_dataloader': None, 'val_evaluator': None}))
    assert result.returncode == 0, result.stderr
    assert losses_of(tmp_path) == pytest.approx(losses_of(trained[0])[:4], rel=1e-4)


def test_a_training_is_resumed_from_its_last_checkpoint(trained, digits):
    work_dir, _ = trained
    result = run('tools/train.py', CONFIG, '--work-dir', work_dir, '--resume', '--seed', 7,
                 *data_options(digits, **{'train_cfg.max_iters': 6}))
    assert result.returncode == 0, result.stderr
    assert 'it goes on from step 4' in result.stdout
    assert (work_dir / 'iter_6.pth').is_file()
    steps = [json.loads(line)['iter'] for log in sorted(work_dir.glob('*/vis_data/scalars.json'))
             for line in log.read_text().splitlines() if 'loss' in line]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_evaluation_writes_metrics_detections_and_drawings(trained, digits, tmp_path):
    checkpoint = (trained[0] / 'last_checkpoint').read_text()
    result = run('tools/test.py', CONFIG, checkpoint, '--work-dir', tmp_path / 'work', '--out',
                 tmp_path / 'out' / 'results.json', '--show', tmp_path / 'drawn',
                 *data_options(digits))
    assert result.returncode == 0, result.stderr
    assert 'coco/bbox_mAP ' in result.stdout
    record = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert 0 <= record['metrics']['coco/bbox_mAP'] <= 1
    assert record['checkpoint'] == checkpoint and record['versions']['torch'] == torch.__version__
    detections = json.loads((tmp_path / 'out' / 'results.bbox.json').read_text())
    assert {'image_id', 'bbox', 'score', 'category_id'} <= set(detections[0])
    assert len(list((tmp_path / 'drawn').glob('*.png'))) == 6


def test_mmdets_own_train_script_trains_our_config_unchanged(digits, tmp_path):
    script = Path(mmdet.__file__).parent / '.mim' / 'tools' / 'train.py'
    result = run(script, CONFIG, '--work-dir', tmp_path, *data_options(digits))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'iter_4.pth').is_file()


def test_mmdets_own_test_script_runs_as_the_docs_say():
    page = Path('docs/training.md').read_text(encoding='utf-8')
    code = re.search(r'python -c "(import asl_det, runpy.*?)" TEST.PY', page).group(1)
    result = run('-c', code, Path(mmdet.__file__).parent / '.mim/tools/test.py', '--help')
    assert result.returncode == 0 and '--tta' in result.stdout, result.stderr


def test_an_mmdet_config_is_tested_by_name(digits, tmp_path, monkeypatch):
    from mmdet.datasets import CocoDataset
    from mmengine.hub import get_config
    from training_step import build_model
    name = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
    model = build_model(get_config(name))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'r18.pth')
    annotations = json.loads((digits / 'instances_val.json').read_text())
    annotations['categories'] = [dict(id=i + 1, name=name) for i, name in
                                 enumerate(CocoDataset.METAINFO['classes'])]
    (tmp_path / 'coco.json').write_text(json.dumps(annotations))
    data = {'test_dataloader.dataset.data_root': f'{digits}/',
            'test_dataloader.dataset.ann_file': tmp_path / 'coco.json',
            'test_dataloader.dataset.data_prefix.img': 'val/',
            'test_dataloader.dataset.pipeline.1.scale': '(160,160)',
            'test_dataloader.num_workers': 0, 'test_dataloader.persistent_workers': False,
            'test_evaluator.ann_file': tmp_path / 'coco.json'}
    code = run_command('test', name, tmp_path / 'r18.pth', '--work-dir', tmp_path,
                    '--out', tmp_path / 'results.json', '--cfg-options',
                    *(f'{k}={v}' for k, v in data.items()))
    assert code is None and (tmp_path / 'results.json').is_file()


class Payload:

    def __reduce__(self):
        return os.system, ('true',)


def test_each_mistake_is_one_line_that_names_the_path(digits, tmp_path, monkeypatch):
    torch.save(dict(extra=Payload()), tmp_path / 'bad.pth')
    no_images = shutil.copytree(digits, tmp_path / 'no_images')
    shutil.rmtree(no_images / 'train')
    work_dir = ('--work-dir', tmp_path / 'work')
    cases = [
        (('train', 'configs/nothing.py'), 'config configs/nothing.py does not exist'),
        (('train', 'mmdet::retinanet/nothing.py'), 'config mmdet::retinanet/nothing.py'),
        (('train', CONFIG, *data_options('nowhere')),
         'train_dataloader.dataset.ann_file: nowhere/instances_train.json does not exist'),
        (('train', CONFIG, *data_options('nowhere')), 'asl-det data digits'),
        (('train', 'configs/fcos/fcos_r50-caffe_fpn_gn-head_asl-1x_coco.py'), 'download COCO 2017'),
        (('train', CONFIG, *data_options(no_images)),
         f'data_prefix.img: {no_images}/train/ does not'),
        (('train', CONFIG, '--resume', 'nothing.pth', *data_options(digits)),
         'checkpoint nothing.pth: does not exist'),
        (('test', CONFIG, 'nothing.pth', *data_options(digits)),
         'checkpoint nothing.pth: does not exist'),
        (('test', CONFIG, tmp_path / 'bad.pth', *data_options(digits)), 'could run code'),
    ]
    for (tool, *args), expected in cases:
        message = run_command(tool, *args[:2 if tool == 'test' else 1], *work_dir,
                           *args[2 if tool == 'test' else 1:])
        assert isinstance(message, str) and message.startswith('error: '), (args, message)
        lines = message.split('\n')
        assert any(expected in line for line in lines), (args, message)
        assert all(line.startswith(('error: ', '  ... ')) for line in lines), (args, message)


@pytest.mark.parametrize('harm, expected', [
    (lambda path: path.unlink(), 'does not exist'),
    (lambda path: path.write_bytes(b'no image'), 'is no image')])
def test_a_missing_or_broken_image_ends_with_one_line_that_names_it(digits, tmp_path, harm,
                                                                    expected):
    root = shutil.copytree(digits, tmp_path / 'digits')
    harm(root / 'train' / '000005.png')
    result = run('tools/train.py', CONFIG, '--work-dir', tmp_path / 'work', *data_options(root))
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert f'{root}/train/000005.png: {expected}' in last
    assert 'Traceback' not in result.stderr


def test_figures_from_the_command_line(tmp_path, monkeypatch):
    assert run_command('plot-loss', '--out', tmp_path / 'figures') is None
    assert len(list((tmp_path / 'figures').glob('*.pdf'))) == 2
    code = run_command('plot-loss', '--clip', 2, '--out', tmp_path)
    assert 'expected a margin in [0, 1)' in code
    assert 'ProbabilityMonitorHook' in run_command('plot-training', tmp_path)
    assert 'two runs are called' in run_command('plot-training', tmp_path, tmp_path)


def test_a_table_of_sweeps_needs_records_of_sweeps(tmp_path, monkeypatch):
    other = tmp_path / 'other.json'
    for text in ('[]', '{"variants": {"a": {}}}', '{"variants": {}}', '{"variants": {"a": 1}}',
                 '{"variants": {"a": {"metrics": null}}}', '{"variants": {"a": {"metrics": {}}}}',
                 '{"variants": {"a": {"metrics": {"x/mAP": {"mean": 1, "std": null}}}}}',
                 '{"variants": {"a": {"metrics": {"x/mAP": {"mean": null, "std": null, "values": '
                 '[]}}}}}'):
        other.write_text(text)
        assert f'{other}: expected the sweep.json' in run_command('table', other)
    known = 'docs/detection/retinanet_digits.json'
    assert 'named retinanet_digits too' in run_command('table', known, known)
    none = tmp_path / 'none.json'
    assert f'{none} does not exist' in run_command('table', none)
    short = (known, '--by-variant', '--metrics')
    assert 'more than one metric: coco/bbox_mAP_50, coco/bbox_mAP_75' in run_command(
        'table', *short, '.*_(50|75)')
    assert '--by-variant shows one metric' in run_command('table', *short, 'a', 'b')
    assert 'has no variant bce; there are: mmdet' in run_command(
        'table', *short, '.*_mAP', '--baseline', 'bce')


@pytest.fixture(scope='module')
def hidden_digits(tmp_path_factory):
    root = tmp_path_factory.mktemp('hidden') / 'digits'
    make_digits(root, num_train=30, num_val=5, size=64, digit_size=(20, 32), hide_labels=0.5)
    return ('configs/multilabel/resnet18-w16_asl_digits.py',
            f'train_dataloader.dataset.data_root={root}')


def test_without_a_baseline_there_are_label_statistics_and_ranges_but_no_suggestion(
        hidden_digits, tmp_path, monkeypatch, capsys):
    config, data = hidden_digits
    assert run_command('suggest', config, '--out', tmp_path / 's.json', '--figure',
                    tmp_path / 'figure', '--cfg-options', data) is None
    out = ' '.join(capsys.readouterr().out.split())
    assert '30 images, 10 classes' in out and 'negatives for one positive' in out
    assert 'Cannot tell margin and gamma_neg without a baseline' in out
    assert 'ranks images alike in every row' in out
    found = json.loads((tmp_path / 's.json').read_text())
    assert found['suggestion'] is None
    assert found['ranges']['gamma_neg'][0] < found['ranges']['gamma_neg'][1]
    assert (tmp_path / 'figure.png').is_file()


def test_with_the_scores_of_a_baseline_margin_and_gamma_come_with_their_reasons(
        hidden_digits, tmp_path, monkeypatch, capsys):
    config, data = hidden_digits
    rng = np.random.default_rng(0)
    scores = rng.beta(0.2, 1, (400, 10))
    targets = rng.random((400, 10)) < scores
    path = tmp_path / 'a.scores.npz'
    np.savez(path, scores=scores, targets=targets.astype(np.int8), classes=list('0123456789'))
    assert run_command('suggest', config, '--scores', path, '--margin-share', 0.7,
                    '--out', tmp_path / 's.json', '--cfg-options', data) is None
    out = ' '.join(capsys.readouterr().out.split())
    found = json.loads((tmp_path / 's.json').read_text())['suggestion']
    assert f'Margin {found["clip"]:.3f} (' in out and '70% of the negatives have a lower' in out
    assert f'gamma_neg {found["gamma_neg"]:.1f} (' in out and '80% from here on' in out
    assert 'calibrated' not in out

    np.savez(path, scores=scores ** 0.3, targets=targets.astype(np.int8),
             classes=list('0123456789'))
    assert run_command('suggest', config, '--scores', path, '--cfg-options', data) is None
    assert 'this is no calibrated baseline' in ' '.join(capsys.readouterr().out.split())

    for content, says in ((dict(scores=scores), 'has no scores as asl-det test writes them'),
                          (dict(scores=scores, targets=targets, classes=list('abc')),
                           'give the scores of a baseline on the same classes'),
                          (dict(scores=scores[:, :9], targets=targets, classes=list('0123456789')),
                           'scores have the shape (400, 9), targets (400, 10)')):
        np.savez(path, **content)
        assert says in run_command('suggest', config, '--scores', path, '--cfg-options',
                                data)
    cut = tmp_path / 'cut.npz'
    cut.write_bytes(path.read_bytes()[:900])
    for args, says in ((('--scores', 'none.npz'), 'none.npz does not exist'),
                       (('--scores', cut), 'cut.npz is cut off or no npz file'),
                       (('--margin-share', 1), 'between 0 and 1')):
        assert says in run_command('suggest', config, *args, '--cfg-options', data)
