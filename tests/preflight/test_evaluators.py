"""Metrics that judge other images, or under other names, than their loader yields."""

import numpy as np
import pytest
from coco_files import coco, write
from mmengine.config import Config

from asl_det.preflight.annotations import check_annotations
from asl_det.preflight.checks import CHECKS, preflight
from asl_det.preflight.evaluators import check_evaluators
from asl_det.preflight.finding import collect
from asl_det.preflight.run import Run
from asl_det.preflight.settings import check_saved


def numbered(start, names=('cat', 'dog'), folder=''):
    """Three images whose ids begin at ``start``, of files that are called by them."""
    content = coco(names=names)
    for image in content['images']:
        image.update(id=image['id'] + start, file_name=f'{folder}{image["id"] + start}.png')
    for thing in content['annotations']:
        thing.update(id=thing['id'] + 100 * start, image_id=thing['image_id'] + start)
    return content


def merged(*contents):
    return dict(contents[0], images=[i for c in contents for i in c['images']],
                annotations=[a for c in contents for a in c['annotations']])


@pytest.fixture
def root(tmp_path):
    first, second = numbered(0), numbered(10)
    for name, content in dict(train=numbered(20), a=first, b=second, c=numbered(0, folder='c'),
                              all=merged(first, second)).items():
        write(tmp_path / f'{name}.json', content)
    return tmp_path


def config(root, files, evaluator, **more):
    """A validation over the data sets of some files, concatenated if there are several."""
    def dataset(file, **more):
        return dict(type='CocoDataset', data_root=str(root), ann_file=f'{file}.json',
                    test_mode=True, data_prefix=dict(img=''), pipeline=[],
                    metainfo=dict(classes=('cat', 'dog'))) | more
    sets = [dataset(f) if isinstance(f, str) else dataset(**f) for f in files]
    return Config(dict(
        train_dataloader=dict(dataset=dataset('train')),
        val_dataloader=dict(dataset=sets[0] if len(sets) == 1 else dict(
            type='ConcatDataset', datasets=sets), **more), val_evaluator=evaluator))


def metric(root, file, **more):
    return dict(type='CocoMetric', ann_file=f'{root}/{file}.json', **more)


def several(*metrics, names=('a', 'b')):
    return dict(type='MultiDatasetsEvaluator', metrics=list(metrics), dataset_prefixes=list(names))


def said(cfg, error=True):
    report = collect(check_evaluators(Run(cfg, 'config.py', 'train')))
    return [str(f) for f in (report.errors if error else report.warnings)]


RIGHT = {
    'its own file': (['a'], lambda r: metric(r, 'a')),
    'a list of one': (['a'], lambda r: [metric(r, 'a')]),
    'boxes and masks': (['a'], lambda r: [metric(r, 'a'), metric(r, 'a', metric='segm')]),
    'two prefixes': (['a'], lambda r: [metric(r, 'a'), metric(r, 'a', prefix='x')]),
    'the merged json': (['a', 'b'], lambda r: metric(r, 'all')),
    'one of each': (['a', 'b'], lambda r: several(metric(r, 'a'), metric(r, 'b'))),
    'one of each, ids alike': (['a', 'c'], lambda r: several(metric(r, 'a'), metric(r, 'c'))),
    'without a file': (['a', 'b'], lambda r: dict(type='CocoMetric')),
    'another metric': (['a', 'c'], lambda r: dict(type='VOCMetric')),
}


@pytest.mark.parametrize('files, evaluator', RIGHT.values(), ids=RIGHT)
def test_right_evaluators_are_not_refused(root, files, evaluator):
    cfg = config(root, files, evaluator(root))
    assert said(cfg) == said(cfg, error=False) == []


WRONG = {
    'the file of the training': (['a'], lambda r: metric(r, 'train'),
                                 'train.json is not the file of the data set'),
    'images of another file': (['c'], lambda r: metric(r, 'all'), 'image 1 is'),
    'one of two': (['a', 'b'], lambda r: metric(r, 'a'), 'a.json has no image 11'),
    'a list over one loader': (['a', 'b'], lambda r: [metric(r, 'a', prefix='a'),
                                                      metric(r, 'b', prefix='b')],
                               'MultiDatasetsEvaluator'),
    'a list, ids alike': (['a', 'c'], lambda r: [metric(r, 'a', prefix='a'),
                                                 metric(r, 'c', prefix='c')],
                          'image id 1 is that of'),
    'ids alike without a file': (['a', 'c'], lambda r: dict(type='CocoMetric'),
                                 'the metric would take them for one image'),
    'two of one name': (['a'], lambda r: [metric(r, 'a'), metric(r, 'a')],
                        'val_evaluator.1: CocoMetric reports under the names of val_evaluator.0'),
    'two of one name, by class': (['a'], lambda r: [
        metric(r, 'a', classwise=True), metric(r, 'a', metric='segm', classwise=True)],
        'give each a prefix of its own'),
    'several without a ConcatDataset': (['a'], lambda r: several(metric(r, 'a'), names=('a',)),
                                        'needs a ConcatDataset'),
    'fewer prefixes': (['a', 'b'], lambda r: several(metric(r, 'a'), metric(r, 'b'), names=('a',)),
                       'has 2 metrics and 1 dataset_prefixes for the 2 data sets'),
    'one prefix twice': (['a', 'b'], lambda r: several(metric(r, 'a'), metric(r, 'b'),
                                                       names=('a', 'a')), "'a' stands there 2"),
    'metrics in another order': (['a', 'b'], lambda r: several(metric(r, 'b'), metric(r, 'a')),
                                 'metrics.0.ann_file'),
}


@pytest.mark.parametrize('files, evaluator, says', WRONG.values(), ids=WRONG)
def test_an_evaluator_that_would_stop_or_judge_wrongly_is_an_error(root, files, evaluator, says):
    lines = said(config(root, files, evaluator(root)))
    assert any(says in line for line in lines), lines
    assert all(line.startswith('error: config.py: val_') for line in lines)


def test_classes_in_another_order_in_the_file_of_the_metric_are_an_error(root):
    write(root / 'turned.json', numbered(0, names=('dog', 'cat')))
    line, = said(config(root, ['a'], metric(root, 'turned')))
    assert 'dog, cat in this order, and the data set has cat, dog' in line


def test_images_that_the_loader_leaves_out_are_said_to_count_as_missed(root):
    line, = said(config(root, [dict(file='a', indices=2)], metric(root, 'a')), error=False)
    assert '1 of the 3 images of' in line and 'count as missed' in line


def test_a_shuffled_loader_is_no_input_of_slices(root):
    line, = said(config(root, ['a', 'b'], several(metric(root, 'a'), metric(root, 'b')),
                        sampler=dict(type='DefaultSampler', shuffle=True)))
    assert 'config.py: val_dataloader.sampler.shuffle' in line


def test_metainfo_that_differs_keeps_a_metric_from_reading_it(root):
    sets = ['a', dict(file='b', metainfo=dict(classes=('cat', 'dog'), palette=[(0, 0, 0)] * 2))]
    line, = said(config(root, sets, metric(root, 'all')))
    assert 'datasets.1.metainfo: palette is not that of' in line
    assert "ignore_keys=['palette']" in line
    assert said(config(root, sets, several(metric(root, 'a'), metric(root, 'b')))) == []


@pytest.mark.parametrize('ignored', ['palette', ['palette']])
def test_metainfo_that_a_concatenation_ignores_may_differ(root, ignored):
    sets = ['a', dict(file='b', metainfo=dict(classes=('cat', 'dog'), palette=[(0, 0, 0)] * 2))]
    cfg = config(root, sets, metric(root, 'all'))
    cfg.val_dataloader.dataset.ignore_keys = ignored
    assert said(cfg) == []
    cfg.val_dataloader.dataset.datasets[1].metainfo.colour = 'red'
    line, = said(cfg)
    assert "ignore_keys=['palette', 'colour']" in line
    cfg.val_dataloader.dataset = dict(type='RepeatDataset', times=2,
                                      dataset=cfg.val_dataloader.dataset)
    assert said(cfg) == [line.replace('dataset.datasets', 'dataset.dataset.datasets')]


def test_arrays_in_metainfo_are_compared(root):
    def arrays(file, *sigmas):
        return dict(file=file, metainfo=dict(classes=('cat', 'dog'), sigmas=np.array(sigmas),
                                             more=dict(of=[np.array(sigmas)])))
    evaluator = metric(root, 'all')
    assert said(config(root, [arrays('a', 1, 2), arrays('b', 1, 2)], evaluator)) == []
    line, = said(config(root, [arrays('a', 1, 2), arrays('b', 1, 3)], evaluator))
    assert "ignore_keys=['sigmas', 'more']" in line
    line, = said(config(root, [arrays('a', 1, 2), arrays('b', 1)], evaluator))
    assert "ignore_keys=['sigmas', 'more']" in line


def test_a_test_may_have_an_evaluator_of_its_own(root):
    cfg = config(root, ['a'], metric(root, 'a'))
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, [metric(root, 'b')]
    report = collect(check_evaluators(Run(cfg, 'config.py', 'check')))
    assert len(report.errors) == 1 and 'test_evaluator.0.ann_file' in str(report.errors[0])


def test_the_best_of_several_evaluators_has_the_name_of_its_data_set(root):
    cfg = config(root, ['a', 'b'], several(metric(root, 'a'), metric(root, 'b')))
    cfg.val_cfg = dict(type='ValLoop')
    for name, wrong in (('b/coco/bbox_mAP', 0), ('coco/bbox_mAP', 1)):
        cfg.default_hooks = dict(checkpoint=dict(type='CheckpointHook', save_best=name))
        assert len(list(check_saved(Run(cfg, 'config.py', 'train')))) == wrong


def test_the_checks_of_a_run_have_that_of_evaluators(root):
    assert check_evaluators in CHECKS
    cfg = config(root, ['a', 'b'], metric(root, 'a'))
    report = preflight(Run(cfg, 'config.py', 'train'), (check_annotations, check_evaluators))
    assert [f.rule for f in report.errors] == ['file of the evaluator']
