"""What a checkpoint may hold, and what it must not get done."""

import argparse
import codecs
import copyreg
import datetime as dt
import functools
import io
import os
import pathlib
import pickle
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler import OneCycleLR

from asl_det.compat import UnsafeCheckpointError
from asl_det.compat.checkpoint import load_from_local
from asl_det.errors import UserError

FORMATS = [dict(), dict(pickle_protocol=4), dict(pickle_protocol=5),
           dict(_use_new_zipfile_serialization=False)]


def reload(folder, value, **how):
    torch.save(value, folder / 'file.pth', **how)
    return load_from_local(str(folder / 'file.pth'), 'cpu')


def write_pickle(path, data):
    """A checkpoint with a storage of six bytes, whose pickle is written by hand."""
    torch.save(torch.zeros(6, dtype=torch.uint8), path)
    with zipfile.ZipFile(path) as good:
        records = {info.filename: good.read(info) for info in good.infolist()}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as bad:
        for name, record in records.items():
            bad.writestr(name, data if name.endswith('data.pkl') else record)
    return str(path)


def with_metadata():
    state = OrderedDict(weight=torch.ones(2))
    state._metadata = OrderedDict({'': dict(version=1)})
    return state


def with_attribute(tensor):
    tensor.lr_mult = 0.1
    return tensor


PLAIN = dict(
    nested_config=ConfigDict(classes=('a',), deep=[ConfigDict(a=1, b=dict(c=ConfigDict()))]),
    names_from_numpy=tuple(np.array(['cat', 'traffic light'])),
    empty_name=np.str_(''),
    bytes_from_numpy=np.bytes_(b'ab'),
    truth=np.bool_(True),
    number=np.float16(0.5),
    complex_number=np.complex64(1j),
    day_from_numpy=np.datetime64('2026-11-24'),
    factory=defaultdict(list, a=[1]),
    deep_factory=defaultdict(dict, a=defaultdict(int, b=1)),
    no_factory=defaultdict(None, a=1),
    moment=dt.datetime(2026, 11, 24, 5, 6, 7, 8),
    zoned=dt.datetime(2026, 11, 24, tzinfo=dt.timezone(dt.timedelta(hours=2), 'x')),
    utc=dt.datetime(2026, 11, 24, tzinfo=dt.timezone.utc),
    day=dt.date(2026, 2, 28),
    clock=dt.time(23, 59, 59, 999999, dt.timezone.utc),
    duration=dt.timedelta(-1, 2, 3),
    path=pathlib.Path('work_dirs') / 'run',
    pure_path=pathlib.PurePosixPath('/a/b'),
    windows_path=pathlib.PureWindowsPath('C:/a'),
    args=argparse.Namespace(lr=0.1, output_dir=pathlib.Path('x'), nested=argparse.Namespace(a=1)),
    simple=SimpleNamespace(a=1),
    queue=deque([1, 2], maxlen=3),
    counter=Counter(dict(a=2)),
    milestones=OrderedDict(a=1),
    sets=[{1, 2}, frozenset({3}), set(), frozenset()],
    raw=[b'', b'\xff\x00', bytearray(b'ab'), bytearray()],
    numbers=[10 ** 30, -1, 2.5, 1j, True, None, range(3), slice(1, None, 2)],
    size=torch.Size([1, 2]),
    kinds=[torch.float32, torch.bfloat16, torch.int64, torch.strided, torch.device('cpu')],
    version=torch.__version__,
    text='ß',
)
ARRAYS = dict(
    strings=np.array(['a', 'bcd']),
    bytestrings=np.array([b'a', b'bcd']),
    numbers=np.arange(6.0).reshape(2, 3),
    columns=np.asfortranarray(np.arange(6).reshape(2, 3)),
    strided=np.arange(12).reshape(3, 4)[::2, ::2],
    big_endian=np.arange(3, dtype='>i4'),
    scalar=np.array(1.5, dtype=np.float16),
    truths=np.array([True, False]),
    empty=np.zeros((0, 4), np.uint8),
    days=np.array(['2026-11-24'], dtype='datetime64[D]'),
    durations=np.array([3], dtype='timedelta64[25s]'),
    records=np.array([(1, 'ab', [1, 2])], dtype=[('a', 'i4'), ('b', 'U3'), ('c', 'f8', (2,))]),
    aligned=np.zeros(2, np.dtype([('a', 'i1'), ('b', 'f8')], align=True)),
)
TENSORS = dict(
    bfloat16=torch.arange(3.0).bfloat16(),
    complex_numbers=torch.tensor([1j]),
    conjugate=torch.tensor([1j, 2]).conj(),
    view=torch.arange(6).reshape(2, 3).t(),
    parameter=torch.nn.Parameter(torch.ones(2)),
    marked_parameter=with_attribute(torch.nn.Parameter(torch.ones(2), requires_grad=False)),
    marked_tensor=with_attribute(torch.ones(2)),
    sparse=torch.eye(3).to_sparse(),
    quantized=torch.quantize_per_tensor(torch.arange(4.0), 0.5, 1, torch.quint8),
    meta=torch.empty(2, 3, device='meta'),
)


@pytest.mark.parametrize('how', FORMATS, ids=str)
@pytest.mark.parametrize('value', PLAIN.values(), ids=PLAIN.keys())
def test_what_is_data_comes_back_with_its_type(tmp_path, value, how):
    loaded = reload(tmp_path, value, **how)
    assert type(loaded) is type(value)
    assert repr(loaded) == repr(value) and loaded == value
    if isinstance(value, (list, tuple)):
        assert list(map(type, loaded)) == list(map(type, value))


@pytest.mark.parametrize('how', FORMATS, ids=str)
@pytest.mark.parametrize('value', ARRAYS.values(), ids=ARRAYS.keys())
def test_arrays_without_objects_come_back(tmp_path, value, how):
    shared = reload(tmp_path, [value, value, value.dtype], **how)
    loaded = shared[0]
    assert type(loaded) is np.ndarray and loaded is shared[1]
    by_numpy = pickle.loads(pickle.dumps(value, how.get('pickle_protocol', 2)))
    assert loaded.dtype == by_numpy.dtype and shared[2] == value.dtype
    assert loaded.dtype.byteorder == by_numpy.dtype.byteorder
    assert loaded.shape == value.shape and loaded.flags.f_contiguous == value.flags.f_contiguous
    np.testing.assert_array_equal(loaded, value)


@pytest.mark.parametrize('how', FORMATS, ids=str)
@pytest.mark.parametrize('value', TENSORS.values(), ids=TENSORS.keys())
def test_tensors_of_all_kinds_come_back(tmp_path, value, how):
    loaded = reload(tmp_path, value, **how)
    assert type(loaded) is type(value) and loaded.dtype == value.dtype
    assert loaded.shape == value.shape and loaded.requires_grad == value.requires_grad
    assert getattr(loaded, 'lr_mult', None) == getattr(value, 'lr_mult', None)
    if not value.is_meta:
        assert torch.equal(loaded.to_dense() if value.is_sparse else loaded,
                           value.to_dense() if value.is_sparse else value)


@pytest.mark.parametrize('how', FORMATS, ids=str)
def test_state_dicts_keep_their_metadata_and_shared_storages(tmp_path, how):
    state = with_metadata()
    state['tied'] = state['weight']
    loaded = reload(tmp_path, dict(state_dict=state), **how)['state_dict']
    assert loaded._metadata == state._metadata
    loaded['tied'][0] = 5
    assert loaded['weight'][0] == 5


@pytest.mark.parametrize('how', FORMATS, ids=str)
def test_log_buffers_and_schedules_come_back(tmp_path, how):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    schedule = OneCycleLR(optimizer, eta_max=1.0, total_steps=10)
    history = HistoryBuffer([1.0, 3.0], [1, 1])
    loaded = reload(tmp_path, [schedule.state_dict(), history], **how)
    assert loaded[0]['anneal_func'] is type(schedule)._annealing_cos
    assert loaded[1].statistics('mean') == 2.0 and loaded[1].max_length == history.max_length


def test_a_statistic_that_the_process_has_registered_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(HistoryBuffer, '_statistics_methods', {})
    HistoryBuffer.register_statistics(first)
    assert reload(tmp_path, HistoryBuffer([1.0, 3.0], [1, 1])).statistics('first') == 1.0
    del HistoryBuffer._statistics_methods['first']
    with pytest.raises(UnsafeCheckpointError, match=f'{__name__}.first'):
        load_from_local(str(tmp_path / 'file.pth'))


def first(buffer):
    return buffer.data[0][0]


@pytest.mark.skipif(os.name == 'nt', reason='the other way around there')
def test_a_path_of_another_system_comes_back_as_a_pure_path(tmp_path):
    path = write_pickle(tmp_path / 'x.pth',
                        b'\x80\x02cpathlib\nWindowsPath\nX\x04\x00\x00\x00C:\\a\x85R.')
    assert load_from_local(path) == pathlib.PureWindowsPath('C:/a')


def test_config_dicts_of_mmcv_1_and_yacs_come_back(tmp_path):
    # addict's and yacs' own way of pickling: an empty instance, its items, and a state
    for name in (b'mmcv.utils.config\nConfigDict', b'addict.addict\nDict', b'yacs.config\nCfgNode'):
        path = write_pickle(tmp_path / 'x.pth', b'\x80\x02c' + name + b'\n)\x81q\x00'
                            b'X\x01\x00\x00\x00aK\x01s}X\x0d\x00\x00\x00__immutable__\x89sb.')
        assert load_from_local(path) == dict(a=1)


def test_paths_of_python_3_13_come_back(tmp_path):
    path = write_pickle(tmp_path / 'x.pth',
                        b'\x80\x02cpathlib._local\nPurePosixPath\nX\x01\x00\x00\x00a\x85R.')
    assert load_from_local(path) == pathlib.PurePosixPath('a')


@pytest.mark.skipif(not hasattr(torch.serialization, 'safe_globals'), reason='since torch 2.5')
def test_what_the_user_has_declared_safe_for_torch_comes_back(tmp_path):
    torch.save(Mine(3), tmp_path / 'x.pth')
    with torch.serialization.safe_globals([Mine]):
        assert load_from_local(str(tmp_path / 'x.pth')).value == 3
    with pytest.raises(UnsafeCheckpointError, match=r'x\.pth.*test_unpickler\.Mine'):
        load_from_local(str(tmp_path / 'x.pth'))


class Mine:

    def __init__(self, value):
        self.value = value


class Call:
    """Pickles as a call of a function, and a state for what it returns."""

    def __init__(self, function, *args, state=None):
        self.made = (function, args, state)

    def __reduce__(self):
        return self.made


PROOF = '/nonexistent/made-by-a-checkpoint'
ATTACKS = dict(
    mkdir=(Call(os.mkdir, PROOF), 'posix.mkdir'),
    evaluates=(Call(eval, '1'), 'builtins.eval'),
    partial=(functools.partial(os.mkdir, PROOF), 'functools.partial'),
    hidden_import=(Call(codecs.lookup, 'x'), 'codecs'),
    other_codec=(Call(codecs.encode, 'x', 'rot13'), '_codecs.encode'),
    reconstructor=(Call(copyreg._reconstructor, HistoryBuffer, object, None),
                   'copyreg._reconstructor'),
    any_method=(Call(getattr, HistoryBuffer, '__init__'), "getattr.*HistoryBuffer.*__init__"),
    method_of_a_value=(Call(getattr, pathlib.Path('x'), 'unlink'), 'getattr.*unlink'),
    call_of_a_method=(Call(HistoryBuffer.mean, HistoryBuffer()), 'HistoryBuffer.mean'),
    hub=(Call(torch.hub.load, 'a/b', 'c'), 'torch.hub.load'),
    whole_module=(torch.nn.Linear(1, 1), 'torch.nn.modules.linear.Linear'),
    object_array=(np.array([1, None], dtype=object), r"numpy\.dtype.*'O"),
    objects_in_records=(np.zeros(1, [('a', 'O')]), r"numpy\.dtype.*'O"),
    matrix=(np.asmatrix(np.eye(2)), 'numpy.*matrix'),
    factory_that_rebuilds=(defaultdict(torch._utils._rebuild_tensor_v2),
                           'defaultdict.*_rebuild_tensor_v2'),
    factory_of_namespaces=(defaultdict(argparse.Namespace), 'defaultdict.*argparse.Namespace'),
    shadowed_method=(Call(argparse.Namespace, state={'__eq__': 1}), 'Namespace.*__eq__'),
    shadowed_items=(Call(OrderedDict, state={'items': 1}), 'OrderedDict.*items'),
    shadowed_tensor=(Call(torch._utils._rebuild_parameter_with_state, torch.ones(1), False,
                          OrderedDict(), {'detach': 1}), 'Parameter.*detach'),
    layout=(Call(torch.serialization._get_layout, 'torch.float32'), 'dtype where.*layout'),
    state_of_a_tensor=(Call(torch._tensor._rebuild_from_type_v2, dict, torch.Tensor, (), {}),
                       '_rebuild_from_type_v2.*dict'),
    zone_of_another_class=(Call(dt.datetime, b'\x07\xea\x01\x01\0\0\0\0\0\0', 'x'),
                           'time zone.*builtins.str'),
    file_like_path=(Call(pathlib.PurePosixPath, SimpleNamespace(__fspath__=list)),
                    'pathlib.PurePosixPath'),
)


@pytest.mark.parametrize('how', FORMATS, ids=str)
@pytest.mark.parametrize('attack', ATTACKS.values(), ids=ATTACKS.keys())
def test_what_could_run_code_is_refused_by_name(tmp_path, attack, how):
    value, name = attack
    torch.save(dict(meta=[value]), tmp_path / 'x.pth', **how)
    with pytest.raises(UnsafeCheckpointError, match=name) as error:
        load_from_local(str(tmp_path / 'x.pth'))
    assert str(tmp_path / 'x.pth') in str(error.value) and '\n' not in str(error.value)


S = b'X\x01\x00\x00\x00a'  # the text 'a'
F8 = b'cnumpy\ndtype\nX\x02\x00\x00\x00f8\x89\x88\x87R'
HAND_MADE = dict(
    # (None, {'a': 'a'}) as the state of a class sets an attribute of it for the whole process
    state_of_a_class=(b'cmmengine.logging.history_buffer\nHistoryBuffer\nN}' + S + S + b's\x86b.',
                      'HistoryBuffer'),
    state_of_a_plain_class=(b'c__builtin__\nlist\nN}' + S + S + b's\x86b.', 'list'),
    state_of_a_function=(b'ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\x00\x00\x00__defaults__)'
                         b's\x86b.', '_rebuild_tensor_v2'),
    old_instance=(b'(i__builtin__\nset\n.', 'INST'),
    old_object=(b'(c__builtin__\nset\no.', 'OBJ'),
    extension=(b'\x82\x01.', 'EXT1'),
    module_as_storage=(b'\x80\x02X\x06\x00\x00\x00moduleNNN\x87\x86Q.', 'module'),
    items_of_a_stranger=(b'\x80\x02cargparse\nNamespace\n)\x81' + S + S + b's.', 'Namespace'),
    append_to_a_stranger=(b'\x80\x02cargparse\nNamespace\n)\x81' + S + b'a.', 'Namespace'),
    extend_a_stranger=(b'\x80\x02cargparse\nNamespace\n)\x81(' + S + b'e.', 'Namespace'),
    add_to_a_stranger=(b'\x80\x04cargparse\nNamespace\n)\x81(' + S + b'\x90.', 'Namespace'),
    keywords=(b'\x80\x04cargparse\nNamespace\n)}' + S + S + b's\x92.', 'Namespace'),
    name_of_two_lines=(b'\x80\x04X\x03\x00\x00\x00a\nbX\x01\x00\x00\x00c\x93.', r'a\?b\.c'),
    dotted=(b'\x80\x04X\x19\x00\x00\x00mmengine.logging.messagehX\x06\x00\x00\x00a.b.os\x93.',
            r'mmengine\.logging\.messageh\.a\.b\.os'),
)


@pytest.mark.parametrize('data,name', HAND_MADE.values(), ids=HAND_MADE.keys())
def test_no_opcode_reaches_past_the_allow_list(tmp_path, data, name):
    before = dict(vars(HistoryBuffer))
    path = write_pickle(tmp_path / 'x.pth', data)
    with pytest.raises(UnsafeCheckpointError, match=rf'x\.pth.*{name}') as error:
        load_from_local(path)
    assert '\n' not in str(error.value)
    assert dict(vars(HistoryBuffer)) == before


DAMAGED = dict(
    truncated=b'\x80\x02]q',
    unknown_opcode=b'\xff.',
    empty_stack=b'R.',
    unhashable_key=b'}]K\x01s.',
    month_13=b'\x80\x05cdatetime\ndate\nC\x04\x07\xea\x0d\x01\x85R.',
    hour_31=b'\x80\x05cdatetime\ntime\nC\x06\x1f\x00\x00\x00\x00\x00\x85R.',
    short_array=b'\x80\x05cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85'
                b'C\x01b\x87R(K\x01M\x00\x01\x85' + F8 + b'(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff'
                b'\xffJ\xff\xff\xff\xffK\x00tb\x89C\x08\0\0\0\0\0\0\0\0tb.',
    no_character=b'\x80\x05cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00U1'
                 b'\x89\x88\x87RC\x04\xff\xff\xff\xff\x86R.',
    storage_without_type=b'\x80\x02(X\x07\x00\x00\x00storageNX\x01\x00\x00\x000X\x03\x00\x00\x00'
                         b'cpuK\x01tQ.',
    short_storage=b'\x80\x02X\x07\x00\x00\x00storageNN\x87Q.',
    larger_than_its_storage=b'\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage'
                            b'ctorch\nByteStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu'
                            b'K\x06tQK\x00K\x07\x85K\x01\x85\x89)tR.',
    short_number=b'\x80\x05cnumpy.core.multiarray\nscalar\n' + F8 + b'C\x02\0\0\x86R.',
)


@pytest.mark.parametrize('data', DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_pickle_is_named_as_such(tmp_path, data):
    path = write_pickle(tmp_path / 'cut.pth', data)
    with pytest.raises(UserError, match='cut.pth can not be read: it is damaged') as error:
        load_from_local(path)
    assert not isinstance(error.value, UnsafeCheckpointError) and '\n' not in str(error.value)


LONG = 10 ** 7  # with what follows it, more than a small file may become
NESTED = functools.reduce(lambda inner, _: [inner, inner], range(24), 'a')
NOTHINGS = [None] * 9999
REPEATED = torch.zeros(1).expand(LONG)
INDICES = torch.zeros(1, 1, dtype=torch.long)
LARGE = dict(
    bytes=(Call(bytes, 10 ** 11), 'builtins.bytes with builtins.int'),
    bytearray=(Call(bytearray, 10 ** 11), 'bytearray with builtins.int'),
    list_of_a_range=(Call(list, range(LONG)), 'list with builtins.range'),
    set_of_a_range=(Call(set, range(LONG)), 'set with builtins.range'),
    queue_of_a_range=(Call(deque, range(LONG)), 'list with builtins.range'),
    size_of_a_range=(Call(torch.Size, range(LONG)), 'tuple with builtins.range'),
    list_of_a_tensor=(Call(list, REPEATED), 'list with torch.Tensor'),
    text_of_nested_lists=(Call(str, NESTED), 'str with builtins.list'),
    copies=([Call(tuple, NOTHINGS) for _ in range(999)], 'copy far more'),
    paths=(Call(pathlib.PurePosixPath, *['a' * 9999] * 999), 'copy far more'),
    sparse=(Call(torch._utils._rebuild_sparse_tensor, torch.sparse_coo, (
        INDICES.expand(1, LONG), REPEATED, torch.Size([1]), True)), 'small one repeated'),
    on_a_device=(Call(torch._utils._rebuild_device_tensor_from_cpu_tensor, REPEATED,
                      torch.float64, 'cpu', False), 'small one repeated'),
)


@pytest.mark.parametrize('how', FORMATS, ids=str)
@pytest.mark.parametrize('attack', LARGE.values(), ids=LARGE.keys())
def test_a_small_file_can_not_fill_the_memory(tmp_path, attack, how):
    value, says = attack
    torch.save(dict(meta=value), tmp_path / 'x.pth', **how)
    assert (tmp_path / 'x.pth').stat().st_size < 200_000
    with pytest.raises(UnsafeCheckpointError, match=f'x.pth is refused.*fill the memory.*{says}'):
        load_from_local(str(tmp_path / 'x.pth'))


QUANTIZED = (b'\x80\x02ctorch._utils\n_rebuild_qtensor\n((X\x07\x00\x00\x00storagectorch\n'
             b'QUInt8Storage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQK\x00\x8a\x06\0\0\0\0\0\x01'
             b'\x85K\x01\x85ctorch\nper_tensor_affine\nG?\xe0\0\0\0\0\0\0K\x01\x87\x89)tR.')
COUNTS = dict(
    bytes=b'\x80\x05\x8e' + (10 ** 11).to_bytes(8, 'little') + b'a.',
    text=b'\x80\x05\x8d' + (10 ** 11).to_bytes(8, 'little') + b'a.',
    bytearray=b'\x80\x05\x96' + (10 ** 11).to_bytes(8, 'little') + b'a.',
    frame=b'\x80\x05\x95' + (10 ** 11).to_bytes(8, 'little') + b'N.',
)


@pytest.mark.parametrize('data', COUNTS.values(), ids=COUNTS.keys())
def test_what_says_to_be_larger_than_its_file_is_damaged(tmp_path, data):
    legacy = tmp_path / 'legacy.pth'
    torch.save(None, legacy, _use_new_zipfile_serialization=False)
    legacy.write_bytes(legacy.read_bytes().partition(b'\x80\x02N.')[0] + data)
    for path in (write_pickle(tmp_path / 'x.pth', data), str(legacy)):
        with pytest.raises(UserError, match='can not be read: it is damaged'):
            load_from_local(path)


def test_a_quantized_tensor_is_not_made_larger_than_its_storage(tmp_path):
    with pytest.raises(UserError, match='can not be read: it is damaged'):
        load_from_local(write_pickle(tmp_path / 'x.pth', QUANTIZED))


def test_a_storage_of_the_old_format_is_not_made_larger_than_its_file(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save(torch.zeros(200, dtype=torch.uint8), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'K\xc8', b'\x8a\x06\0\0\0\0\0\x01'))
    assert path.read_bytes() != content
    with pytest.raises(UserError, match='can not be read: it is damaged'):
        load_from_local(str(path))


def test_an_archive_that_unpacks_to_far_more_is_refused_and_a_packed_one_read(tmp_path):
    for value, packed in ((torch.zeros(10 ** 7), 'refused'), (torch.rand(100, 100), 'read')):
        torch.save(value, tmp_path / 'x.pth')
        with zipfile.ZipFile(tmp_path / 'x.pth') as good:
            records = {name: good.read(name) for name in good.namelist()}
        with zipfile.ZipFile(tmp_path / 'y.pth', 'w', zipfile.ZIP_DEFLATED) as other:
            for name, record in records.items():
                other.writestr(name, record)
        if packed == 'read':
            assert torch.equal(load_from_local(str(tmp_path / 'y.pth')), value)
        else:
            with pytest.raises(UnsafeCheckpointError, match=r'its \d+ bytes unpack to 4\d{7}'):
                load_from_local(str(tmp_path / 'y.pth'))


def test_a_large_checkpoint_of_many_small_things_loads(tmp_path):
    value = dict(texts=[f'{i}' for i in range(20_000)], sizes=[torch.Size([i]) for i in range(999)],
                 arrays=[np.arange(i) for i in range(99)], sets=[{i, 0} for i in range(999)],
                 raw=[bytes(range(i)) for i in range(200)])
    for how in FORMATS:
        assert repr(reload(tmp_path, value, **how)) == repr(value)


def test_a_type_of_numpy_can_not_be_changed_after_its_use(tmp_path):
    # numpy's own unpickling changes it in place: an array of 1 byte an entry becomes one of 255
    make = b'\x80\x05cnumpy\ndtype\nX\x02\x00\x00\x00S1\x89\x88\x87Rq\x00'
    array = (b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R'
             b'(K\x01K\x02\x85h\x00\x89C\x02abtbq\x01')
    change = b'h\x00(K\x03X\x01\x00\x00\x00|NNNK\xffK\x01K\x00tb0h\x01.'
    loaded = load_from_local(write_pickle(tmp_path / 'x.pth', make + b'0' + array + b'0' + change))
    assert loaded.dtype.itemsize == 1 and loaded.tolist() == [b'a', b'b']


def test_loading_a_log_buffer_leaves_the_statistics_of_the_process_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(HistoryBuffer, '_statistics_methods', {})
    buffer = HistoryBuffer([1.0], [1])
    HistoryBuffer._statistics_methods['mean'] = HistoryBuffer.max
    torch.save(buffer, tmp_path / 'x.pth')
    HistoryBuffer._statistics_methods['mean'] = HistoryBuffer.mean
    load_from_local(str(tmp_path / 'x.pth'))
    assert HistoryBuffer._statistics_methods['mean'] is HistoryBuffer.mean


def test_malformed_sparse_tensors_are_found(tmp_path):
    bad = torch.sparse_coo_tensor(torch.tensor([[0]]), torch.ones(1), (1,))
    buffer = io.BytesIO()
    torch.save(bad, buffer)
    with zipfile.ZipFile(buffer) as archive:
        name = next(n for n in archive.namelist() if n.endswith('data/0'))
        records = {n: archive.read(n) for n in archive.namelist()}
    records[name] = (99).to_bytes(8, 'little')
    with zipfile.ZipFile(tmp_path / 'x.pth', 'w') as archive:
        for record, data in records.items():
            archive.writestr(record, data)
    with pytest.raises(RuntimeError, match='size is inconsistent with indices'):
        load_from_local(str(tmp_path / 'x.pth'))
