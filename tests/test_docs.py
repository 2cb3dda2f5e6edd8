"""Tables of the docs are what their command prints."""

import glob
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A comment with a command, and the table below it.
PRINTED = re.compile(r'<!-- (python tools/\S+\.py [^\n]+) -->\n+((?:\|[^\n]*\n)+)')
TABLES = [pytest.param(command, table, id=f'{page.name}-{number}')
          for page in [ROOT / 'README.md', *sorted(ROOT.glob('docs/*.md'))]
          for number, (command, table) in enumerate(PRINTED.findall(page.read_text()))]


def test_there_are_such_tables():
    assert len(TABLES) >= 2


@pytest.mark.parametrize(('command', 'table'), TABLES)
def test_a_table_is_what_its_command_prints(command, table, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    _, tool, *arguments = shlex.split(command)
    monkeypatch.setattr(sys, 'argv', [tool, *(
        name for argument in arguments
        for name in (sorted(glob.glob(argument)) if argument.endswith('.json') else [argument]))])
    runpy.run_path(tool, run_name='__main__')
    assert table == capsys.readouterr().out
