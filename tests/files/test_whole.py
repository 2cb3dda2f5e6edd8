"""Files that are whole at every moment."""

import os

import pytest

from asl_det.errors import OutputError
from asl_det.files.whole import WholeFileBackend, whole_file, write_whole


class Killed(BaseException):
    pass


@pytest.mark.parametrize('error', [Killed, OSError(28, 'No space left on device')])
@pytest.mark.parametrize('call', ['open', 'write', 'fsync', 'replace', 'sync_folder'])
@pytest.mark.parametrize('before', [None, b'old'])
def test_a_file_is_old_or_new_whichever_call_fails(tmp_path, monkeypatch, call, before, error):
    path = tmp_path / 'file'
    if before:
        path.write_bytes(before)

    def fail(*args, **kwargs):
        raise error

    def opened(path, mode):
        file = open(path, mode)  # noqa: SIM115  closed by its user
        if call == 'write':
            file.write(b'n')
            file.flush()
            fail()
        return file

    if call in ('fsync', 'replace'):
        monkeypatch.setattr(os, call, fail)
    elif call == 'sync_folder':
        monkeypatch.setattr('asl_det.files.whole._sync_folder', fail)
    else:
        monkeypatch.setattr('asl_det.files.whole.open', fail if call == 'open' else opened,
                            raising=False)
    with pytest.raises(type(error) if isinstance(error, OSError) else error):
        write_whole(path, b'new')
    monkeypatch.undo()
    expected = b'new' if call == 'sync_folder' else before
    assert (path.read_bytes() if path.exists() else None) == expected
    if isinstance(error, OSError) and call != 'sync_folder':
        assert [p for p in tmp_path.iterdir() if p != path] == []
    write_whole(path, 'text')
    assert path.read_text() == 'text' and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('at', ['file', 'folder', 'relative', 'dangling'])
def test_a_link_stays_a_link_and_its_target_is_written(tmp_path, at):
    target, link = tmp_path / 'store/file', tmp_path / 'runs/file'
    target.parent.mkdir()
    if at == 'folder':
        link.parent.symlink_to(target.parent)
    else:
        link.parent.mkdir()
        link.symlink_to('../store/file' if at == 'relative' else target)
    if at != 'dangling':
        target.write_bytes(b'old')
    write_whole(link, b'new')
    assert target.read_bytes() == b'new' and list(target.parent.iterdir()) == [target]
    assert (link.parent if at == 'folder' else link).is_symlink()


def test_the_mode_of_a_file_stays(tmp_path):
    path = tmp_path / 'secret'
    path.write_bytes(b'old')
    path.chmod(0o600)
    write_whole(path, b'new')
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_no_regular_file_is_written_and_not_replaced(tmp_path):
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, 'text')
    assert os.read(reader, 9) == b'text' and pipe.is_fifo()
    os.close(reader)
    with pytest.raises(OutputError):
        write_whole(tmp_path, b'x')


def test_an_error_while_a_file_is_made_leaves_the_old_one(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'old')
    with pytest.raises(ZeroDivisionError), whole_file(path) as file:
        file.write(bytes(1 // 0))
    assert path.read_bytes() == b'old' and list(tmp_path.iterdir()) == [path]


def test_the_content_reaches_the_disk_before_the_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, 'fsync', lambda *args: order.append('fsync') or fsync(*args))
    monkeypatch.setattr(os, 'replace', lambda *args: order.append('replace') or replace(*args))
    write_whole(tmp_path / 'new folder/file', b'x')
    assert order == ['fsync', 'replace', 'fsync']  # content, name, folder


def test_the_storage_of_mmengine_writes_whole_files(tmp_path, monkeypatch):
    backend = WholeFileBackend()
    backend.put(b'old', tmp_path / 'a')
    backend.put_text('old', tmp_path / 'b')
    monkeypatch.setattr(os, 'replace', lambda *a: (_ for _ in ()).throw(OSError))
    for put, name, value in ((backend.put, 'a', b'new'), (backend.put_text, 'b', 'new')):
        with pytest.raises(OSError):
            put(value, tmp_path / name)
        assert backend.get(tmp_path / name) == b'old'
