"""Files that are whole at every moment."""

import os

import pytest

from asl_det.files import WholeFileBackend, write_whole


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
        monkeypatch.setattr('asl_det.files._sync_folder', fail)
    else:
        monkeypatch.setattr('asl_det.files.open', fail if call == 'open' else opened,
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
