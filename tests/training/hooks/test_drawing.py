"""Drawing never ends a run."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.structures import InstanceData
from PIL import Image
from toy import write_config

from asl_det.engine import load_config, train
from asl_det.training.hooks import CurvesHook, DrawnSafely, MultiLabelPicturesHook


@pytest.fixture
def run(tmp_path):
    """A stand-in of a runner, with the records of its log."""
    logger = logging.getLogger(str(tmp_path))
    records = []
    logger.addHandler(SimpleNamespace(level=0, handle=records.append))
    dataset = SimpleNamespace(metainfo=dict(classes=('a', 'b')))
    loader = SimpleNamespace(dataset=dataset)
    return SimpleNamespace(work_dir=str(tmp_path), logger=logger, val_dataloader=loader,
                           test_dataloader=loader, records=records)


def test_curves_over_a_broken_log_are_a_warning_with_the_file_and_line(run, tmp_path):
    log = tmp_path / '20240101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_bytes(b'{"step": 1, "loss": 1.0}\n\x00\x01\n{"step": 2, "loss": 1.0}\n')
    hook = CurvesHook()
    hook.after_val_epoch(run)
    hook.after_train(run)
    assert not (tmp_path / 'curves.png').exists() and len(run.records) == 2
    message = run.records[0].getMessage()
    assert message.startswith('CurvesHook drew nothing: UserError: ')
    assert f'{log}, line 2' in message and not run.records[0].exc_info


def test_a_defect_in_drawing_is_a_warning_with_its_traceback(run, tmp_path):
    (tmp_path / 'curves.png').mkdir()
    log = tmp_path / '20240101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_bytes(b'{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 1.0}\n')
    CurvesHook().after_train(run)
    assert 'IsADirectoryError' in run.records[0].getMessage() and run.records[0].exc_info


def test_pictures_that_can_not_be_drawn_are_a_warning_and_the_others_follow(run, tmp_path):
    samples = [SimpleNamespace(img_path=str(tmp_path / f'{i}.png')) for i in range(5)]
    hook = MultiLabelPicturesHook(draw=True, test_out_dir=str(tmp_path / 'sheets'), per_sheet=2)
    hook.after_val_iter(run, 0, outputs=samples)
    hook.after_val_epoch(run)
    assert len(run.records) == 1 and '0.png' in run.records[0].getMessage()
    hook.before_test_epoch(run)
    hook.after_test_iter(run, 0, outputs=samples)
    hook.after_test_epoch(run)
    assert [f'{i}.png' in r.getMessage() for i, r in zip((0, 0, 2, 4), run.records, strict=True)
            ] == [True] * 4


@pytest.mark.parametrize('palette, stops', [([(0, 0, 0)], True), ([(0, 0, 0)] * 2, False)])
def test_a_palette_of_fewer_colours_than_classes_ends_no_validation(run, tmp_path, palette, stops):
    import mmdet.engine.hooks  # noqa: F401, heavy
    from mmdet.structures import DetDataSample
    from mmdet.visualization import DetLocalVisualizer
    image = tmp_path / 'a.png'
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(image)
    visualizer = DetLocalVisualizer.get_instance(str(tmp_path), save_dir=str(tmp_path / 'drawn'),
                                                 vis_backends=[dict(type='LocalVisBackend')])
    visualizer.dataset_meta = dict(classes=('a', 'b'), palette=palette)
    sample = DetDataSample(metainfo=dict(img_path=str(image)))
    sample.pred_instances = InstanceData(bboxes=torch.tensor([[1., 1., 30., 30.]]),
                                         labels=torch.tensor([1]), scores=torch.ones(1))
    hook = mmdet.engine.hooks.DetVisualizationHook(draw=True)
    hook._visualizer = visualizer
    run.visualizer, run.iter = visualizer, 0
    if stops:
        with pytest.raises(AssertionError, match='length of palette'):
            hook.after_val_iter(run, 0, {}, [sample])
    DrawnSafely(hook).after_val_iter(run, batch_idx=0, data_batch={}, outputs=[sample])
    assert not run.records and list((tmp_path / 'drawn').rglob('*.png'))
    drawn = visualizer.dataset_meta['palette']
    assert len(drawn) == 2 and (drawn == palette) is not stops


@HOOKS.register_module(force=True)
class FailingVisualizationHook(Hook):
    calls = 0

    def after_train_iter(self, runner, *args, **kwargs):
        FailingVisualizationHook.calls += 1
        raise RuntimeError('no ink')


def test_a_hook_that_can_not_draw_ends_no_training_and_is_logged_once(tmp_path):
    cfg = load_config(write_config(tmp_path))
    cfg.custom_hooks = [dict(type='FailingVisualizationHook')]
    assert train(cfg, work_dir=str(tmp_path / 'work')).name == 'epoch_1.pth'
    log, = (tmp_path / 'work').rglob('*.log')
    assert FailingVisualizationHook.calls == 16
    assert log.read_text().count('FailingVisualizationHook drew nothing: RuntimeError: no ink') == 1
