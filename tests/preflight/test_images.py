"""Mistakes in image files, and how modes that surprise are loaded."""

import io
import struct

import cv2
import numpy as np
import pytest
from coco_files import coco, write
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from PIL import Image

from asl_det.errors import UserError
from asl_det.multilabel import LoadImageWithPillow
from asl_det.preflight.finding import collect
from asl_det.preflight.images import check_image, check_image_files, check_images, spread
from asl_det.preflight.run import Run

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (80, 100), dtype=np.uint8)
RGB = RNG.integers(0, 256, (80, 100, 3), dtype=np.uint8)
GREY16 = GREY.astype(np.uint16) * 257  # the same picture
CV2, PILLOW, OURS = LoadImageFromFile(), LoadImageFromFile(imdecode_backend='pillow'), \
    LoadImageWithPillow()


def encoded(array, kind='PNG', mode=None, **options):
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image = image.convert(mode) if mode else image
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(orientation, kind='JPEG'):
    exif = Image.Exif()
    exif[0x112] = orientation
    return encoded(RGB, kind, exif=exif)


def huge():
    return encoded(Image.new('1', (20_000, 20_000)))


def tiff(bands, colours=1, extra=(), bits=8):
    """A TIFF of 100 x 80 pixels that Pillow may not know; ``colours``: 2 for RGB, else grey."""
    data = RNG.integers(0, 256, 80 * 100 * bands * bits // 8, np.uint8).tobytes()
    texts = [struct.pack(f'<{bands}H', *[bits] * bands), struct.pack(f'<{len(extra)}H', *extra)]
    tags = [(256, 4, 1, 100), (257, 4, 1, 80), (258, 3, bands, texts[0]), (259, 3, 1, 1),
            (262, 3, 1, colours), (273, 4, 1, data), (277, 3, 1, bands), (278, 4, 1, 80),
            (279, 4, 1, len(data)), (284, 3, 1, 1)]
    tags += [(338, 3, len(extra), texts[1])] if extra else []
    end = 14 + 12 * len(tags)
    body = b''
    for i, (number, kind, count, value) in enumerate(tags):
        if isinstance(value, bytes):
            inside = len(value) <= 4 and value is not data
            at = int.from_bytes(value, 'little') if inside else end + len(body)
            body += b'' if inside else value
            tags[i] = (number, kind, count, at)
    return (b'II*\0' + struct.pack('<IH', 8, len(tags))
            + b''.join(struct.pack('<HHII', *tag) for tag in tags) + bytes(4) + body)


HEIC = b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(100)
NO_PILLOW = 'can not be loaded by LoadImageFromFile with cv2'


# Bytes, loader, size of the labels, what is said; an error unless it begins with '~'.
CASES = {
    'zero bytes': (b'', None, None, 'is empty (0 bytes)'),
    'text': (b'no image', None, None, 'is no image: replace the file'),
    'text, for OpenCV': (b'no image', CV2, None, 'is no image: replace the file'),
    'a web page': (b'<html>404</html>', CV2, None, 'is an HTML page'),
    'a git-lfs pointer': (b'version https://git-lfs.github.com/spec/v1\n', OURS, None, 'git-lfs'),
    'cut JPEG': (encoded(RGB, 'JPEG')[:3000], CV2, None, 'can not be decoded (image file is trunc'),
    'cut PNG': (encoded(RGB)[:5000], OURS, None, 'can not be decoded'),
    'broken PNG': (encoded(RGB)[:50] + b'xxxx' + encoded(RGB)[54:], OURS, None, 'can not be'),
    'more than Pillow allows': (huge(), OURS, None, 'decompression bomb DOS attack.: Pillow refus'),
    'the same with OpenCV': (huge(), CV2, None, '~every access decodes all of it'),
    '16 bits, clipped': (encoded(GREY16), PILLOW, None, "(Pillow's mode I;16), which mmcv clips to "
                         "white: use dict(type='LoadImageWithPillow')"),
    '16 bits, dark': (encoded(GREY16 >> 6), OURS, None, '~its largest value is 1023, which loads '
                      'as 3 of 255: nearly black'),
    '32 bits': (encoded(GREY.astype(np.float32), 'TIFF'), OURS, None, 'has 32 bits a pixel'),
    '32 bits, OpenCV': (encoded(GREY.astype(np.float32), 'TIFF'), CV2, None, 'can not be loaded'),
    'HEIC': (HEIC, OURS, None, 'is a HEIC picture and can not be loaded by LoadImageWithPillow'),
    'HEIC, OpenCV': (HEIC, CV2, None, 'is a HEIC picture and can not be loaded by LoadImageFrom'),
    'broken AVIF': (HEIC.replace(b'heic', b'avif'), OURS, None, 'is an AVIF picture and can not'),
    'TGA, OpenCV': (encoded(RGB, 'TGA'), CV2, None, f'is a picture of format TGA (mode RGB) and '
                    f"{NO_PILLOW} (AssertionError: failed to load image"),
    'ICO, OpenCV': (encoded(RGB, 'ICO'), CV2, None, "use dict(type='LoadImageWithPillow') in the"),
    '12 bands': (tiff(12), CV2, None, 'is a TIFF of 12 bands, which LoadImageFromFile with cv2 does'
                 ' not load: expected three channels'),
    '12 bands, Pillow': (tiff(12), OURS, None, 'is a TIFF of 12 bands, which LoadImageWithPillow'),
    '12 bands, no loader': (tiff(12), None, None, 'is a TIFF of 12 bands, which Pillow does not'),
    '5 bands': (tiff(5, 2), CV2, None, 'is a TIFF of 5 bands'),
    '4 bands': (tiff(4), CV2, None, 'of 4 bands, of which the first one is used: expected three'),
    '4 bands, Pillow': (tiff(4), OURS, None, 'is a TIFF picture and can not be loaded by LoadIma'),
    '2 bands': (tiff(2), CV2, None, 'of 2 bands, of which the first one is used: expected three'),
    'CMYK TIFF': (tiff(4, 5), CV2, None, '~is CMYK'),
    'infrared': (tiff(4, 2, (0,)), CV2, None, '~of 4 bands, of which the first three are used'),
    'a fourth channel': (encoded(np.dstack([RGB, GREY | 1]), 'TIFF'), LoadImageFromFile(
        color_type='unchanged'), None, 'is loaded with 4 channels (a TIFF of 4 bands): expected 3'),
    'no package': (encoded(RGB, 'JPEG'), LoadImageFromFile(imdecode_backend='turbojpeg'), None,
                   'needs the package PyTurboJPEG'),
    'UTF-16 text': ('notes'.encode('utf-16-le'), CV2, None, 'is UTF-16 text: save it as UTF-8'),
    'CMYK': (encoded(RGB, 'JPEG', 'CMYK'), CV2, None, '~is CMYK'),
    'transparent': (encoded(np.dstack([RGB, np.where(GREY > 99, 255, 0).astype(np.uint8)])), CV2,
                    None, '~of it is transparent: the network sees the colours that lie beneath'),
    'transparent palette': (encoded(Image.fromarray(RGB[:8, :8] & 128).convert('P'),
                                    transparency=0), OURS, None, '~of it is transparent'),
    'frames': (encoded(Image.fromarray(GREY), 'GIF', save_all=True, append_images=[
        Image.fromarray(255 - GREY)]), OURS, None, '~has 2 frames, of which the first is used'),
    'resized after labelling': (encoded(RGB), CV2, (200, 160), 'has 100 x 80 pixels, but the '
                                'annotations say 200 x 160'),
    'labels before EXIF turned it': (turned(6), CV2, (100, 80), 'EXIF orientation 6) and then has '
                                     '80 x 100 pixels, but its labels were made at 100 x 80'),
    'the same with Pillow': (turned(8), OURS, (100, 80), "color_type='color_ignore_orientation'"),
    'upside down': (turned(3), OURS, (100, 80), '~boxes must be those of the turned image'),
}


@pytest.mark.parametrize('content, loader, size, says', CASES.values(), ids=CASES)
def test_what_is_wrong_with_an_image(tmp_path, content, loader, size, says):
    (tmp_path / 'a').write_bytes(content)
    wrong = check_image(str(tmp_path / 'a'), size, loader)
    assert [(says.lstrip('~') in message, error) for _, message, error in wrong] == [
        (True, not says.startswith('~'))], wrong


RIGHT = {
    'colour': (encoded(RGB), (100, 80)), 'JPEG': (encoded(RGB, 'JPEG'), (100, 80)),
    'grey': (encoded(GREY), None), 'two colours': (encoded(GREY > 99), None),
    'palette': (encoded(RGB, 'PNG', 'P'), None), 'WebP': (encoded(RGB, 'WEBP'), None),
    'AVIF': (encoded(RGB, 'AVIF'), (100, 80)), 'JPEG 2000': (encoded(RGB, 'JPEG2000'), (100, 80)),
    'colours of 16 bits': (cv2.imencode('.png', RGB.astype(np.uint16) * 257)[1].tobytes(), None),
    'no colours': (tiff(1, 0), None),
    'grey with alpha': (tiff(2, 1, (2,)), None), 'one band': (tiff(1), (100, 80)),
    'opaque': (encoded(RGB, 'PNG', 'RGBA'), None), '16 bits': (encoded(GREY16), None),
    'turned': (turned(6), (80, 100)), 'no size': (encoded(RGB), (np.nan, np.nan)),
}


@pytest.mark.parametrize('loader', [CV2, OURS], ids=['OpenCV', 'Pillow'])
@pytest.mark.parametrize('content, size', RIGHT.values(), ids=RIGHT)
def test_right_images_of_every_kind_have_no_findings(tmp_path, content, size, loader):
    (tmp_path / 'a').write_bytes(content)
    assert check_image(str(tmp_path / 'a'), size, loader) == []


@pytest.mark.parametrize('kind', ['TGA', 'ICO', 'DDS', 'SGI', 'PCX'])
def test_what_the_loader_reads_is_an_image_whatever_its_first_bytes(tmp_path, kind):
    (tmp_path / 'a').write_bytes(encoded(RGB, kind))
    assert check_image(str(tmp_path / 'a'), None, OURS) == []


def test_an_image_that_can_not_be_looked_at_hides_no_other(tmp_path, monkeypatch):
    for name in 'abc':
        (tmp_path / name).write_bytes(encoded(RGB) if name == 'a' else b'x')
    monkeypatch.setattr('asl_det.preflight.images._check_decoded', lambda *args: 1 / 0)
    found = [(f.where[-1], f.message, f.error) for f in check_image_files(
        'x', [str(tmp_path / n) for n in 'abc'] + [str(tmp_path)], loader=OURS)]
    assert [(where, error) for where, _, error in found[:3]] == [(n, True) for n in 'abc']
    assert 'ZeroDivisionError' in found[0][1] and 'is no image' in found[1][1]
    assert 'is a folder: give the file' in found[3][1]


def test_images_are_loaded_as_they_are_seen(tmp_path):
    """Grey of 16 bits, palettes, CMYK and turned images, in both decoders."""
    def load(loader, content):
        (tmp_path / 'a').write_bytes(content)
        return loader.transform(dict(img_path=str(tmp_path / 'a')))['img'].astype(int)

    smooth = cv2.GaussianBlur(RGB, (0, 0), 9)  # JPEG keeps it
    for loader in (CV2, OURS):
        assert (load(loader, encoded(GREY16)) == GREY[..., None]).all()
        assert (load(loader, encoded(GREY16.astype('>u2'), 'TIFF')) == GREY[..., None]).all()
        exif = Image.Exif()
        exif[0x112] = 6  # stored turned by a quarter to the left
        stored = encoded(np.rot90(smooth), 'JPEG', exif=exif, quality=95)
        for content in (stored, encoded(Image.fromarray(smooth).quantize(256)),
                        encoded(smooth, 'JPEG', 'CMYK', quality=95)):
            assert np.abs(load(loader, content) - smooth[..., ::-1]).mean() < 6
    white = load(PILLOW, encoded(GREY16))
    assert np.abs(white - GREY[..., None]).mean() > 100  # what mmcv makes of it


def test_the_loader_is_mmcvs_with_pillow_but_for_grey_of_more_bits(tmp_path):
    path = str(tmp_path / 'a')
    exif = Image.Exif()
    exif[0x112] = 6
    for content in (encoded(RGB), turned(6), encoded(np.dstack([GREY, GREY]), mode='LA')):
        (tmp_path / 'a').write_bytes(content)
        for options in ({}, dict(color_type='grayscale'), dict(to_float32=True)):
            ours = LoadImageWithPillow(**options)(dict(img_path=path))
            mmcvs = LoadImageFromFile(imdecode_backend='pillow', **options)(dict(img_path=path))
            assert ours['img'].dtype == mmcvs['img'].dtype and (ours['img'] == mmcvs['img']).all()
            assert ours['img_shape'] == mmcvs['img_shape'] == ours['ori_shape']
    (tmp_path / 'a').write_bytes(encoded(GREY16, exif=exif))
    assert LoadImageWithPillow()(dict(img_path=path))['img_shape'] == (100, 80)
    grey = LoadImageWithPillow(color_type='grayscale_ignore_orientation', to_float32=True)
    assert (grey(dict(img_path=path))['img'] == GREY).all()
    for content, error in ((encoded(GREY.astype(np.float32), 'TIFF'), UserError), (b'', OSError)):
        (tmp_path / 'a').write_bytes(content)
        assert LoadImageWithPillow(ignore_empty=True)(dict(img_path=path)) is None
        with pytest.raises(error):
            LoadImageWithPillow()(dict(img_path=path))


@pytest.fixture
def run(tmp_path):
    """A run on three images of 100 x 80 pixels."""
    write(tmp_path / 'a.json', coco())
    for i in (1, 2, 3):
        (tmp_path / f'{i}.png').write_bytes(encoded(RGB))
    return Run(Config(dict(train_dataloader=dict(dataset=dict(
        type='CocoDataset', data_root=str(tmp_path), ann_file='a.json', data_prefix=dict(img=''),
        metainfo=dict(classes=('cat', 'dog')), pipeline=[dict(type='LoadImageFromFile')])))),
        'config.py', 'train')


def said(run):
    return [str(f) for f in collect(check_images(run)).findings]


def test_missing_images_are_named_with_a_file_of_nearly_that_name(run, tmp_path):
    assert said(run) == []
    (tmp_path / '2.png').rename(tmp_path / '2.PNG')
    line, = said(run)
    assert line == (f'error: config.py: train_dataloader.dataset: {tmp_path}/2.png: does not '
                    'exist, but 2.PNG does: copy it, or remove its entry')
    for file in tmp_path.glob('*.[pP]*'):
        file.unlink()
    line, = said(run)
    assert 'none of its 3 images exists' in line


def test_a_size_that_is_not_that_of_the_annotations_is_found_in_a_run(run, tmp_path):
    (tmp_path / '3.png').write_bytes(encoded(RGB[::2, ::2]))
    line, = said(run)
    assert '3.png: has 50 x 40 pixels, but the annotations say 100 x 80' in line


def test_multi_label_data_does_not_depend_on_sizes_and_leaves_broken_images_out(run, tmp_path):
    dataset = run.cfg.train_dataloader.dataset
    dataset.update(type='CocoMultiLabelDataset', data_prefix=dict(img_path=''))
    (tmp_path / '3.png').write_bytes(encoded(RGB[::2, ::2]))
    assert said(run) == []
    (tmp_path / '2.png').write_bytes(b'')
    assert said(run)[0].startswith('error')
    dataset.broken_images = 'skip'
    assert said(run)[0].startswith('warning')


def test_the_quick_check_looks_at_an_even_sample_and_the_thorough_one_at_all(tmp_path):
    paths = []
    for i in range(200):
        paths.append(str(tmp_path / f'{i}.png'))
        (tmp_path / f'{i}.png').write_bytes(b'' if i % 2 else encoded(GREY[:4, :4]))
    quick = list(check_image_files('train', paths))
    chosen = spread(200, 64)
    assert len(chosen) == len(set(chosen)) == 64 and chosen[0] == 0 and chosen[-1] == 199
    assert max(np.diff(chosen)) <= 4
    assert [f.images[0] for f in quick] == [paths[i] for i in chosen if i % 2]
    assert len(list(check_image_files('train', paths, thorough=True))) == 100
