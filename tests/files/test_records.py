"""Records survive a crash of what writes them."""

import json
import logging

import pytest
from mmengine.logging import MMLogger
from PIL import Image

from asl_det.analysis.training_curves import plot_run, read_scalars
from asl_det.errors import UserError
from asl_det.files.records import PROBABILITIES, append_record, read_records

GOOD = b'{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n'


@pytest.fixture
def log():
    """The lines that go to mmengine's current log."""
    lines = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.mark.parametrize('tail', [b'{"step": 3, "lo', b'\x00\x00\x00', b'\xff\xfe{"step"', b'{'])
def test_a_last_line_that_was_cut_is_left_out_with_a_word(tmp_path, tail, log):
    path = tmp_path / 'scalars.json'
    path.write_bytes(GOOD + tail)
    assert [r['step'] for r in read_records(path)] == [1, 2]
    assert len(log) == 1 and f'{path}, line 3: the last record is cut off' in log[0]
    path.write_bytes(GOOD + b'\n')
    assert len(read_records(path)) == 2 and len(log) == 1


@pytest.mark.parametrize('line, expected', [
    (b'{"step": 3, "lo', 'expected a json object'), (b'\x80\x81', 'expected a json object'),
    (b'12', 'a json object with a step, got'), (b'{"loss": 1.0}', 'a json object with a step')])
def test_a_broken_line_before_others_is_named(tmp_path, line, expected):
    path = tmp_path / 'scalars.json'
    path.write_bytes(GOOD + line + b'\n' + GOOD)
    with pytest.raises(UserError, match=rf'{path}, line 3: .*{expected}'):
        read_records(path)


def test_a_resumed_run_writes_after_the_last_whole_record(tmp_path):
    path = tmp_path / PROBABILITIES
    append_record(path, dict(step=1, p=0.5))
    for cut in (b'{"step": 2, "p"', b'\xff\x00', b''):
        with open(path, 'ab') as file:
            file.write(cut)
        append_record(path, dict(step=2, p=0.25))
    assert read_records(path) == [dict(step=1, p=0.5)] + 3 * [dict(step=2, p=0.25)]
    path.write_bytes(b'{"ste')
    append_record(path, dict(step=3))
    assert path.read_bytes() == b'{"step": 3}\n'


def test_a_value_that_was_recorded_once_is_no_curve(tmp_path):
    log = tmp_path / '20240101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"step": 1, "loss": 1.0, "lr": 0.1}\n')
    plot_run(tmp_path, tmp_path / 'curves.png')
    assert not (tmp_path / 'curves.png').exists()
    widths = []
    for row in ('{"step": 2, "loss": 0.5, "bbox_mAP": 0.1}', '{"step": 3, "bbox_mAP": 0.2}'):
        with log.open('a') as file:
            file.write(f'{row}\n')
        plot_run(tmp_path, tmp_path / 'curves.png')
        widths.append(Image.open(tmp_path / 'curves.png').width)
    assert widths[1] == pytest.approx(2 * widths[0], abs=2)  # a panel, two panels


def test_curves_are_drawn_from_what_a_killed_run_left(tmp_path):
    for start, steps in (('20240101_000000', (1, 2, 3)), ('20240101_000001', (3, 4))):
        log = tmp_path / start / 'vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_bytes(b''.join(json.dumps(dict(step=s, loss=float(s), lr=0.1)).encode() + b'\n'
                                 for s in steps) + b'{"loss": 4.')
    assert read_scalars(tmp_path)['loss'] == ([1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0])
    plot_run(tmp_path, tmp_path / 'curves.png')
    assert (tmp_path / 'curves.png').stat().st_size > 5000
