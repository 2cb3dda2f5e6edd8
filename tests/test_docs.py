"""Tables of the docs are what their command prints, or what the loss computes."""

import glob
import re
import shlex
from pathlib import Path

import pytest
import torch
from command_line import run_command

from asl_det.losses.functional import asymmetric_loss

ROOT = Path(__file__).parent.parent
# A comment with a command, and the table below it.
PRINTED = re.compile(r'<!-- ((?:asl-det|python tools/\S+\.py) [^\n]+) -->\n+((?:\|[^\n]*\n)+)')
TABLES = [pytest.param(command, table, id=f'{page.name}-{number}')
          for page in [ROOT / 'README.md', *sorted(ROOT.glob('docs/*.md'))]
          for number, (command, table) in enumerate(PRINTED.findall(page.read_text()))]


def test_there_are_such_tables():
    assert len(TABLES) >= 2


@pytest.mark.parametrize(('command', 'table'), TABLES)
def test_a_table_is_what_its_command_prints(command, table, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    program, name, *arguments = shlex.split(command)
    name = name if program == 'asl-det' else Path(name).stem
    assert run_command(name, *(
        path for argument in arguments for path in
        (sorted(glob.glob(argument)) if argument.endswith('.json') else [argument]))) is None
    assert table == capsys.readouterr().out


def entry(logits, positive, **parameters):
    """Loss of every logit with one label."""
    targets = torch.full_like(logits, float(positive))[:, None]
    return asymmetric_loss(logits[:, None], targets, **parameters)[:, 0]


def test_where_places_of_uncertain_labels_end():
    page = (ROOT / 'docs/detection.md').read_text()
    rows = re.findall(r'^\| (focal loss|ASL, margin ([\d.]+))' + r' \| ([\d.]+)' * 4 + r' \|$',
                      page, re.MULTILINE)
    assert len(rows) == 5
    logits = torch.linspace(-8, 14, 44001, dtype=torch.float64)
    for name, margin, *told in rows:
        parameters = (dict(gamma_neg=2.0, gamma_pos=0.0, clip=float(margin)) if margin
                      else dict(gamma_neg=2.0, gamma_pos=2.0, clip=0.0, alpha=0.25))
        found = []
        for share in (0.6, 0.1):
            loss = (share * entry(logits, True, **parameters)
                    + (1 - share) * entry(logits, False, **parameters))
            found.append(logits[loss.argmin()].sigmoid())
        points = torch.tensor([0.5, 0.9], dtype=torch.float64).logit().requires_grad_()
        entry(points, False, **parameters).sum().backward()
        for value, text in zip([*found, *points.grad], told, strict=True):
            digits = len(text.partition('.')[2])
            assert float(value) == pytest.approx(float(text), abs=0.51 * 10**-digits), name
