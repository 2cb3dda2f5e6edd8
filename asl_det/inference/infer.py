"""Run a network over pictures, draw them, and keep what it says."""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
from rich.progress import Progress

from asl_det.compat.weights import hash_weights
from asl_det.config.run_identity import data_of
from asl_det.files.code import code_of
from asl_det.files.identity import as_plain, hash_file
from asl_det.files.whole import require_output
from asl_det.inference.multilabel import MultiLabelInferencer
from asl_det.inference.opening import ConfigLike, Opened, open_checkpoint
from asl_det.inference.pipeline import UnreadableError, batches, pipeline_of
from asl_det.inference.sources import Picture, find_pictures, frames, video_facts
from asl_det.inference.store import Store
from asl_det.multilabel.classifier import is_classifier
from asl_det.multilabel.thresholds import Thresholds, span


@dataclass
class Summary:
    """What a run did.

    Attributes:
        done: pictures (and frames) of which results are kept.
        computed: those of this run.
        redrawn: those of this run that had been computed, with other
            thresholds.
        predicted: in a sentence, from which score on, why, and how many are.
        unreadable: a line for every file that could not be read.
        folder: of drawings, ``predictions.json`` and ``predictions.csv``.
        left_out: folders of results that lie among the pictures.
    """

    done: int
    computed: int
    redrawn: int
    predicted: str
    unreadable: List[str]
    folder: Path
    left_out: Sequence[str] = ()


def build_inferencer(opened: Opened, device: Optional[str] = None,
                     thresholds: Union[Thresholds, float, None] = None) -> Any:
    """The inferencer for a checkpoint's network: of a classifier, or else of a detector."""
    if is_classifier(opened.cfg.model):
        return MultiLabelInferencer(opened, device=device, thresholds=thresholds)
    from asl_det.inference.detection import DetInferencer  # imports mmdet's models
    return DetInferencer(opened, device=device, thresholds=thresholds)


def infer(config: Optional[ConfigLike], checkpoint: str, inputs: Sequence[str], *,
          out: Union[str, Path], thresholds: Union[Thresholds, float, None] = None,
          top_k: Optional[int] = None, device: Optional[str] = None, batch_size: int = 8,
          partial: bool = False, anew: bool = False) -> Summary:
    """Predict, draw and keep every picture that is asked for and not finished.

    Args:
        config: None for the one in the checkpoint.
        checkpoint: file or URL.
        inputs: files, folders, patterns, videos or URLs.
        out: folder for the results.
        thresholds: see the inferencers; by default those that the checkpoint has.
        top_k: of a classifier, how many classes are listed and drawn besides
            those that are predicted (10); of a detector, how many boxes at
            most (all).
        device: e.g. 'cuda:0'.
        batch_size: pictures of one shape that are computed together.
        partial: see :func:`open_checkpoint`.
        anew: put results that were made with something else aside.

    Raises:
        UserError: for a checkpoint, config, input or folder that can not be
            used; not for a picture that can not be read.
    """
    require_output(out, folder=True)
    pictures, left_out = find_pictures(inputs, out)
    opened = open_checkpoint(config, checkpoint, partial)
    inferencer = build_inferencer(opened, device, thresholds)
    with Store(out, _made_with(opened, inferencer.thresholds), anew) as store:
        summary = _Run(inferencer, store, top_k, batch_size).over(pictures)
    return replace(summary, left_out=left_out)


def _made_with(opened: Opened, thresholds: Thresholds) -> Dict[str, Any]:
    """What decides about the scores of a picture."""
    content, pipeline = opened.cfg.to_dict(), pipeline_of(opened.cfg)
    path = os.path.expanduser(opened.source)
    # Behind a URL, as in a file, other weights may come to lie.
    return as_plain(dict(
        checkpoint=hash_file(path) if os.path.isfile(path) else
        f'{opened.source}, weights {hash_weights(opened.weights)}',
        classes=opened.classes, config=dict(model=content['model'], pipeline=pipeline),
        data=data_of(dict(model=content['model'],
                          test_dataloader=dict(dataset=dict(pipeline=pipeline))), {}),
        calibration={k: v for k, v in thresholds.to_dict().items()
                     if k not in ('global', 'classes', 'source')}, code=code_of(content)))


class _Run:

    def __init__(self, inferencer: Any, store: Store, top_k: Optional[int],
                 batch_size: int) -> None:
        self.inferencer = inferencer
        self.store = store
        self.top_k = top_k
        self.batch_size = batch_size
        self.unreadable: List[str] = []
        self.computed = self.redrawn = 0
        decided = [inferencer.thresholds.of(inferencer.classes), top_k]
        self.drawn_with = hashlib.sha256(json.dumps(decided).encode()).hexdigest()[:12]

    def over(self, pictures: Sequence[Picture]) -> Summary:
        total = sum(video_facts(p)[0] if p.is_video else 1 for p in pictures)
        try:
            with Progress() as self.progress:
                self.task = self.progress.add_task('pictures', total=total)
                for batch in batches(self._todo(pictures), self.batch_size):
                    self._compute(batch)
            for picture in pictures:
                if picture.is_video:
                    self._assemble(picture)
        finally:  # also of a run that is interrupted
            inferencer = self.inferencer
            self.store.finish(inferencer.as_json, inferencer.as_rows)
        return Summary(sum(1 for _ in self.store.records()), self.computed, self.redrawn,
                       self._predicted(), self.unreadable, self.store.folder)

    def _predicted(self) -> str:
        found = [entry['predicted'] for record in self.store.records()
                 for entry in record['result']]
        least = span(self.inferencer.thresholds.of(self.inferencer.classes))
        return (f'{sum(found)} of {len(found)} {self.inferencer.units} are predicted: from the '
                f'score {least} on, {self.inferencer.why}')

    def _todo(self, pictures: Sequence[Picture]) -> Iterator[Dict[str, Any]]:
        """Inputs of the network, with ``origin``: picture, frame and image in BGR."""
        for picture in pictures:
            try:
                for frame, source in frames(picture) if picture.is_video else [(None, None)]:
                    kept = self.store.find(picture, frame)
                    if kept is not None and kept['drawn_with'] == self.drawn_with:
                        self.progress.advance(self.task)
                        continue
                    pipeline = self.inferencer.pipeline
                    loaded = pipeline.load(picture.path if source is None else source)
                    sample = kept and self.inferencer.restore(kept)
                    if sample is not None:
                        self._keep(picture, frame, loaded['img'], sample)
                        self.redrawn += 1
                        continue
                    yield dict(pipeline.prepare(loaded), origin=(picture, frame, loaded['img']))
            except UnreadableError as error:
                self.unreadable.append(str(error))
                self.progress.advance(self.task)

    def _compute(self, batch: List[Dict[str, Any]]) -> None:
        origins: List[Tuple[Picture, Optional[int], np.ndarray]] = [i.pop('origin') for i in batch]
        samples = self.inferencer.forward(self.inferencer.collate_fn(batch))
        for (picture, frame, image), sample in zip(origins, samples, strict=True):
            self._keep(picture, frame, image, sample)
            self.computed += 1

    def _keep(self, picture: Picture, frame: Optional[int], image: np.ndarray,
              sample: Any) -> None:
        result = self.inferencer.result(sample, self.top_k)
        drawn = self.inferencer.picture(image, sample, self.top_k)
        more = dict(self.inferencer.kept(sample), drawn_with=self.drawn_with)
        self.store.add(picture, frame, drawn, result, more)
        self.progress.advance(self.task)

    def _assemble(self, picture: Picture) -> None:
        """A video of the drawn frames, if one is missing or older than a frame."""
        folder = self.store.folder
        drawn = [folder / record['drawn'] for record in self.store.of(picture)]
        target = folder / self.store.drawn_name(picture)
        if not drawn or (target.exists() and target.stat().st_mtime_ns
                         >= max(p.stat().st_mtime_ns for p in drawn)):
            return
        first: Any = cv2.imread(str(drawn[0]))
        height, width = first.shape[:2]
        partial = target.with_name(f'{target.stem}.partial.mp4')
        video = cv2.VideoWriter(str(partial), cv2.VideoWriter.fourcc(*'mp4v'),
                                video_facts(picture)[1], (width, height))
        for path in sorted(drawn):
            frame: Any = cv2.imread(str(path))
            video.write(frame)
        video.release()
        partial.replace(target)
