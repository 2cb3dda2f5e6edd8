"""tools/kill_campaign.py: a short one, and that it sees what differs."""

import importlib.util
import sys

import pytest
import torch
from interrupted import config

from asl_det.errors import UserError


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location('kill_campaign', 'tools/kill_campaign.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('case', [[], ['--no-seed', '--go-back']])
def test_a_training_that_is_killed_three_times_ends_the_same(tool, tmp_path, monkeypatch, capsys,
                                                             case):
    cfg = config()
    cfg.custom_imports = dict(imports=['interrupted'])
    cfg.param_scheduler = []
    cfg.train_cfg.val_interval = 8
    cfg.dump(tmp_path / 'config.py')
    monkeypatch.setattr(sys, 'argv', [
        'kill_campaign.py', str(tmp_path / 'config.py'), '--kills', '3', '--epochs', '8',
        '--work-dir', str(tmp_path / 'runs'), *case])
    tool.main()
    said = capsys.readouterr().out
    assert 'kill 3 of 3: iteration' in said and '3 of 3 kills: the training went on' in said
    assert ('back to iteration' in said) == bool(case)


def test_a_training_that_goes_on_from_elsewhere_is_seen(tool, tmp_path):
    (tmp_path / 'train.log').write_text('resumed epoch: 1, iter: 9\n')
    (tmp_path / tool.TOLD).write_text('7\n')
    with pytest.raises(UserError, match=r'went on from iterations \[9\], and should from \[7\]'):
        tool.check_branch(tmp_path)


@pytest.mark.parametrize('change, expected', [
    (lambda c: c['state_dict']['w'].add_(1e-7), 'the first is state_dict.w'),
    (lambda c: c['optimizer'].update(lr=2), 'the first is optimizer.lr'),
    (lambda c: c.pop('optimizer'), 'the first is optimizer')])
def test_a_difference_of_one_bit_is_seen_and_named(tool, tmp_path, change, expected):
    for name in 'ab':
        (tmp_path / name).mkdir()
        saved = dict(state_dict=dict(w=torch.zeros(2)), optimizer=dict(lr=1, betas=(0.9, 0.99)))
        torch.save(saved, tmp_path / name / 'iter_1.pth')
    tool.compare(tmp_path / 'a', tmp_path / 'b')
    change(saved)
    torch.save(saved, tmp_path / 'b' / 'iter_1.pth')
    with pytest.raises(UserError, match=expected):
        tool.compare(tmp_path / 'a', tmp_path / 'b')
    torch.save(saved, tmp_path / 'b' / 'best.pth')
    with pytest.raises(UserError, match="the checkpoints at the end are .*'best.pth'"):
        tool.compare(tmp_path / 'a', tmp_path / 'b')
