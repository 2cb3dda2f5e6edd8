"""Another classification loss in any config, in memory."""

import difflib
import os
from typing import Any, Collection, Dict, List, NamedTuple, Optional, Sequence, Tuple

from mmengine.config import Config, ConfigDict

from asl_det import losses
from asl_det.config.new_style import as_data
from asl_det.config.signatures import arguments
from asl_det.detection.places import Place, ancestry, find_losses, takes_sigmoid
from asl_det.detection.presets import DEFAULT_KINDS, KINDS, PRESETS, Preset, prior_over
from asl_det.errors import UserError
from asl_det.files.text import plain_console
from asl_det.losses import AsymmetricLoss
from asl_det.registry import MODELS, is_type, type_name

# What a head's way of calling its loss depends on stays as the head's config has it.
KEPT = ('loss_weight', 'reduction', 'activated')
# Options that are no arguments of a loss but of a hook beside it.
PRIOR, RISE = 'prior', 'margin_rise'


class Replacement(NamedTuple):
    """One loss in the place of another.

    Attributes:
        path: dotted keys from the model on, e.g. ``bbox_head.loss_cls``.
        kind: kind of the head (:data:`asl_det.detection.KINDS`).
        old, new: configs of the losses.
        prior: probability that the head's classes start at; None: its own.
        margin_rise: share of the training in which the margin rises; None:
            it is there from the start.
    """

    path: str
    kind: str
    old: Dict[str, Any]
    new: Dict[str, Any]
    prior: Optional[float]
    margin_rise: Optional[float]


def swap_losses(cfg: Config,
                loss: str = 'asl',
                where: Optional[Sequence[str]] = None,
                **options: Any) -> List[Replacement]:
    """Replace the classification losses of a config, in place.

    ``loss_weight``, ``reduction`` and ``activated`` stay as they are where
    ``options`` does not say otherwise. The config says everything: dumped and
    run as it is, it gives the same training.

    Args:
        cfg: config with a ``model``.
        loss: a name of :data:`asl_det.detection.PRESETS`, or a registered
            loss, which has its own defaults.
        where: kinds of heads (:data:`asl_det.detection.KINDS`); None: all but
            'rpn' and 'soft'.
        **options: arguments of the loss in the place of the preset's, dots
            reaching into dicts (``{'adaptive.step_size': 0.2}``), and

            ===============  ================================================
            ``prior``        probability that the classes start at, in
                             detectors; None: what the head has. Where a
                             preset has one, 0.02 over the margin
            ``margin_rise``  share of the training in which the margin rises
                             from 0; None: it does not
            ===============  ================================================

    Returns:
        What was replaced.

    Raises:
        UserError: for a name or an option that is not known, a value out of
            range, or if no loss of the config qualifies; then with all
            losses of the config and why each does not.
    """
    where = _check_where(where)
    if not cfg.get('model'):
        raise UserError(f'--loss {loss}: the config has no model')
    places = find_losses(as_data(cfg).model)
    presets = _presets(loss)
    chosen = [(place, place.kind) for place in places if place.kind is not None
              and place.kind in where]
    if not chosen:
        raise UserError(f'--loss {loss}: ' + _nothing(places, where))
    swaps = [_replacement(place, kind, presets[kind], loss, options) for place, kind in chosen]
    for (place, _), swap in zip(chosen, swaps, strict=True):
        place.head[place.key] = ConfigDict(swap.new)
    _set_hooks(cfg, swaps)
    return swaps


def print_swaps(swaps: Sequence[Replacement]) -> None:
    """Print what was replaced, a value a line, in the first of several processes."""
    if os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) != '0':
        return
    equal: Dict[str, List[Replacement]] = {}
    for swap in swaps:
        equal.setdefault(repr(swap[1:]), []).append(swap)  # in the stages of a cascade
    console = plain_console()
    for swap, *others in equal.values():
        for place in (swap, *others):
            console.print(f'model.{place.path} ({place.kind})', soft_wrap=True)
        old, new = (dict(loss, type=type_name(loss)) for loss in (swap.old, swap.new))
        for key in dict.fromkeys((*old, *new)):
            if old.get(key) != new.get(key):
                console.print(f'  {key}: {old.get(key, "-")} -> {new.get(key, "-")}',
                              soft_wrap=True)
        if swap.prior is not None:
            console.print(f'  the probability that classes start at: {swap.prior:g}')
        if swap.margin_rise is not None:
            console.print(f'  the margin rises for {swap.margin_rise:.0%} of the training')


def take_swap(options: Dict[str, Any]) -> Dict[str, Any]:
    """Take the arguments of :func:`swap_losses` out of options of a config.

    Args:
        options: with ``loss``, ``loss_where`` and ``loss_options`` (a dict, or
            ``loss_options.NAME``), all of which are removed.

    Returns:
        The arguments; an empty dict if there is no ``loss``.

    Raises:
        UserError: if there are options of a loss and no loss.
    """
    taken = {key: options.pop(key) for key in list(options)
             if key in ('loss', 'loss_where') or key.split('.')[0] == 'loss_options'}
    loss = taken.pop('loss', None)
    if loss is None:
        if taken:
            raise UserError('--loss-options and --loss-where are of a loss: give --loss too')
        return {}
    where, arguments = taken.pop('loss_where', None), taken.pop('loss_options', None) or {}
    arguments = {**arguments, **{k.partition('.')[2]: v for k, v in taken.items()}}
    return dict(loss=loss, where=where, **arguments)


def _check_where(where: Optional[Sequence[str]]) -> Tuple[str, ...]:
    if where is None:
        return DEFAULT_KINDS
    where = (where,) if isinstance(where, str) else tuple(where)
    for kind in where:
        if kind not in KINDS:
            raise UserError(f'--loss-where {kind}: {_nearest(kind, KINDS)}')
    return where


def _presets(loss: str) -> Dict[str, Preset]:
    """The preset of every kind of head; a loss by its registered name has none of its own."""
    if loss in PRESETS:
        return PRESETS[loss]
    if MODELS.get(loss) is None:
        known = [*PRESETS, *(n for n in MODELS.module_dict if 'Loss' in n)]
        raise UserError(f'--loss {loss}: {_nearest(loss, known, show=list(PRESETS))}, or the name '
                        'of a registered loss')
    preset: Preset = dict(type=loss)
    if 'use_sigmoid' in arguments(MODELS.get(loss))[0]:  # heads read it from the config
        preset['use_sigmoid'] = takes_sigmoid(preset)
    return dict.fromkeys(KINDS, preset)


def _replacement(place: Place, kind: str, preset: Preset, loss: str,
                 options: Dict[str, Any]) -> Replacement:
    new = dict(preset, type=_our_type(preset['type']))
    known = arguments(MODELS.get(new['type']))[0]
    kept = {key: place.loss[key] for key in KEPT if key in place.loss}
    for key in kept:
        if key not in known:
            raise UserError(f'--loss {loss}: {place.path} needs {key}={kept[key]}, and '
                            f'{new["type"]} has no {key}')
    new.update(kept)
    allowed = [*known, PRIOR]
    if _is_ours(new['type']):
        allowed.append(RISE)
    for key in options:
        if key.split('.')[0] not in allowed:
            raise UserError(f'--loss-options {key}: {new["type"]} ({place.path}) has no such '
                            f'option; {_nearest(key, allowed)}')
    merged = Config(new)
    merged.merge_from_dict(options)
    new = merged.to_dict()
    prior, rise = new.pop(PRIOR, None), new.pop(RISE, None)
    _check_share(PRIOR, prior, below_one=True)
    _check_share(RISE, rise, below_one=False)
    if rise is not None and not new.get('clip'):
        raise UserError(f'--loss-options {RISE}={rise}: there is no margin to rise: give a clip')
    _check_contract(place, new, loss)
    if prior is not None and PRIOR not in options:
        prior = prior_over(new['clip'])
    return Replacement(place.path, kind, dict(place.loss), new, prior, rise)


def _check_contract(place: Place, new: Dict[str, Any], loss: str) -> None:
    """Raise UserError if the loss can not be built, or not stand at its place."""
    try:
        built = MODELS.build(dict(new))
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f'--loss {loss}: {place.path}: {error}') from error
    sigmoid = getattr(built, 'use_sigmoid', None)
    if place.kind == 'roi':
        if sigmoid and not getattr(built, 'custom_cls_channels', False):
            raise UserError(f'--loss {loss}: {place.path} ({type_name(place.head)}) predicts '
                            f'softmax with background, and {type_name(new)} does not tell it '
                            'otherwise (get_cls_channels, get_activation): use '
                            'RoIAsymmetricLoss')
    elif place.kind != 'multilabel' and not sigmoid and takes_sigmoid(place.loss):
        raise UserError(f'--loss {loss}: {place.path} ({type_name(place.head)}) is a head of '
                        f'independent classes, and {type_name(new)} has no use_sigmoid=True')


def _check_share(name: str, value: Any, below_one: bool) -> None:
    if value is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value <= 1 or (below_one and value == 1):
        raise UserError(f'--loss-options {name}={value!r}: expected a number above 0 and '
                        + ('below 1' if below_one else 'up to 1'))


def _set_hooks(cfg: Config, swaps: List[Replacement]) -> None:
    """Hooks for the start of the heads and for the margin, in the place of earlier ones."""
    priors: Dict[str, Optional[float]] = {}
    for swap in swaps:
        if swap.kind != 'multilabel':
            head = swap.path.rpartition('.')[0].removeprefix('detector.')  # of semi-supervision
            if head.split('.')[0] == 'rpn_head' and 'RPN' in ancestry(cfg.model):
                head = head.replace('rpn_head', 'bbox_head', 1)  # as that detector calls it
            priors[head] = swap.prior if swap.prior is not None else priors.get(head)
    hooks = []
    for hook in cfg.get('custom_hooks') or []:
        if is_type(hook, 'RisingMarginHook'):
            continue
        if is_type(hook, 'ClassifierPriorHook'):
            hook = dict(hook, heads=[h for h in hook['heads'] if h not in priors])
            if not hook['heads']:
                continue
        hooks.append(hook)
    for prior in dict.fromkeys(p for p in priors.values() if p is not None):
        hooks.append(dict(type='ClassifierPriorHook', prior=prior,
                          heads=[h for h, p in priors.items() if p == prior]))
    rises = {swap.margin_rise for swap in swaps} - {None}
    hooks += [dict(type='RisingMarginHook', share=share) for share in rises]
    if hooks or cfg.get('custom_hooks'):
        cfg.custom_hooks = hooks
    if any(swap.new.get('adaptive') for swap in swaps):  # under mmdet's own tools/train.py too
        cfg.default_hooks = dict(cfg.get('default_hooks') or {},
                                 adaptive_gamma=dict(type='AdaptiveGammaHook'))


def _our_type(name: str) -> str:
    """The name of a loss; the path of one of ours whose name is left to another package."""
    ours = getattr(losses, name, None)
    registered = MODELS.module_dict.get(name)
    return name if ours in (None, registered) else f'{ours.__module__}.{name}'


def _is_ours(kind: str) -> bool:
    return issubclass(MODELS.get(kind), AsymmetricLoss)


def _nearest(word: str, known: Collection[str], show: Optional[Sequence[str]] = None) -> str:
    near = difflib.get_close_matches(word, known, 1, 0.5)
    return (f'did you mean {near[0]}? ' if near else '') + 'known: ' + ', '.join(show or known)


def _nothing(places: List[Place], where: Sequence[str]) -> str:
    """Why no loss of a config is replaced, in one line."""
    if not places:
        return 'the model of the config has no loss'
    reasons: Dict[str, List[str]] = {}
    for place in sorted(places, key=lambda place: not str(place.key).endswith('loss_cls')):
        why = place.why or (f'a {place.kind} head, which --loss-where {place.kind} asks for')
        reasons.setdefault(why, []).append(f'{place.path} {type_name(place.loss)}')
    return (f'the config has no classification loss to replace in {", ".join(where)} heads: '
            + '; '.join(f'{", ".join(names)} ({why})' for why, names in reasons.items()))
