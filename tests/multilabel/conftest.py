import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def scope():
    """As in a run with default_scope='mmdet', which every config has."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield
