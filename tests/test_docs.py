"""What the pages say is there: tables, links, commands and options; examples run."""

import glob
import inspect
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
from command_line import run_command

from asl_det.commands.main import COMMANDS, parser_of
from asl_det.detection.presets import PRESETS
from asl_det.losses import AsymmetricLoss
from asl_det.losses.functional import asymmetric_loss

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted(ROOT.glob('docs/*.md'))]
pages = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
pages_and_configs = pytest.mark.parametrize(
    'page', [*PAGES, *sorted(ROOT.glob('configs/**/*.py'))], ids=lambda page: page.name)
# A comment with a command, and the table below it.
PRINTED = re.compile(r'<!-- ((?:asl-det|python tools/\S+\.py) [^\n]+) -->\n+((?:\|[^\n]*\n)+)')
TABLES = [pytest.param(command, table, id=f'{page.name}-{number}')
          for page in PAGES
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


def test_the_readme_is_one_screen_of_150_lines_and_9_kb():
    readme = (ROOT / 'README.md').read_bytes()
    assert readme.count(b'\n') <= 150 and len(readme) <= 9 * 1024


def test_the_example_with_torch_alone_is_15_lines_and_learns(capsys):
    (code,) = re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)
    assert len(code.splitlines()) == 15
    assert set(re.findall(r'^(?:import|from) (\S+)', code, re.M)) == {'torch', 'asl_det.losses'}
    exec(code, {})
    assert float(capsys.readouterr().out.split()[0]) > 0.95


def test_the_readme_has_the_arguments_of_the_loss_and_their_defaults():
    rows = re.findall(r'^\| `(\w+)` \| (\S+) \|', (ROOT / 'README.md').read_text(), re.MULTILINE)
    assert {name: eval(default.strip('`')) for name, default in rows} == {
        name: p.default for name, p in inspect.signature(AsymmetricLoss).parameters.items()}


def test_the_numbers_of_the_kinds_of_head_are_those_of_the_presets():
    rows = re.findall(r'^\| `(\w+)` \| [^|]+ \| (gamma_neg [^|]+) \|',
                      (ROOT / 'docs/detection.md').read_text(), re.MULTILINE)
    assert {kind: dict(part.split() for part in told.split(', ')) for kind, told in rows} == {
        kind: {'margin' if key == 'clip' else key: f'{preset[key]:g}'
               for key in ('gamma_neg', 'gamma_pos', 'clip', 'alpha') if key in preset}
        for kind, preset in PRESETS['asl'].items()}


def anchors(page):
    """The places of a page that a link can name, as GitHub names them."""
    titles = re.findall(r'^#+ (.+)$', page.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


@pages
def test_links_lead_to_a_file_and_a_title_that_are_there(page):
    for link in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if link.startswith(('http://', 'https://')):
            continue
        path, _, title = unquote(link).partition('#')
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not title or title in anchors(target), link


def test_every_page_is_in_the_index_or_the_readme():
    linked = ''.join((ROOT / name).read_text() for name in ('README.md', 'docs/README.md'))
    for page in ROOT.glob('docs/*.md'):
        assert page.name in linked, page


@pages_and_configs
def test_files_that_a_page_names_are_there(page):
    text = page.read_text()
    assert page.suffix == '.md' or 'python tools/' not in text  # a wheel has the configs alone
    for name in re.findall(r'(?:tools|configs|tests|docs)/[\w./-]+\.(?:py|md|json|png)', text):
        assert (ROOT / name).exists() or (page.parent / name).exists(), name
    for name in {*re.findall(r'asl_det::([\w./-]+\.py)', text)} - {'folder/name.py'}:
        assert (ROOT / 'configs' / name).exists(), name


@pages_and_configs
def test_commands_and_their_options_are_there(page):
    text = page.read_text().replace('\\\n', ' ')
    for line in re.findall(r'(?:asl-det|-m asl_det) ([a-z][^\n`]*)', text):
        name = next((name for name in COMMANDS if re.match(rf'{name}(?![\w-])', line)), None)
        if name is None:
            assert re.match(r'data( |\.|,)|asl-det|:', line), line
            continue
        known = parser_of(name)._option_string_actions
        for option in re.findall(r'(?<=[ \[])--[a-z][\w-]*', line.partition('#')[0]):
            assert option in known, f'asl-det {name} {option}'


def entry(logits, positive, **parameters):
    """Loss of every logit with one label."""
    targets = torch.full_like(logits, float(positive))[:, None]
    return asymmetric_loss(logits[:, None], targets, **parameters)[:, 0]


def test_where_places_of_uncertain_labels_end():
    page = (ROOT / 'docs/missing_boxes.md').read_text()
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
