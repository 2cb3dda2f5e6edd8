"""Contact sheets of multi-label predictions."""

import numpy as np
import torch
from PIL import Image

from asl_det.analysis.pictures import plot_sheet
from asl_det.multilabel import MultiLabelSample


def sheet(tmp_path, name, label):
    sample = MultiLabelSample(metainfo=dict(img_path=str(tmp_path / 'image.png')))
    sample.scores = torch.tensor([0.9, 0.2, 0.7])
    sample.pred_labels = torch.tensor([0, 2])
    if label is not None:
        sample.gt_label = torch.tensor(label, dtype=torch.int8)
    plot_sheet([sample], ['cat', 'dog', 'cow'], tmp_path / f'{name}.png')
    return np.asarray(Image.open(tmp_path / f'{name}.png'))


def test_a_sample_without_labels_is_drawn_as_one_of_which_nothing_is_known(tmp_path):
    Image.new('RGB', (32, 32)).save(tmp_path / 'image.png')
    without = sheet(tmp_path, 'without', None)
    assert (without == sheet(tmp_path, 'unknown', [-1, -1, -1])).all()
    assert (without != sheet(tmp_path, 'absent', [0, 0, 0])).any()
