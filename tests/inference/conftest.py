import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image
from tiny_networks import classifier_config, photo, save


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture(scope='session')
def classifier(tmp_path_factory):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return save(classifier_config(), tmp_path_factory.mktemp('classifier') / 'tiny.pth')


@pytest.fixture(scope='session')
def detector(tmp_path_factory):
    """A RetinaNet that finds boxes everywhere."""
    cfg = Config.fromfile('configs/digits/retinanet_r18-w16_fpn_asl-800i_digits.py')
    cfg.model.test_cfg.score_thr = 0.0
    with DefaultScope.overwrite_default_scope('mmdet'):
        return save(cfg, tmp_path_factory.mktemp('detector') / 'tiny.pth', tuple('0123456789'))


@pytest.fixture
def folder(tmp_path):
    """Two pictures, a text, and a JPEG that is cut off."""
    root = tmp_path / 'images'
    (root / 'sub').mkdir(parents=True)
    Image.fromarray(photo(seed=0)).save(root / 'a.jpg')
    Image.fromarray(photo(seed=1)).save(root / 'sub/a.jpg')
    (root / 'notes.txt').write_text('no picture\n')
    Image.fromarray(photo(400, 300)).save(tmp_path / 'whole.jpg', quality=95)
    content = (tmp_path / 'whole.jpg').read_bytes()
    (root / 'cut.jpg').write_bytes(content[:len(content) // 2])
    return root
