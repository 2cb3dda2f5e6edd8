"""What a run shows: a digest, how far it is, metrics; the rest is in the log file."""

import contextlib
import logging
import sys

import pytest
from command_line import CONFIG, run_command
from mmengine.logging import MMLogger

from asl_det.data.digits import make_digits
from asl_det.detection import swap_losses
from asl_det.detection.swap import print_swaps
from asl_det.engine import load_config
from asl_det.files.text import plain_console
from asl_det.training.screen import ScreenHook, _Lines, build_quietly


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digits'
    make_digits(root, num_train=8, num_val=2)
    return root


def test_a_training_shows_a_digest_progress_and_metrics_and_its_log_has_all(digits, tmp_path,
                                                                            capsys):
    run = ('train', CONFIG, '--data-root', digits, '--work-dir', tmp_path, '--batch-size', 2,
           '--workers', 0, '--val-interval', 2, '--cfg-options', 'train_cfg.max_iters=2')
    assert run_command(*run) is None
    lines = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith('training 1/2  loss '))
    assert first <= 25
    said = '\n'.join(lines[:first])
    for part in ('data      8 pictures to train on, 2 to validate on; 10 classes: 0, 1, 2, 3, 4, 5',
                 'model     RetinaNet, ResNet, 1.0 million weights',
                 'loss      bbox_head.loss_cls: AsymmetricLoss(gamma_neg=2.0, gamma_pos=0.0, clip',
                 'schedule  2 steps of 2 pictures, AdamW, learning rate 0.002', 'device    ',
                 f'folder    {tmp_path}'):
        assert part in said
    assert lines[first].endswith(' left') and lines[first + 1].startswith('training 2/2  loss ')
    assert lines[first + 2].startswith('after step 2: coco/bbox_mAP 0')
    assert lines[first + 3].startswith('no threshold was chosen (')
    assert lines[first + 4].startswith('checkpoint: ')
    (log,) = tmp_path.glob('*/*.log')
    assert 'System environment' in log.read_text() and 'bbox_mAP_copypaste' in log.read_text()

    assert run_command(*run[:-1], 'train_cfg.max_iters=3', '--resume') is None
    assert 'it goes on from step 2\n' in capsys.readouterr().out
    assert run_command('test', CONFIG, tmp_path / 'iter_3.pth', '--data-root', digits, '--work-dir',
                       tmp_path / 'test', '--workers', 0) is None
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith('testing 1/') for line in lines) == 1 and len(lines) < 16
    assert lines[-1].startswith('coco/bbox_mAP_')
    assert run_command(*run, '--overwrite', '--verbose') is None
    assert 'System environment' in capsys.readouterr().out


def test_what_others_print_is_shown_but_for_the_noise_of_pycocotools(capsys):
    with contextlib.redirect_stdout(_Lines(plain_console(file=sys.stdout))):
        print('creating index...\nDone (t=0.00s)\nloss of mine [red] 3')
        print(' Average Precision  (AP) @[ IoU=0.50:0.95 ] = 0.0')
        print('done with it')
    assert capsys.readouterr().out == 'loss of mine [red] 3\ndone with it\n'


def test_a_half_line_is_shown_when_the_run_ends_with_an_error(capsys):
    with pytest.raises(KeyError), ScreenHook().watching():
        sys.stdout.write('half')
        raise KeyError
    assert capsys.readouterr().out == 'half\n' and not isinstance(sys.stdout, _Lines)


def test_a_log_that_is_built_quietly_shows_warnings_and_then_what_is_a_warning(capsys):
    class Runner:
        logger = None

    def build():
        Runner.logger = MMLogger('quiet', log_file=None)
        Runner.logger.info('the whole config')
        return Runner

    build_quietly(build).logger.info('one hook more')
    Runner.logger.log(logging.WARNING, 'x will be deprecated in future')
    Runner.logger.log(logging.WARNING, 'a real one')
    said = capsys.readouterr().out
    assert 'a real one' in said and said.count('\n') == 1

    def failing():
        logger = MMLogger('failing', log_file=None)
        logger.info('the whole config')
        logger.warning('look here')
        raise KeyError('x')

    with pytest.raises(KeyError):
        build_quietly(failing)
    said = capsys.readouterr().out
    assert 'look here' in said and 'config' not in said


def test_what_a_loss_replaces_is_a_value_a_line_equal_places_together(capsys):
    cfg = load_config('mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py')
    print_swaps(swap_losses(cfg, 'asl', where=['roi']))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [*(f'model.roi_head.bbox_head.{i}.loss_cls (roi)' for i in range(3)),
                         '  type: CrossEntropyLoss -> RoIAsymmetricLoss']
    assert '  use_sigmoid: False -> True' in lines
    assert len(lines) < 12 and max(map(len, lines)) <= 80
