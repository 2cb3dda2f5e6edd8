"""The command asl-det: its help, and options that mean the same in every command."""

import re
import shlex
import subprocess
import sys

import pytest
from command_line import run_command

from asl_det.commands import digits, suggest
from asl_det.commands.main import COMMANDS, main, module_of, overview, parser_of
from asl_det.data.digits import PRESETS
from asl_det.detection import KINDS
from asl_det.experiments.suggest import GRADIENT_SHARE, MARGIN_SHARE


def test_all_commands_fit_a_screen_each_with_an_example_that_is_right():
    lines = overview(list(COMMANDS)).splitlines()
    assert len(lines) <= 30 and max(map(len, lines)) <= 80
    for name, (example, _) in COMMANDS.items():
        parser_of(name).parse_args(shlex.split(example))


HELP = '''
import contextlib, io, sys, time
from asl_det.commands.main import main
with contextlib.redirect_stdout(io.StringIO()) as said:
    for line in sys.argv[1:]:
        try:
            main([*line.split(), '--help'])
        except SystemExit as end:
            assert not end.code, line
heavy = {'torch', 'numpy', 'mmengine', 'mmdet', 'matplotlib'} & set(sys.modules)
print(sorted(heavy), time.process_time(), said.getvalue().count('usage:'))
'''


def test_help_imports_nothing_heavy_and_takes_no_second():
    result = subprocess.run([sys.executable, '-c', HELP, '', 'data', *COMMANDS],
                            capture_output=True, text=True)
    heavy, seconds, shown = re.match(r'(\[.*\]) (\S+) (\d+)', result.stdout).groups()
    assert heavy == '[]' and float(seconds) < 2, result.stderr
    assert int(shown) == len(COMMANDS) + 2


@pytest.mark.parametrize('door', ['tools/train.py', 'tools/test.py'])
def test_the_doors_of_a_clone_lead_to_the_same_commands(door):
    result = subprocess.run([sys.executable, door, '--help'], capture_output=True, text=True)
    assert result.stdout.startswith(f'usage: asl-det {door[6:-3]} '), result.stderr


@pytest.mark.parametrize('name', COMMANDS)
def test_every_option_says_what_it_is_and_its_default(name):
    parser = parser_of(name)
    for action in parser._actions:
        if action.help == '==SUPPRESS==':
            continue
        assert action.help, action.dest
        switch = action.nargs == 0 or action.required
        assert switch or 'default' in parser._get_formatter()._get_help_string(action), action.dest
    assert parser.description.splitlines()[0].endswith('.') and f'asl-det {name}' in \
        parser.description


def test_an_option_takes_the_same_in_every_command():
    takes = {}
    for name in COMMANDS:
        for action in parser_of(name)._actions:
            for option in action.option_strings:
                how = type(action), action.type, action.nargs
                assert takes.setdefault(option, how) == how, (name, option)


def test_what_help_repeats_of_the_work_is_right():
    shown = parser_of('data digits').format_help()
    assert digits and set(PRESETS) == {'detection', 'multilabel'}
    for value in PRESETS['multilabel'].values():
        text = ' '.join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert text in shown
    args = parser_of('suggest').parse_args(['c.py'])
    assert suggest and (args.margin_share, args.gradient_share) == (MARGIN_SHARE, GRADIENT_SHARE)
    assert all(kind in parser_of('train').format_help() for kind in KINDS)


def test_old_spellings_go_on_with_a_line_that_gives_the_new_one(monkeypatch, capsys):
    asked = {}
    monkeypatch.setattr('asl_det.engine.test',
                        lambda cfg, checkpoint, **kwargs: asked.update(kwargs) or {})
    config = 'configs/multilabel/resnet18-w16_asl_digits.py'
    assert run_command('test', config, 'a.pth', '--thresholds=0.25', '--show-dir', 'drawn') is None
    assert asked['thresholds'] == 0.25 and asked['show_dir'] == 'drawn'
    said = capsys.readouterr().err
    assert said == ('--thresholds is called --threshold now; the old name goes with the next '
                    'release\n--show-dir is called --show now; the old name goes with the next '
                    'release\n')
    for name in COMMANDS:
        options = parser_of(name)._option_string_actions
        for old, new in getattr(module_of(name), 'OLD', {}).items():
            assert old not in options and new in options


@pytest.mark.parametrize('arguments, says', [
    (['trian'], 'there is no command asl-det trian: near it: train; '),
    (['data', 'digit'], 'there is no command asl-det data digit: near it: data digits; '),
    (['data', 'x'], 'there is no command asl-det data x: ')])
def test_a_command_that_there_is_not_is_one_line_with_what_is_near(arguments, says):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code.startswith(f'error: {says}')
    assert ended.value.code.endswith('asl-det --help lists all')


def test_sizes_are_a_square_or_height_and_width_and_classes_names_or_a_file(tmp_path):
    from asl_det.commands.command_line import read_classes, read_image_size
    assert read_image_size(None) is None
    assert read_image_size([32]) == (32, 32) and read_image_size([32, 64]) == (32, 64)
    for wrong, square in (([0], False), ([1, 2, 3], False), ([32, 64], True)):
        with pytest.raises(ValueError, match='--image-size .*: expected pixels, one number'):
            read_image_size(wrong, square)
    (tmp_path / 'names.txt').write_text('cat\ndog\n')
    assert read_classes([str(tmp_path / 'names.txt')]) == ['cat', 'dog']
    assert read_classes(['cat']) == ['cat'] and read_classes(None) is None
