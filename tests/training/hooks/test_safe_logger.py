"""Logs that can not be written."""

import errno

import pytest
from interrupted import EPOCHS, config, train
from mmengine.visualization import LocalVisBackend

import asl_det.training.hooks.probability_monitor
from asl_det.analysis.training_curves import read_scalars


@pytest.mark.parametrize('failing', [1, 10 ** 6])
def test_a_log_that_can_not_be_written_ends_no_training(tmp_path, monkeypatch, failing):
    calls = []
    dump = LocalVisBackend._dump

    def full(self, *args):
        calls.append(args)
        if len(calls) <= failing:
            raise OSError(errno.ENOSPC, 'No space left on device')
        dump(self, *args)

    monkeypatch.setattr(LocalVisBackend, '_dump', full)
    assert train(config(), tmp_path).name == f'epoch_{EPOCHS}.pth'
    log = ''.join(p.read_text() for p in tmp_path.glob('*/*.log'))
    assert 'scalars of iteration 1 were not recorded: ' in log
    assert ('metrics of iteration' in log) == (failing > 1)
    assert len(read_scalars(tmp_path).get('loss', [[]])[0]) == (0 if failing > 1 else 7)


def test_probabilities_that_can_not_be_recorded_end_no_training(tmp_path, monkeypatch):
    def full(path, record):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(asl_det.training.hooks.probability_monitor, 'append_record', full)
    cfg = config(model=dict(type='mmdet.NoisyModelWithASL'),
                 custom_hooks=[dict(type='mmdet.ProbabilityMonitorHook', interval=1)])
    assert train(cfg, tmp_path).is_file()
    log = ''.join(p.read_text() for p in tmp_path.glob('*/*.log'))
    assert 'probabilities of iteration 8 were not recorded' in log
