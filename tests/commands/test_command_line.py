"""Mistakes that the package explains end in one line; everything else keeps its traceback."""

import argparse
import shutil
import signal
import subprocess
import traceback

import pytest
from command_line import run_command
from torch.utils.data import DataLoader, Dataset

from asl_det.commands.command_line import config_options, one_line, one_line_errors
from asl_det.compat.checkpoint import UnsafeCheckpointError
from asl_det.errors import DownloadError, MissingError, OutputError, Stopped, UserError


class Failing(Dataset):
    """A data set that fails in the worker."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, i):
        try:
            int('x')
        except ValueError as cause:
            raise self.error from cause


def raised(function):
    try:
        function()
    except Exception as error:
        return error


def ending(error):
    """What a command that raises ``error`` exits with."""

    @one_line_errors
    def main():
        raise error

    with pytest.raises(SystemExit) as exit:
        main()
    return exit.value.code


MESSAGES = ['a.json, line 3: ValueError: no label', 'first line\n  second line: Error: third\n',
            'a  path with  spaces.png does not exist']


@pytest.mark.parametrize('message', MESSAGES)
def test_a_message_of_ours_is_one_line_and_whole(message):
    line = ending(UserError(message))
    assert line == 'error: ' + ' '.join(part.strip() for part in message.strip().split('\n'))


@pytest.mark.parametrize('kind', [UserError, UnsafeCheckpointError])
@pytest.mark.parametrize('message', MESSAGES)
def test_a_message_from_a_worker_is_the_same(kind, message):
    loader = DataLoader(Failing(kind(message)), num_workers=1)
    error = raised(lambda: next(iter(loader)))
    assert type(error) is kind and 'Traceback' in str(error)
    assert one_line(error) == one_line(kind(message))


@pytest.mark.parametrize('error', [
    FileNotFoundError(2, 'No such file or directory', 'settings.ini'), ConnectionError('refused'),
    AssertionError('failed to load image: a.png'), ValueError('Error: x')])
def test_errors_of_others_keep_their_traceback(error):
    @one_line_errors
    def main():
        raise error

    found = raised(main)
    assert found is error and 'in main' in ''.join(traceback.format_tb(found.__traceback__))


@pytest.mark.parametrize('error, says', [
    (OSError(28, 'No space left on device', 'a.json'), 'error: a.json: No space left on device: '),
    (OSError(28, 'No space left on device'), 'error: a file could not be written: No space left'),
    (PermissionError(13, 'Permission denied', 'b'), 'error: b: Permission denied: make room, give'),
    (OutputError(30, 'Read-only file system', 'c'), 'error: c can not be written (Read-only'),
    (DownloadError('weights x can not be downloaded'), 'error: weights x can not be downloaded'),
    (MissingError('checkpoint x does not exist'), 'error: checkpoint x does not exist')])
def test_what_a_disk_or_a_network_is_to_blame_for_is_one_line(error, says):
    assert ending(error).startswith(says) and '\n' not in ending(error)


def test_a_flag_and_an_option_for_the_same_value_are_refused():
    args = argparse.Namespace(cfg_options=['lr=1'], lr=2.0, epochs=None, data_root='x')
    with pytest.raises(UserError, match='--lr 2.0 and --cfg-options lr=1 say the same'):
        config_options(args)
    args.cfg_options = ['a=1']
    assert config_options(args) == {'a': 1, 'lr': 2.0, 'data_root': 'x'}
    assert config_options(argparse.Namespace(cfg_options=None)) == {}


@pytest.mark.skipif(shutil.which('make') is None, reason='no make')
def test_make_clean_keeps_trained_models(tmp_path):
    shutil.copy('Makefile', tmp_path)
    for path in ('work_dirs/run/epoch_1.pth', 'data/digits/a.png', '.venv/installed'):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    subprocess.run(['make', '-C', str(tmp_path), 'clean'], check=True, capture_output=True)
    assert (tmp_path / 'work_dirs/run/epoch_1.pth').exists()
    assert (tmp_path / 'data/digits/a.png').exists() and not (tmp_path / '.venv').exists()


@pytest.mark.parametrize('number, status', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_training_ends_with_the_status_of_its_signal_and_how_to_go_on(capsys, number,
                                                                                status):
    @one_line_errors
    def main():
        raise Stopped(number, 7, 'run/iter_7.pth')

    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status
    assert 'run/iter_7.pth holds: the same command with --resume' in capsys.readouterr().err


def test_what_guards_a_training_is_set_by_flags(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr('asl_det.engine.train', lambda cfg, **kwargs: asked.update(kwargs))
    config = 'configs/multilabel/resnet18-w16_asl_digits.py'
    for flags, expected in (
            ([], dict(overwrite=False, stop_signals=['SIGINT', 'SIGTERM'], non_finite_steps=10)),
            (['--overwrite', '--stop-signals', 'SIGUSR1', '--non-finite-steps', '3'],
             dict(overwrite=True, stop_signals=['SIGINT', 'SIGTERM', 'SIGUSR1'],
                  non_finite_steps=3))):
        run_command('train', config, *flags)
        assert {name: asked[name] for name in expected} == expected
