"""What the last step of a pipeline hands over, against what network and metrics read."""

import copy
import inspect
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set

from mmcv.transforms import TestTimeAug
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseTTAModel
from mmengine.registry import FUNCTIONS

from asl_det.config.walk import open_wrappers, wrapped
from asl_det.multilabel import MultiLabelClassifier
from asl_det.preflight.finding import Finding
from asl_det.preflight.parts import INSIDE
from asl_det.preflight.run import Run
from asl_det.preflight.steps import describe
from asl_det.registry import METRICS, MODELS, lookup, type_name

# What metrics read of every image, and can not do without.
OF_IMAGES = {'CocoMetric': ('img_id', 'ori_shape'), 'CrowdHumanMetric': ('img_id', 'ori_shape'),
             'CocoPanopticMetric': ('img_id', 'img_path', 'ori_shape'),
             'OpenImagesMetric': ('instances',), 'CityScapesMetric': ('img_path',)}


def check_packed(run: Run, place: str, loader: Dict[str, Any], samples: List[Any]
                 ) -> Iterator[Finding]:
    """Whether samples of a loader are what network and metrics read.

    Args:
        run: with the network and the metrics.
        place: dotted key of the loader.
        loader: its config.
        samples: a few of its samples.
    """
    kind = _class(MODELS, run.cfg.get('model'))
    detector = any(c.__name__ == 'BaseDetector' for c in inspect.getmro(kind))
    where, last = _last_step(place, loader)
    last_kind = lookup(INSIDE['pipeline'], last) if last else None
    if inspect.isclass(last_kind) and issubclass(last_kind, TestTimeAug) \
            and not issubclass(kind, BaseTTAModel):
        yield Finding('pipeline', f'{run.config}: {where}', f'{type_name(last)} makes '
                      f'several versions of an image, which {kind.__name__} does not take: end '
                      'the pipeline with PackDetInputs, and give this one as tta_pipeline with '
                      'tta_model (asl-det test --tta)')
        return
    pack = 'PackMultiLabel' if issubclass(kind, MultiLabelClassifier) else 'PackDetInputs'
    if (detector or issubclass(kind, MultiLabelClassifier)) and not (
            isinstance(samples[0], dict) and 'inputs' in samples[0]):
        yield Finding('pipeline', f'{run.config}: {where}', 'is the last step, and hands over no '
                      f"'inputs' ({_contents(samples[0])}): end the pipeline with {pack}")
        return
    findings = []
    if detector and not place.startswith('train'):
        findings = list(_check_sample(run, place, where, samples[0]))
    yield from findings or _check_batch(run, place, loader, samples, where if detector else '')


def _class(registry: Any, node: Any) -> type:
    kind = lookup(registry, node) if isinstance(node, dict) and 'type' in node else None
    return kind if inspect.isclass(kind) else object


def _last_step(place: str, loader: Dict[str, Any]) -> Any:
    """Key and config of the last step of the outermost pipeline; the loader's own without any."""
    node, key = loader['dataset'], f'{place}.dataset'
    while not node.get('pipeline') and wrapped(node):
        key, node = next(iter(open_wrappers(key, node)))
    steps = node.get('pipeline') or ()
    if steps and isinstance(steps[-1], dict) and 'type' in steps[-1]:
        return f'{key}.pipeline.{len(steps) - 1} {type_name(steps[-1])}', steps[-1]
    return f'{key}.pipeline', None


def _contents(sample: Any) -> str:
    return ', '.join(map(str, list(sample)[:6])) if isinstance(sample, dict) else type(
        sample).__name__


def _check_sample(run: Run, place: str, where: str, sample: Dict[str, Any]) -> Iterator[Finding]:
    """What heads and metrics read of an image."""
    found = sample.get('data_samples')
    if type(found).__name__ != 'DetDataSample':  # several branches, tracks
        return
    metrics = run.metrics(place.partition('_')[0])
    known = set(found.metainfo_keys())
    for reader, keys in _readers(run, metrics, known):
        lacking = [key for key in keys if key not in known]
        if lacking:
            hint = ' (Resize makes it)' if lacking == ['scale_factor'] else ''
            yield Finding('pipeline', f'{run.config}: {where}', f'hands over no '
                          f'{", ".join(lacking)}, which {reader} reads of every image: add it to '
                          f'meta_keys, and a step that makes it{hint}, if there is none')
    truth = found.get('gt_instances')
    for _, metric in metrics:
        name = type_name(metric)
        if 'VOCMetric' in _names(METRICS, metric) and (truth is None or 'bboxes' not in truth):
            yield Finding('pipeline', f'{run.config}: {where}', f'hands over no boxes, which '
                          f'{name} compares with: put LoadAnnotations(with_bbox=True) into the '
                          'pipeline')


def _lacking(model: Dict[str, Any], sample: Any) -> Optional[Sequence[str]]:
    """What a detector would learn from and does not get, and the step that loads it."""
    heads = {**(model.get('roi_head') or {}), **{k: v for k, v in model.items() if v}}
    truth = sample.get('gt_instances')
    if 'bbox_head' in heads and (truth is None or 'bboxes' not in truth or 'labels' not in truth):
        return 'boxes', 'LoadAnnotations(with_bbox=True)'
    if heads.get('mask_head') and (truth is None or 'masks' not in truth):
        return 'masks', 'LoadAnnotations(with_bbox=True, with_mask=True)'
    if heads.get('semantic_head') and 'gt_sem_seg' not in sample:
        return 'gt_sem_seg', 'LoadAnnotations(with_seg=True), or LoadPanopticAnnotations,'
    return None


def _readers(run: Run, metrics: Any, known: Set[str]) -> Iterator[Any]:
    """Who reads which keys of an image, of which some are known."""
    for _, metric in metrics:
        names = _names(METRICS, metric)
        keys = next((OF_IMAGES[name] for name in names if name in OF_IMAGES), ())
        if 'CocoMetric' in names and not metric.get('ann_file'):
            keys = (*keys, 'instances')
        yield type_name(metric), keys
    model = run.cfg.model
    if model.get('bbox_head') or model.get('roi_head'):
        # Corners and centers are scaled by what RandomCenterCropPad notes.
        yield f'the head of {type_name(model)}', ('img_shape', 'ori_shape') + (
            () if 'border' in known else ('scale_factor',))


def _names(registry: Any, node: Dict[str, Any]) -> List[str]:
    return [c.__name__ for c in inspect.getmro(_class(registry, node))]


def _check_batch(run: Run, place: str, loader: Dict[str, Any], samples: List[Any], last: str
                 ) -> Iterator[Finding]:
    """The collate function and the network's data preprocessor take a batch of the samples."""
    where, size = f'{run.config}: {place}', loader.get('batch_size', 1)
    batch = samples[:size] if isinstance(size, int) and size > 0 else samples
    collate = copy.deepcopy(loader.get('collate_fn'))
    try:
        if isinstance(collate, dict):
            name = collate.pop('type')
            function = FUNCTIONS.get(name) if isinstance(name, str) else name
            batch = function(batch, **collate)
        else:
            batch = (collate or pseudo_collate)(batch)
    except Exception as error:
        yield Finding('batch', f'{where}.collate_fn', f'can not make a batch of {len(batch)} '
                      f'samples ({describe(error)})')
        return
    node = (run.cfg.get('model') or {}).get('data_preprocessor')
    try:
        preprocessor = MODELS.build(_without_augments(node)) if node else None
    except Exception:  # said by the check of the model
        return
    if preprocessor is not None:
        try:
            batch = preprocessor(batch, place.startswith('train'))
        except Exception as error:
            yield Finding('batch', f'{run.config}: model.data_preprocessor',
                          f'{type_name(node)} can not take a batch of {place} '
                          f'({describe(error)})', error=type(preprocessor).__module__.startswith(
                              ('mmdet.', 'mmengine.', 'asl_det.')))
            return
    if last and place.startswith('train'):
        yield from _check_truth(run, last, batch)


def _without_augments(node: Dict[str, Any]) -> Dict[str, Any]:
    """A preprocessor without what depends on the step of the training."""
    return {key: _without_augments(value) if isinstance(value, dict) else copy.deepcopy(value)
            for key, value in node.items() if key != 'batch_augments'}


def _check_truth(run: Run, where: str, batch: Any) -> Iterator[Finding]:
    """Boxes and masks to learn from; some networks' preprocessors make the masks themselves."""
    samples = batch.get('data_samples') if isinstance(batch, dict) else None
    if isinstance(samples, (list, tuple)) and type(samples[0]).__name__ == 'DetDataSample':
        model = run.cfg.model
        lacking = _lacking(model, samples[0])
        if lacking:
            yield Finding('pipeline', f'{run.config}: {where}', f'hands over no {lacking[0]}, '
                          f'which {type_name(model)} learns from: put {lacking[1]} into the '
                          'pipeline')
