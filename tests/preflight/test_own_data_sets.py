"""Data set classes of users, with signatures of their own."""

from pathlib import Path

import pytest
from coco_files import coco, write
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from PIL import Image

from asl_det.config.run_identity import data_of
from asl_det.preflight.annotations import check_annotations
from asl_det.preflight.few import with_few_images
from asl_det.preflight.finding import collect
from asl_det.preflight.run import Run
from asl_det.registry import DATASETS


class Lines(BaseDataset):
    METAINFO = dict(classes=('cat', 'dog'))

    def load_data_list(self):
        folder = Path(self.ann_file).parent
        return [dict(img_path=f'{folder / str(i)}.png', instances=[dict(bbox_label=int(line))])
                for i, line in enumerate(Path(self.ann_file).read_text().split())]


@DATASETS.register_module(force=True)
class OfRest(Lines):
    def __init__(self, ann_file, **more):
        super().__init__(ann_file=ann_file, lazy_init=False, **more)


@DATASETS.register_module(force=True)
class OfFileAlone(Lines):
    def __init__(self, ann_file):
        super().__init__(ann_file=ann_file)


@DATASETS.register_module(force=True)
class OwnPipeline(Lines):
    def __init__(self, ann_file, **more):
        super().__init__(ann_file=ann_file, pipeline=[], **more)


@DATASETS.register_module(force=True)
class OwnCoco(CocoDataset):
    METAINFO = dict(classes=('cat', 'dog'))

    def __init__(self, ann_file, data_prefix):
        super().__init__(ann_file=ann_file, data_prefix=data_prefix)


@DATASETS.register_module(force=True)
class OwnCocoReader(OwnCoco):
    def load_data_list(self):
        return super().load_data_list()


KINDS = ('OfRest', 'OfFileAlone', 'OwnPipeline', 'OwnCoco', 'OwnCocoReader')


@pytest.fixture
def data_set(tmp_path):
    for i in range(4):
        Image.new('RGB', (100, 80)).save(tmp_path / f'{i}.png')

    def make(kind, **more):
        path = str(tmp_path / 'labels')
        if 'Coco' in kind:
            write(tmp_path / 'labels', coco())
            more['data_prefix'] = dict(img=str(tmp_path))
        else:
            (tmp_path / 'labels').write_text('0 1')
        return dict(type=kind, ann_file=path, **more)
    return make


def run_of(node, purpose='labels'):
    return Run(Config(dict(train_dataloader=dict(dataset=node))), 'config.py', purpose)


def errors(run, check=check_annotations):
    return [str(f) for f in collect(check(run)).errors]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('scope', [{}, dict(_scope_='mmdet')], ids=['own', 'inherited'])
def test_a_class_of_users_is_read_whatever_options_it_takes(data_set, kind, scope):
    node = data_set(kind, **scope)
    run = run_of(node)
    assert errors(run) == []
    place = 'train_dataloader.dataset'
    for lazy in (True, False):
        assert run.load(place, node, lazy=lazy).metainfo['classes'] == ('cat', 'dog')
    assert len(with_few_images(run, place, node, {})) > 0


@pytest.mark.parametrize('kind', KINDS)
def test_the_images_of_a_class_of_users_are_part_of_an_identity(data_set, kind):
    content = dict(train_dataloader=dict(dataset=data_set(kind, _scope_='mmdet')))
    assert 'files of train_dataloader.dataset' in data_of(content, {})


def test_an_option_that_a_class_does_not_take_is_not_said_of_its_file(data_set):
    line, = errors(run_of(data_set('OfFileAlone', colour='red')))
    assert "can not be built (TypeError" in line and "'colour'" in line
    assert 'format' not in line
    node = data_set('OfFileAlone')
    Path(node['ann_file']).write_text('x')
    line, = errors(run_of(node))
    assert 'can not read' in line and 'check that the file has the format' in line
