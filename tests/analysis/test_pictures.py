"""Contact sheets of multi-label predictions."""

import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import RepeatDataset
from mmengine.registry import init_default_scope
from PIL import Image

from asl_det.analysis.pictures import draw_ranked, plot_images, plot_sheet
from asl_det.multilabel import LoadImageWithPillow, MultiLabelSample
from asl_det.multilabel.loading import load_rgb, loader_in
from asl_det.registry import DATASETS


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


def test_the_labels_with_the_highest_logits_are_shown_where_all_scores_are_one(tmp_path):
    Image.new('RGB', (32, 32)).save(tmp_path / 'image.png')
    sample = MultiLabelSample(metainfo=dict(img_path=str(tmp_path / 'image.png')))
    sample.logits = torch.arange(60.0, 68.0)
    sample.scores = sample.logits.sigmoid()
    for first in (0, 2):  # six are shown
        sample.pred_labels = torch.arange(first, 8)
        plot_sheet([sample], list('abcdefgh'), tmp_path / f'{first}.png')
    assert (tmp_path / '0.png').read_bytes() == (tmp_path / '2.png').read_bytes()


GREY = np.repeat(np.repeat(np.arange(0, 256, 32, dtype=np.uint16), 8)[None], 64, 0)
TURNED = Image.Exif()
TURNED[0x112] = 6  # stored turned by a quarter


@pytest.mark.parametrize('loader, exif, turned', [
    (LoadImageWithPillow(), TURNED, True), (LoadImageFromFile(), None, False),
    (LoadImageFromFile(color_type='color_ignore_orientation'), TURNED, False)])
def test_sheets_show_what_the_network_sees(tmp_path, loader, exif, turned):
    path = str(tmp_path / 'image.png')
    Image.fromarray(GREY * 257).save(path, **(dict(exif=exif) if exif else {}))
    seen = load_rgb(path, loader)
    assert (seen == loader.transform(dict(img_path=path))['img'][..., ::-1]).all()
    assert (seen == (GREY.T if turned else GREY)[..., None]).all()
    Image.fromarray(seen).save(tmp_path / 'plain.png')  # 8 bits, upright
    sample = MultiLabelSample(metainfo=dict(img_path=path))
    sample.scores, sample.pred_labels = torch.zeros(1), torch.zeros(0, dtype=torch.long)
    other = sample.clone()
    other.set_metainfo(dict(img_path=str(tmp_path / 'plain.png')))
    plot_sheet([sample], ['cat'], tmp_path / 'a.png', loader=loader)
    plot_sheet([other], ['cat'], tmp_path / 'b.png', loader=loader)
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()


@pytest.mark.parametrize('array', [
    np.full((4, 4), 7, np.uint8), np.full((4, 4, 1), 7, np.uint8), np.full((4, 4, 4), 7, np.uint8),
    np.full((4, 4, 12), 7.4, np.float32), np.full((4, 4, 3), 7 * 256, np.uint16)])
def test_whatever_a_loader_gives_is_shown(array):
    class Loader:
        def transform(self, results):
            return dict(img=array)

    assert load_rgb('x', Loader()).tolist() == np.full((4, 4, 3), 7).tolist()


def test_the_loader_of_a_data_set_is_found_in_wrappers():
    def data(*pipeline):
        return DATASETS.build(dict(type='MultiLabelDataset', lazy_init=True, pipeline=pipeline))

    init_default_scope('mmdet')
    with_loader = data(dict(type='LoadImageWithPillow'), dict(type='PackMultiLabel'))
    repeated = RepeatDataset(with_loader, 2, lazy_init=True)
    assert type(loader_in(repeated)) is type(loader_in(with_loader)) is LoadImageWithPillow
    assert loader_in(data(dict(type='LoadFeatures', folder='x'))) is None
    assert loader_in(None) is None


@pytest.mark.parametrize('box', [(10, 10, 20, 20), (50, 10, 40, 20), (30, 30, 0.5, 10),
                                 (900, 10, 20, 20), (0, 0, 0.1, 0.1)])
def test_the_box_that_a_finding_means_is_marked_wherever_it_lies(tmp_path, box):
    path = str(tmp_path / 'a.png')
    Image.new('RGB', (64, 64)).save(path)
    red = []
    for name, boxes in (('with', [box]), ('without', []), ('odd', [(float('nan'), 1, 2, 3)])):
        plot_images([path], 'a sentence', tmp_path / f'{name}.png', boxes=boxes)
        drawn = np.asarray(Image.open(tmp_path / f'{name}.png').convert('RGB')).astype(int)
        red.append(int((drawn[..., 0] - drawn[..., 2] > 150).sum()))
    assert red[0] > 30 and red[1:] == [0, 0]


def test_small_pictures_are_enlarged_beside_the_bars():
    bars = [dict(label='cat', score=0.5, predicted=True)]
    image = np.full((40, 64, 3), (0, 99, 0), np.uint8)
    drawn = draw_ranked(image, bars)
    assert (drawn == image[0, 0]).all(2).sum() == 4 * 40 * 4 * 64
    assert draw_ranked(np.zeros((900, 1200, 3), np.uint8), bars).shape[0] == 480
