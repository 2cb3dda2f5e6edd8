"""What is installed and runs here, and configs with their bases."""

import subprocess
import sys

import torch
from command_line import run_command

from asl_det.compat.operators import _compiled_operators_exist
from asl_det.engine import load_config
from asl_det.losses.backends import native

CONFIG = 'configs/multilabel/resnet18-w16_asl_digits.py'


def said_of(capsys):
    assert run_command('env') is None
    return ' '.join(capsys.readouterr().out.split())


def test_the_environment_says_which_path_of_the_loss_runs_and_why(capsys, monkeypatch):
    said = said_of(capsys)
    assert f'torch {torch.__version__}' in said and 'stack o' in said
    assert ('stand-ins on torchvision' in said) != _compiled_operators_exist()
    if native.is_available():
        assert 'loss, CPU the compiled pass (' in said

    def library():
        raise native.Unavailable('there is no C compiler (cc, gcc or clang)')

    monkeypatch.setattr(native, 'library', library)
    assert 'loss, CPU the slower path in torch: there is no C compiler' in said_of(capsys)


def test_the_environment_says_what_to_install_for_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr('asl_det.commands.env.find_spec', lambda name: None)
    monkeypatch.setattr('asl_det.commands.env._version', lambda name: None)
    said = said_of(capsys)
    assert 'stack none: the loss alone works; for the rest: pip install' in said
    assert 'not installed gradio, for asl-det demo: pip install "asl-det[demo]"' in said
    assert 'operators' not in said


def test_a_copy_of_a_config_needs_no_other_file_and_has_the_changes_of_options(tmp_path, capsys):
    out = tmp_path / 'mine.py'
    assert run_command('config', CONFIG, '--loss', 'focal', '--out', out) is None
    capsys.readouterr()
    copy, whole = load_config(str(out)), load_config(CONFIG, {'loss': 'focal'}, quiet=True)
    assert copy.to_dict() == whole.to_dict() and '_base_' not in out.read_text()
    assert run_command('config', CONFIG, '--loss', 'focal') is None
    assert capsys.readouterr().out == out.read_text()


def test_the_module_is_the_command():
    result = subprocess.run([sys.executable, '-m', 'asl_det', '--version'], capture_output=True,
                            text=True)
    assert result.stdout.startswith('asl-det '), result.stderr
