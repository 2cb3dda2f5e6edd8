"""One name for a type, however a config writes it."""

import mmdet.registry
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine.config import ConfigDict
from mmengine.config.lazy import LazyObject
from mmengine.registry import Registry

import asl_det.registered  # noqa: F401
from asl_det.registry import is_type, type_name


@pytest.mark.parametrize('kind', [
    'LoadImageFromFile', 'mmdet.LoadImageFromFile',
    'mmcv.transforms.loading.LoadImageFromFile', LoadImageFromFile,
    LazyObject('mmcv.transforms', 'LoadImageFromFile')])
def test_a_type_has_the_same_name_as_text_with_a_scope_a_dotted_path_and_as_a_class(kind):
    assert type_name(kind) == type_name(ConfigDict(type=kind)) == 'LoadImageFromFile'
    assert is_type(dict(type=kind), 'LoadImageFromFile', 'LoadFeatures')
    assert not is_type(dict(type=kind), 'LoadFeatures')


def test_what_has_no_type_has_no_name():
    assert type_name(dict(a=1)) == type_name(None) == ''


def test_no_registry_warns_that_this_package_is_not_installed(capsys):
    for registry in [r for r in vars(mmdet.registry).values() if isinstance(r, Registry)]:
        registry.children['asl_det'].import_from_location()
    said = capsys.readouterr()
    assert 'not installed' not in said.out + said.err
