"""The page of asl-det demo in a real browser, where gradio and a browser are there."""

import io
import shutil

import numpy as np
import pytest
import torch
from command_line import run_command
from mmengine.config import Config
from PIL import Image
from tiny_networks import photo

from asl_det.errors import UserError
from asl_det.inference.demo import build_page, find_examples, serve
from asl_det.inference.infer import build_inferencer
from asl_det.inference.opening import open_checkpoint
from asl_det.multilabel.thresholds import Thresholds

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')


@pytest.fixture
def browser():
    playwright = pytest.importorskip('playwright.sync_api')
    if CHROMIUM is None:
        pytest.skip('there is no chromium')
    with playwright.sync_playwright() as api:
        started = api.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield started
        started.close()


def drawings(tab):
    """Source and content of what is drawn for each network."""
    sources = tab.eval_on_selector_all(
        'img', "images => images.map(i => i.src).filter(s => s.endsWith('image.png'))")
    return {s: np.asarray(Image.open(io.BytesIO(tab.request.get(s).body())).convert('RGB'))
            for s in sources}


def test_the_page_shows_what_networks_find_and_the_slider_changes_it(classifier, detector, browser,
                                                                 tmp_path):
    pytest.importorskip('gradio')
    runs = []
    networks = []
    for name, path, least in (('a <b>', classifier, 0.125), ('a detector', detector, 0.0)):
        infer = build_inferencer(open_checkpoint(None, path), 'cpu', Thresholds(least))
        infer.forward = (lambda forward: lambda *args: runs.append(1) or forward(*args))(
            infer.forward)
        networks.append((name, infer))
    Image.fromarray(photo(200, 150)).save(tmp_path / 'a.png')
    page = build_page(networks)
    url = serve(page, wait=False)
    assert url.startswith('http://127.0.0.1:')
    try:
        tab = browser.new_page(viewport=dict(width=1200, height=900))
        tab.goto(url)
        tab.set_input_files('input[type=file]', tmp_path / 'a.png', timeout=60000)
        two = "() => [...document.images].filter(i => i.src.endsWith('image.png')).length == 2"
        tab.wait_for_function(two, timeout=60000)
        before = drawings(tab)
        said = tab.inner_text('body')
        for text in ('What networks find in a picture', 'MultiLabelClassifier with ', 'a <b>',
                     'own threshold: 0.12', 'RetinaNet with ', 'a detector', 'own threshold: 0.00'):
            assert text in said
        tab.wait_for_function("() => document.querySelectorAll('[role=row]').length > 5")
        own, number = tab.locator('input[type=checkbox]'), tab.locator('input[type=number]')
        assert own.is_checked() and number.input_value() in ('0.12', '0.13')
        tab.screenshot(path=tmp_path / 'before.png')
        number.fill('1')
        number.press('Enter')
        tab.wait_for_function(
            """old => {const now = [...document.images].map(i => i.src).filter(
            s => s.endsWith('image.png')); return now.length == 2 && now.every(
            s => !old.includes(s))}""", arg=list(before), timeout=60000)
        after = drawings(tab)
        tab.screenshot(path=tmp_path / 'after.png')
        for old, new in zip(before.values(), after.values(), strict=True):
            assert old.shape == new.shape and (old != new).any()
        assert len(runs) == 2 and not own.is_checked()
        enlarged = photo(200, 150).repeat(2, 0).repeat(2, 1)
        boxes, none = (np.abs(images[list(images)[1]].astype(int) - enlarged).mean()
                       for images in (before, after))
        assert none < boxes
    finally:
        page.close()


def test_only_pictures_that_the_command_line_names_are_examples(folder, tmp_path):
    assert find_examples(str(folder)) == [f'{folder}/a.jpg', f'{folder}/cut.jpg']
    assert find_examples(str(folder / 'sub')) == [f'{folder}/sub/a.jpg']
    assert find_examples(None) == []
    with pytest.raises(UserError, match='nowhere is no folder'):
        find_examples('nowhere')
    (folder / 'b.png').mkdir()
    (folder / 'c.jpg').symlink_to('sub/a.jpg')
    assert find_examples(str(folder))[1:] == [f'{folder}/c.jpg', f'{folder}/cut.jpg']
    (tmp_path / 'private.jpg').touch()
    (folder / 'd.jpg').symlink_to(tmp_path / 'private.jpg')
    with pytest.raises(UserError, match=r'd.jpg is a link to .*private.jpg, which is not in this'):
        find_examples(str(folder))


def test_a_folder_that_the_config_in_a_checkpoint_names_is_not_published(classifier, folder,
                                                                         tmp_path, monkeypatch):
    content = torch.load(classifier, weights_only=False)
    cfg = Config.fromstring(content['meta']['cfg'], '.py')
    cfg.test_dataloader.dataset.update(data_root=str(folder.parent), data_prefix=dict(
        img_path=folder.name))
    content['meta']['cfg'] = cfg.pretty_text
    torch.save(content, tmp_path / 'theirs.pth')
    served = []
    monkeypatch.setattr('asl_det.inference.demo.build_page',
                        lambda networks, examples: served.append(examples))
    monkeypatch.setattr('asl_det.inference.demo.serve', lambda *args: None)
    for more, expected in (((), []), (('--examples', str(folder / 'sub')),
                                      [f'{folder}/sub/a.jpg'])):
        assert run_command('demo', tmp_path / 'theirs.pth', '--device', 'cpu', *more) is None
        assert served.pop() == expected
