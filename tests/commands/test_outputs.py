"""Every command that writes says before its work that it can not, and leaves no part of a file."""

import json
import os
import signal
import sys

import pytest
from command_line import run_command
from processes import python

from asl_det.data.digits import make_digits
from asl_det.errors import OutputError, UserError
from asl_det.files.whole import require_output, whole_file, write_whole

# Commands whose inputs are not there: what is said first is that nothing could be written.
FILES = {
    'data complete': ('no.json', '{}'), 'data hide-boxes': ('no.json', '{}', '--share', '0.5'),
    'data hold-out': ('no.json', '{}', 'held.json'), 'convert': ('no.pth', '{}'),
    'export': ('no.pth', '--out', '{}'), 'suggest': ('no.py', '--out', '{}'),
    'thresholds': ('no.npz', '--out', '{}'), 'check_heads': ('--out', '{}'),
    'benchmark_loss': ('--out', '{}')}
FOLDERS = {
    'data digits': ('{}',), 'data features': ('no.py', '{}'), 'plot-loss': ('--out', '{}'),
    'check': ('no.py', '--show', '{}'), 'infer': ('no.pth', 'no.jpg', '--out', '{}'),
    'sweep': ('no.py', '--losses', 'asl', '--work-dir', '{}')}
FIGURES = {'plot-training': ('no', '--out', '{}'), 'suggest': ('no.py', '--figure', '{}')}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder that stays as it is; commands find their parts in the repository."""
    (tmp_path / 'file').write_text('content')
    yield tmp_path
    assert sorted(p.name for p in tmp_path.iterdir()) == ['file']
    assert (tmp_path / 'file').read_text() == 'content'


@pytest.mark.parametrize('tool, arguments', [
    *FILES.items(), *FOLDERS.items(), *FIGURES.items()],
    ids=[*FILES, *FOLDERS, *(f'{name} figure' for name in FIGURES)])
def test_a_place_below_a_file_is_refused_before_the_work(here, monkeypatch, tool, arguments):
    place = here / 'file/below/x'
    said = run_command(tool, *(a.format(place) for a in arguments))
    assert f'{place}' in said and f'{here}/file is a file: expected a folder' in said
    assert said.startswith('error: ') and '\n' not in said


@pytest.mark.parametrize('tool', FILES)
def test_a_folder_in_the_place_of_a_file_is_refused_before_the_work(here, monkeypatch, tool):
    said = run_command(tool, *(a.format(here) for a in FILES[tool]))
    expected = 'exists: give a new file' if tool == 'data complete' else 'is a folder: expected'
    assert f'{here}' in said and expected in said and '\n' not in said


@pytest.mark.parametrize('tool', FOLDERS)
def test_a_file_in_the_place_of_a_folder_is_refused_before_the_work(here, monkeypatch, tool):
    said = run_command(tool, *(a.format(here / 'file') for a in FOLDERS[tool]))
    assert f'{here}/file is a file: expected a folder' in said and '\n' not in said


def test_places_that_can_not_be_written_are_told_apart(tmp_path, monkeypatch):
    (tmp_path / 'link').symlink_to(tmp_path / 'nothing')
    for path, says in (('', 'got nothing'), (tmp_path / ('n' * 252), 'the name is too long'),
                       (tmp_path / 'link/x', 'is a link to nothing'),
                       ('/proc/nothing/x', 'can not be written')):
        with pytest.raises(UserError, match=says):
            require_output(path, '--out')
    for path in (None, tmp_path / 'new/folder/x', '/dev/null'):
        require_output(path)
    assert [p.name for p in tmp_path.iterdir()] == ['link']

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('tempfile.TemporaryFile', full)
    with pytest.raises(UserError, match='No space left on device.*make room'):
        require_output(tmp_path / 'x')


def test_an_error_of_the_system_names_the_file_that_was_asked_for(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OutputError) as error:
        write_whole(tmp_path / 'x.json', 'text')
    assert isinstance(error.value, OSError) and isinstance(error.value, UserError)
    assert error.value.errno == 28
    assert str(error.value).startswith(
        f'{tmp_path}/x.json can not be written (No space left on device): make room')
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyError), whole_file(tmp_path / 'x.json') as file:
        file.write(b'part')
        raise KeyError('of the content')
    assert not list(tmp_path.iterdir())


LIMITED = '''
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
from asl_det.commands.main import main
main()
'''


@pytest.mark.skipif(sys.platform != 'linux', reason='limits of Linux')
@pytest.mark.parametrize('tool', ['data digits', 'data hide-boxes', 'plot-loss'])
def test_a_disk_that_fills_up_is_one_line_and_leaves_no_part(tmp_path, tool):
    source, out = tmp_path / 'source.json', tmp_path / 'out'
    source.write_text(json.dumps(dict(images=[dict(id=i) for i in range(100)], annotations=[])))
    arguments = {'data digits': (out, '--num-train', 2, '--num-val', 2),
                 'data hide-boxes': (source, out / 'x.json', '--share', 0.1),
                 'plot-loss': ('--out', out)}[tool]
    result = python('-c', LIMITED, *tool.split(), *arguments)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f'error: {out}/') and 'can not be written (File too large)' in last
    assert 'Traceback' not in result.stderr
    assert not [p for p in out.rglob('*.png*')] + [p for p in out.rglob('x.json*')]


def test_digits_go_on_after_a_full_disk(tmp_path, monkeypatch):
    written = []

    def full(path, *args):
        if str(path).endswith('.png.partial'):
            written.append(path)
            if len(written) > 2:
                raise OSError(28, 'No space left on device')
        return open(path, *args)  # noqa: SIM115

    monkeypatch.setattr('asl_det.files.whole.open', full, raising=False)
    settings = dict(num_train=6, num_val=2, size=64, digit_size=(20, 32))
    with pytest.raises(UserError, match=r'\.png can not be written \(No space left on device\)'):
        make_digits(tmp_path, **settings)
    monkeypatch.undo()
    assert make_digits(tmp_path, **settings) and len(list(tmp_path.glob('train/*'))) == 6


def test_a_reader_that_has_enough_ends_a_command_without_a_traceback(tmp_path):
    result = python('-c', """
import os, sys
from asl_det.commands.command_line import one_line_errors
read, write = os.pipe()
os.close(read)
sys.stdout = os.fdopen(write, 'w')
one_line_errors(lambda: [print('line' * 1000) for _ in range(100)])()
""")
    assert result.returncode == 128 + signal.SIGPIPE and 'Traceback' not in result.stderr
    assert 'BrokenPipe' not in result.stderr
