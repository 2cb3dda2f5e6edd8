"""asl-det infer: nothing is lost, nothing is repeated, what can not be read is told."""

import csv
import json
import os
import shutil

import cv2
import numpy as np
import pytest
import torch
from command_line import run_command
from PIL import Image
from tiny_networks import CLASSES, classifier_config, photo, save

from asl_det.errors import UserError
from asl_det.inference import infer as pictures
from asl_det.inference import sources
from asl_det.inference.infer import infer
from asl_det.inference.pipeline import UnreadableError
from asl_det.inference.sources import Picture, find_pictures
from asl_det.inference.store import Store
from asl_det.multilabel.thresholds import Thresholds


def command(monkeypatch, *arguments):
    """Run the command; its exit status or message."""
    return run_command('infer', '--device', 'cpu', *arguments) or 0


def content(out):
    predictions = json.loads((out / 'predictions.json').read_text())
    with open(out / 'predictions.csv', newline='') as file:
        return predictions, list(csv.DictReader(file))


@pytest.fixture
def computed(monkeypatch):
    """Names of the pictures that were computed, in order."""
    names = []
    add = Store.add

    def remember(self, picture, frame, *rest):
        names.append(picture.name if frame is None else frame)
        add(self, picture, frame, *rest)

    monkeypatch.setattr(Store, 'add', remember)
    return names


def test_pictures_are_drawn_and_bad_files_are_listed_with_exit_status_1(
        classifier, folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'out'
    assert command(monkeypatch, classifier, folder, '--out', out, '--threshold', 0.4) == 1
    said = capsys.readouterr().out
    assert '2 files could not be read' in said
    assert f'{folder}/notes.txt: no picture' in said and f'{folder}/cut.jpg: damaged' in said
    drawn = [p.relative_to(out).as_posix() for p in sorted((out / 'pictures').rglob('*.*'))]
    assert drawn == ['pictures/a.jpg', 'pictures/sub/a.jpg']
    predictions, rows = content(out)
    assert [entry['file'] for entry in predictions] == [f'{folder}/a.jpg', f'{folder}/sub/a.jpg']
    for entry in predictions:
        assert {p['label'] for p in entry['predictions']} == set(CLASSES)
        assert [(row['label'], float(row['score'])) for row in rows
                if row['file'] == entry['file']] == [
            (p['label'], p['score']) for p in entry['predictions'] if p['score'] >= 0.4]


def test_the_same_command_repeats_nothing_but_what_changed(classifier, folder, tmp_path,
                                                           monkeypatch, computed):
    out = tmp_path / 'out'
    arguments = (classifier, folder, '--out', out)
    command(monkeypatch, *arguments)
    first = content(out)
    assert computed == ['a.jpg', 'sub/a.jpg']
    command(monkeypatch, *arguments)
    assert computed == ['a.jpg', 'sub/a.jpg'] and content(out) == first
    Image.fromarray(photo(seed=5)).save(folder / 'a.jpg')
    (out / 'pictures/sub/a.jpg').unlink()
    Image.fromarray(photo(seed=6)).save(folder / 'cut.jpg')
    command(monkeypatch, *arguments)
    assert computed[2:] == ['a.jpg', 'cut.jpg', 'sub/a.jpg']
    again = content(out)
    assert [e['file'] for e in again[0]] == [f'{folder}/{n}'
                                             for n in ('a.jpg', 'sub/a.jpg', 'cut.jpg')]
    assert again[0][0] != first[0][0] and again[0][1] == first[0][1]


@pytest.mark.parametrize('network', ['classifier', 'detector'])
def test_another_threshold_draws_again_and_computes_nothing(network, folder, tmp_path, monkeypatch,
                                                            request, capsys):
    checkpoint = request.getfixturevalue(network)
    arguments = (checkpoint, folder, '--out')
    command(monkeypatch, *arguments, tmp_path / 'whole', '--threshold', 0.6, '--top-k', 3)
    command(monkeypatch, *arguments, tmp_path / 'out')
    capsys.readouterr()

    def forward(*_, **__):
        raise AssertionError('computed')

    kind = type(pictures.build_inferencer(pictures.open_checkpoint(None, checkpoint)))
    monkeypatch.setattr(kind, 'forward', forward)
    command(monkeypatch, *arguments, tmp_path / 'out', '--threshold', 0.6, '--top-k', 3)
    said = capsys.readouterr().out
    assert '0 pictures computed, 2 drawn again, 2 kept' in said
    assert 'are predicted: from the score 0.60 on, as asked for' in said
    assert content(tmp_path / 'out') == content(tmp_path / 'whole')
    for drawn in (tmp_path / 'whole/pictures').rglob('*.jpg'):
        again = tmp_path / 'out' / drawn.relative_to(tmp_path / 'whole')
        assert again.read_bytes() == drawn.read_bytes()


def test_a_killed_run_goes_on_where_it_was(classifier, folder, tmp_path, monkeypatch, computed):
    out = tmp_path / 'out'
    (folder / 'notes.txt').unlink()
    whole = infer(None, classifier, [str(folder)], out=tmp_path / 'whole', device='cpu')
    computed.clear()
    draw = pictures.MultiLabelInferencer.picture

    def stop(self, *args):
        if computed:
            raise KeyboardInterrupt
        return draw(self, *args)

    monkeypatch.setattr(pictures.MultiLabelInferencer, 'picture', stop)
    said = command(monkeypatch, classifier, folder, '--out', out, '--batch-size', 1)
    assert 'the same command again goes on' in said
    assert len(content(out)[0]) == 1 and computed == ['a.jpg']
    with open(out / 'predictions.jsonl', 'a') as file:
        file.write('{"path": "half a li')  # of a process that was killed while it wrote
    monkeypatch.setattr(pictures.MultiLabelInferencer, 'picture', draw)
    assert command(monkeypatch, classifier, folder, '--out', out) == 1  # cut.jpg
    assert computed == ['a.jpg', 'sub/a.jpg']
    assert content(out) == content(whole.folder)


def test_results_of_other_settings_are_not_mixed(classifier, folder, tmp_path, monkeypatch):
    out, other = tmp_path / 'out', save(classifier_config(), tmp_path / 'b.pth', tuple('abcd'))
    command(monkeypatch, classifier, folder, '--out', out)
    calibrating = tmp_path / 'thresholds.json'
    Thresholds(0.5, temperature=2.0).save(calibrating)
    for key, checkpoint, *more in (('calibration', classifier, '--threshold', calibrating),
                                   ('checkpoint', other)):
        said = command(monkeypatch, checkpoint, folder, '--out', out, *more)
        assert f'{key}' in said and '--overwrite' in said and 'something else' in said
    assert command(monkeypatch, other, folder, '--out', out, '--overwrite') == 1
    assert {p['label'] for p in content(out)[0][0]['predictions']} == set('abcd')
    assert content(tmp_path / 'out.old1')[0]
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.txt').touch()
    assert 'holds other things' in command(monkeypatch, other, folder, '--out', tmp_path / 'mine',
                                           '--overwrite')


def test_what_else_decides_about_a_result_is_not_mixed(folder, tmp_path, monkeypatch):
    """Classes that only the config has, the code that it brings, weights behind a URL."""
    name = f'code_of_{tmp_path.name}'
    (tmp_path / f'{name}.py').write_text('')
    monkeypatch.syspath_prepend(tmp_path)
    cfg = classifier_config()
    cfg.test_dataloader.dataset.metainfo = dict(classes=CLASSES)
    cfg.custom_imports = dict(imports=['asl_det', name])
    plain = save(cfg, tmp_path / 'plain.pth', classes=())
    arguments = dict(inputs=[str(folder / 'a.jpg')], out=tmp_path / 'out', device='cpu')
    infer(cfg, plain, **arguments)
    assert infer(cfg, plain, **arguments).computed == 0
    (tmp_path / f'{name}.py').write_text('changed = True')
    with pytest.raises(UserError, match=f'something else .code.modules.{name}: '):
        infer(cfg, plain, **arguments)
    infer(cfg, plain, **arguments, anew=True)
    cfg.test_dataloader.dataset.metainfo = dict(classes=CLASSES[::-1])
    with pytest.raises(UserError, match='something else .classes.0: '):
        infer(cfg, plain, **arguments)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    for seed in (1, 2):
        def download(url, path, *rest, seed=seed):
            content = torch.load(plain, weights_only=False)
            content['state_dict']['head.fc.weight'] *= seed
            torch.save(content, path)

        monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
        shutil.rmtree(tmp_path / 'hub', ignore_errors=True)
        arguments['out'] = tmp_path / 'of_url'
        if seed == 1:
            infer(cfg, 'https://a.org/net.pth', **arguments)
        else:
            with pytest.raises(UserError, match='something else .checkpoint: '):
                infer(cfg, 'https://a.org/net.pth', **arguments)


def test_a_detector_writes_results_that_pycocotools_reads(detector, folder, tmp_path, monkeypatch):
    from pycocotools.coco import COCO
    out = tmp_path / 'out'
    config = 'configs/digits/retinanet_r18-w16_fpn_asl-800i_digits.py'
    arguments = (config, detector, folder / 'a.jpg', folder / 'sub', '--out', out, '--threshold',
                 0.1, '--top-k', 4)
    assert command(monkeypatch, *arguments) == 0
    boxes, rows = content(out)
    assert len(rows) == 2 * 4 < len(boxes)
    truth = COCO()
    truth.dataset = dict(images=[dict(id=i) for i in range(2)], annotations=[],
                         categories=[dict(id=i, name=str(i)) for i in range(10)])
    truth.createIndex()
    (tmp_path / 'boxes.json').write_text(json.dumps(boxes))
    found = truth.loadRes(str(tmp_path / 'boxes.json'))
    assert len(found.getAnnIds(imgIds=[1])) > 4
    drawn = np.asarray(Image.open(out / 'pictures/a.jpg'))
    assert drawn.shape == (9 * 40, 9 * 48, 3)


def test_files_of_one_name_have_drawings_of_their_own(classifier, tmp_path, monkeypatch):
    sources = []
    for i, name in enumerate(('x/a.jpg', 'y/a.jpg', 'x/a.tif', 'y/a.webp')):
        sources.append(tmp_path / name)
        sources[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(photo(seed=i)).save(sources[-1])
    out = tmp_path / 'out'
    assert command(monkeypatch, classifier, *sources, sources[0], '--out', out) == 0
    drawn = sorted((out / 'pictures').iterdir())
    assert len(drawn) == 4 and len({p.read_bytes() for p in drawn}) == 4
    assert [p.name for p in drawn if '-' not in p.name] == ['a.jpg', 'a.tif.png', 'a.webp.png']
    assert len(content(out)[0]) == 4


@pytest.fixture
def video(tmp_path):
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 5, (48, 40))
    for i in range(5):
        writer.write(photo(seed=i)[..., ::-1])
    writer.release()
    return path


def test_frames_of_a_video_are_predicted_and_drawn_as_a_video(classifier, video, tmp_path,
                                                              monkeypatch, computed):
    out = tmp_path / 'out'
    (tmp_path / 'broken.mp4').write_text('no video')
    arguments = (classifier, video, tmp_path / 'broken.mp4', '--out', out, '--batch-size', 2)
    assert command(monkeypatch, *arguments) == 1
    assert computed == [0, 1, 2, 3, 4]
    drawn = cv2.VideoCapture(str(out / 'pictures/clip.mp4'))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 5 and drawn.get(cv2.CAP_PROP_FPS) == 5
    assert drawn.get(cv2.CAP_PROP_FRAME_WIDTH) > 300
    assert [entry['frame'] for entry in content(out)[0]] == [0, 1, 2, 3, 4]
    os.remove(out / 'pictures/clip.mp4.frames/000003.jpg')
    assert command(monkeypatch, *arguments) == 1
    assert computed[5:] == [3]


@pytest.mark.parametrize('spelling', ['./clip.avi', '../{0.name}/clip.avi', '{0}/clip.avi',
                                      'link.avi', 'linked/clip.avi'])
def test_a_video_goes_on_under_another_spelling_of_its_path(classifier, video, tmp_path,
                                                            monkeypatch, computed, spelling):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'link.avi').symlink_to('clip.avi')
    (tmp_path / 'linked').symlink_to('.')
    draw = pictures.MultiLabelInferencer.picture

    def stop(self, *args):
        if len(computed) == 3:
            raise KeyboardInterrupt
        return draw(self, *args)

    monkeypatch.setattr(pictures.MultiLabelInferencer, 'picture', stop)
    command(monkeypatch, classifier, 'clip.avi', '--out', 'out', '--batch-size', 1)
    monkeypatch.setattr(pictures.MultiLabelInferencer, 'picture', draw)
    assert command(monkeypatch, classifier, spelling.format(tmp_path), '--out', 'out') == 0
    assert computed == [0, 1, 2, 3, 4]
    drawn, = (tmp_path / 'out/pictures').glob('*.mp4')
    assert cv2.VideoCapture(str(drawn)).get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert [(e['file'], e['frame']) for e in content(tmp_path / 'out')[0]] == [
        ('clip.avi', i) for i in range(5)]


def test_of_a_video_that_became_shorter_no_old_frame_stays(classifier, video, tmp_path,
                                                           monkeypatch):
    for frames in (5, 2):
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'MJPG'), 5, (48, 40))
        for i in range(frames):
            writer.write(photo(seed=i + frames)[..., ::-1])
        writer.release()
        assert command(monkeypatch, classifier, video, '--out', tmp_path / 'out') == 0
        assert [e['frame'] for e in content(tmp_path / 'out')[0]] == list(range(frames))
        drawn = cv2.VideoCapture(str(tmp_path / 'out/pictures/clip.mp4'))
        assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == frames


def test_patterns_and_hidden_files(classifier, folder, tmp_path, monkeypatch):
    (folder / '.hidden.jpg').write_bytes((folder / 'a.jpg').read_bytes())
    out = folder / 'results'  # in the folder of the pictures, and not searched
    assert command(monkeypatch, classifier, folder / '**/*.jpg', '--out', out) == 1
    assert len(content(out)[0]) == 2
    assert command(monkeypatch, classifier, folder, '--out', out) == 1
    assert len(content(out)[0]) == 2


def test_results_are_never_taken_for_pictures(classifier, folder, tmp_path):
    (folder / 'notes.txt').unlink()

    def pictures(*inputs, out):
        return [p.name for p in find_pictures(inputs, out)[0]]

    assert pictures(str(folder), out=folder / 'out') == ['a.jpg', 'cut.jpg', 'sub/a.jpg']
    for out in ('out', 'deep/other'):
        infer(None, classifier, [str(folder)], out=folder / out, device='cpu')
    (folder / 'link').symlink_to('out/pictures')
    everything = (str(folder), f'{folder}/**/*.jpg', f'{tmp_path}/im*/../images/**/*.*')
    for text in everything:
        for out in (folder / 'out', folder / 'third', tmp_path):  # the last holds the pictures
            assert len(pictures(text, out=out)) == 3
    _, left_out = find_pictures(everything, folder / 'third')
    assert left_out == [str(folder / 'deep/other'), str(folder / 'out')]
    # What a shell makes of a pattern; and results of others, asked for by name.
    shell = [str(p) for p in sorted(folder.rglob('*.jpg')) if 'deep' not in p.parts]
    assert pictures(*shell, out=folder / 'out') == ['a.jpg', 'cut.jpg', 'a.jpg']
    assert pictures(f'{folder}/out/pictures', out=tmp_path / 'third') == ['a.jpg', 'sub/a.jpg']


def test_that_results_are_left_out_is_said(classifier, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for kept in (2, 2):
        assert command(monkeypatch, classifier, '**/*a.jpg', '--out', 'images/out') == 0
        said = capsys.readouterr().out
        assert f' {kept} kept:' in said
    assert f'not taken as pictures, because they are results: {folder}/out\n' in said
    said = command(monkeypatch, classifier, 'images/out/pictures/*.jpg', '--out', 'images/out')
    assert said == ('error: images/out/pictures/*.jpg: no file matches but results of '
                    f'{folder}/out')


@pytest.mark.parametrize('arguments, what', [
    (['a.pth'], 'there is no image'), (['a.py', 'b.pth'], 'there is no image'),
    (['a.py'], 'there is no checkpoint'), (['nowhere.pth', '.'], 'nowhere.pth does not exist'),
    (['{0}', 'nowhere.jpg'], 'nowhere.jpg does not exist'),
    (['{0}', 'no*where'], 'no file matches'), (['{0}', '{1}'], 'holds no files'),
    (['{0}', '.', '--threshold', '1.5'], 'from 0 to 1'),
    (['{0}', '.', '--threshold', 'nowhere.json'], 'nowhere.json can not be read'),
    (['{0}', '.', '--batch-size', '0'], '--batch-size 0'),
    (['{0}', '.', '--top-k', '0'], '--top-k 0'),
    (['nowhere.py', '{0}', '.'], 'config nowhere.py does not exist'),
    (['{0}', '.', '--partial'], 'needs the config')])
def test_mistakes_are_told_in_a_line(arguments, what, classifier, tmp_path, monkeypatch):
    (tmp_path / 'empty').mkdir()
    arguments = [a.format(classifier, tmp_path / 'empty') for a in arguments]
    said = command(monkeypatch, *arguments, '--out', tmp_path / 'out')
    assert said.startswith('error: ') and what in said and '\n' not in said
    assert not (tmp_path / 'out').exists()


def test_a_folder_in_use_is_refused(classifier, folder, tmp_path):
    from asl_det.files.identity import hold
    with hold(tmp_path / 'out'), pytest.raises(UserError, match='in use by another process'):
        infer(None, classifier, [str(folder)], out=tmp_path / 'out', device='cpu')


def test_the_checkpoint_of_a_training_is_enough(folder, tmp_path, monkeypatch):
    from small_digits import small_digits

    from asl_det import engine
    cfg = small_digits(tmp_path / 'data')
    cfg.experiment_name = 'infer'
    checkpoint = engine.train(cfg, work_dir=str(tmp_path / 'run'))
    assert command(monkeypatch, checkpoint, folder / 'a.jpg', '--out', tmp_path / 'out') == 0
    assert {p['label'] for p in content(tmp_path / 'out')[0][0]['predictions']} == set('0123456789')


def test_labels_are_ranked_by_logits_whose_scores_are_all_one(classifier, folder, tmp_path,
                                                             monkeypatch):
    content_of = torch.load(classifier, weights_only=False)
    content_of['state_dict']['head.fc.bias'] += 60
    torch.save(content_of, tmp_path / 'high.pth')
    found = {}
    for name, checkpoint in (('plain', classifier), ('high', tmp_path / 'high.pth')):
        assert command(monkeypatch, checkpoint, folder / 'a.jpg', '--out', tmp_path / name) == 0
        found[name] = content(tmp_path / name)
    (plain, _), (high, rows) = found['plain'], found['high']
    ranked, same = (one[0]['predictions'] for one in (plain, high))
    assert [p['label'] for p in ranked] == [p['label'] for p in same] != list(CLASSES)
    assert {p['score'] for p in same} == {1.0}
    assert [p['logit'] for p in same] == pytest.approx([p['logit'] + 60 for p in ranked], abs=1e-4)
    assert [float(row['logit']) for row in rows] == [p['logit'] for p in same]


def test_a_video_that_is_cut_off_is_said(tmp_path):
    path = tmp_path / 'cut.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 5, (64, 48))
    for i in range(40):
        writer.write(photo(64, 48, seed=i))
    writer.release()
    whole = path.read_bytes()
    assert len(list(sources.frames(Picture(str(path), 'cut.avi')))) == 40
    path.write_bytes(whole[:len(whole) // 2])
    seen = []
    with pytest.raises(UnreadableError, match=r'cut.avi: ends after \d+ of 40 frames, cut off'):
        for number, _ in sources.frames(Picture(str(path), 'cut.avi')):
            seen.append(number)
    assert 5 < len(seen) < 30
