"""Drawing never ends a run."""

import logging
from types import SimpleNamespace

import pytest

from asl_det.hooks import CurvesHook, MultiLabelPicturesHook


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
    log.write_bytes(b'{"step": 1, "loss": 1.0}\n')
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
