"""Trainings as a user runs them: resumed after SIGKILL, and in two processes."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from processes import Started, python, python_twice

from asl_det.data.digits import make_digits

CONFIG = 'configs/multilabel/resnet18-w16_asl-adaptive_digits.py'
ENV = dict(os.environ, OMP_NUM_THREADS='1')


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digits'
    make_digits(root, num_train=48, num_val=20, size=64, digits_per_image=(1, 3),
                digit_size=(20, 32), clutter=2)
    return root


def options(root, **more):
    values = {
        'data_root': root, 'max_epochs': 4, 'train_dataloader.batch_size': 8,
        'train_cfg.val_interval': 2, 'default_hooks.logger.interval': 1, **more}
    return ['--cfg-options', *(f'{k}={v}' for k, v in values.items())]


def run(*command):
    return succeeded(python(*command, env=ENV))


def succeeded(result):
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """The digits config with dropout, and with augmentation in the worker."""
    path = tmp_path_factory.mktemp('config') / 'random.py'
    path.write_text(
        f"_base_ = '{os.path.abspath(CONFIG)}'\n"
        "train_pipeline = [dict(type='LoadImageFromFile', imdecode_backend='pillow'),\n"
        "    dict(type='TorchvisionTransform', name='RandAugment'), dict(type='PackMultiLabel')]\n"
        "train_dataloader = dict(dataset=dict(pipeline=train_pipeline))\n"
        "model = dict(head=dict(dropout=0.2))\n")
    return path


def weights(work_dir):
    saved = torch.load(work_dir / 'epoch_4.pth', weights_only=False)
    return saved['state_dict'], saved['ema_state_dict']


def test_a_killed_and_resumed_training_ends_with_the_same_weights(digits, config, tmp_path):
    run('tools/train.py', config, '--work-dir', tmp_path / 'whole', *options(digits))
    work_dir = tmp_path / 'killed'
    command = ['tools/train.py', str(config), '--work-dir', str(work_dir), *options(digits)]
    started = Started(*command, env=ENV)
    deadline = time.time() + 120
    while not (work_dir / 'last_checkpoint').exists() and time.time() < deadline:
        time.sleep(0.05)
    started.kill()
    started.result()
    assert (work_dir / 'last_checkpoint').exists() and not (work_dir / 'epoch_4.pth').exists()
    result = succeeded(subprocess.run(  # with the start of Python: other hashes, other addresses
        [sys.executable, *command, '--resume'], env=ENV, capture_output=True, text=True))
    assert 'it goes on from step ' in result.stdout
    for whole, resumed in zip(weights(tmp_path / 'whole'), weights(work_dir), strict=True):
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(whole[k], resumed[k]) for k in whole)
    assert weights(work_dir)[0]['head.loss_cls.adaptive.gamma_neg'] != 2.0


def metrics_of(work_dir):
    rows = [json.loads(line) for log in sorted(work_dir.glob('*/vis_data/scalars.json'))
            for line in log.read_text().splitlines()]
    losses = [row['loss'] for row in rows if 'loss' in row]
    return losses, [row for row in rows if 'multilabel/mAP' in row][-1]


@pytest.mark.parametrize('reduction, lr', [('mean', 0.05), ('sum', 0.05 / 80)])
def test_two_processes_train_and_evaluate_as_one(digits, tmp_path, reduction, lr):
    # Batch norm of stored statistics: on CPU there is no synchronised one.
    still = {'model.backbone.norm_eval': True, 'val_dataloader.batch_size': 7,
             'optim_wrapper.optimizer.type': 'SGD', 'lr': lr,
             'model.head.loss.reduction': reduction}
    run('tools/train.py', CONFIG, '--work-dir', tmp_path / 'one',
        *options(digits, **still))
    for result in python_twice(
            'tools/train.py', CONFIG, '--launcher', 'pytorch', '--work-dir', tmp_path / 'two',
            *options(digits, **still, **{'train_dataloader.batch_size': 4}), env=ENV):
        succeeded(result)
    (_, one), (_, two) = metrics_of(tmp_path / 'one'), metrics_of(tmp_path / 'two')
    assert two['multilabel/mAP'] == pytest.approx(one['multilabel/mAP'], abs=2e-3)
    for a, b in zip(weights(tmp_path / 'one'), weights(tmp_path / 'two'), strict=True):
        for name in a:
            assert torch.allclose(a[name].float(), b[name].float(), rtol=1e-3, atol=1e-4), name


def test_evaluation_writes_metrics_scores_and_sheets(digits, tmp_path):
    run('tools/train.py', CONFIG, '--work-dir', tmp_path / 'run',
        *options(digits, max_epochs=1))
    assert (tmp_path / 'run/predictions.png').stat().st_size > 20_000
    result = run('tools/test.py', CONFIG, tmp_path / 'run/epoch_1.pth', '--verbose', '--work-dir',
                 tmp_path / 'test', '--out', tmp_path / 'out/results.json', '--show',
                 tmp_path / 'drawn', *options(digits, **{
                     'default_hooks.visualization.per_sheet': 12,
                     'default_hooks.ema.weights': 'raw'}))
    assert 'multilabel/mAP' in result.stdout and 'weights of the checkpoint: raw' in result.stdout
    record = json.loads((tmp_path / 'out/results.json').read_text())
    _, trained = metrics_of(tmp_path / 'run')
    assert record['metrics']['multilabel/mAP'] == pytest.approx(trained['multilabel/mAP_raw'])
    assert trained['multilabel/mAP_raw'] != trained['multilabel/mAP_ema']
    assert (tmp_path / 'out/results.classes.csv').is_file()
    assert (tmp_path / 'out/results.scores.npz').is_file()
    assert len(list((tmp_path / 'drawn').glob('sheet_*.png'))) == 2

    labels = json.loads((digits / 'instances_val.json').read_text())
    del labels['annotations']
    (tmp_path / 'unlabelled.json').write_text(json.dumps(labels))
    result = run('tools/test.py', CONFIG, tmp_path / 'run/epoch_1.pth', '--work-dir',
                 tmp_path / 'test', '--out', tmp_path / 'out/unlabelled.json', '--show',
                 tmp_path / 'drawn_unlabelled', *options(digits, **{
                     'test_dataloader.dataset.ann_file': tmp_path / 'unlabelled.json'}))
    assert 'there will be no metrics' in result.stdout + result.stderr
    assert json.loads((tmp_path / 'out/unlabelled.json').read_text())['metrics'] == {}
    with np.load(tmp_path / 'out/results.scores.npz') as known, np.load(
            tmp_path / 'out/unlabelled.scores.npz') as unlabelled:
        assert (known['scores'] == unlabelled['scores']).all()
        assert (unlabelled['targets'] == -1).all() and (known['targets'] >= 0).all()
    assert len(list((tmp_path / 'drawn_unlabelled').glob('sheet_*.png'))) == 1


def test_two_classes_train_with_the_default_metric(digits, tmp_path):
    classes = {f'{split}_dataloader.dataset.metainfo.classes': "['3','5']"
               for split in ('train', 'val', 'test')}
    result = run('tools/train.py', CONFIG, '--verbose', '--work-dir', tmp_path, *options(
        digits, **classes, **{'max_epochs': 1, 'train_cfg.val_interval': 1,
                              'model.head.num_classes': 2}))
    said, trained = (result.stdout + result.stderr).split('Epoch(train)', 1)
    assert 'top3: left out of the metrics, there are 2 classes' in said
    assert 'multilabel/mAP' in trained and 'top3' not in trained


def test_a_broken_image_ends_with_one_line_that_names_it(digits, tmp_path):
    root = shutil.copytree(digits, tmp_path / 'digits')
    path = root / 'train' / '000007.png'
    path.write_bytes(path.read_bytes()[:200])
    result = python('tools/train.py', CONFIG, '--work-dir', tmp_path / 'run', *options(root),
                    env=ENV)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert f'{path}: can not be decoded' in last and 'Traceback' not in last
