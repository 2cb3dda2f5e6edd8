from typing import Any, Dict, List

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from asl_det.compat.weights import load_weights, unwrap, weights_of
from asl_det.errors import UserError
from asl_det.files.text import composed

HINTS = {
    'test': 'give the config that it was trained with; --partial evaluates with what fits',
    'resume': 'give the config that it was trained with; load_from starts a new training from it',
    'load_from': 'give weights of this network, or leave load_from out; --partial starts from what '
                 'fits',
}
TAKE = {'test': 'all', 'resume': 'all', 'load_from': 'body'}


class LoadWeightsHook(Hook):
    """Sees that a checkpoint which the Runner reads is one of this network.

    mmengine itself keeps initial values where nothing fits, with a warning.
    Files of others (``{'model': ...}``, bare state dicts, names of the
    network alone) take mmengine's form before other hooks see them. The
    engine adds this hook.

    Args:
        purpose: 'test' and 'resume' take all weights or none, 'load_from'
            takes all but those of heads that do not fit.
        source: name of the checkpoint, for errors and the log.
        partial: take those that fit, in a test or from ``load_from``.

    Raises:
        UserError: if the weights do not fit, or with ``partial`` none does; in
            a test, if the data set has the checkpoint's classes in another
            order.
    """

    priority = 'VERY_HIGH'  # before EMAHook reads the checkpoint

    def __init__(self, purpose: str, source: str, partial: bool = False) -> None:
        self.purpose = purpose
        self.source = source
        self.partial = partial

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        if self.purpose == 'test':
            self._check_classes(checkpoint.get('meta') or {}, runner.test_loop.dataloader.dataset)
        take_weights(runner.model, checkpoint, self.source, self.purpose, self.partial)

    def _check_classes(self, meta: Dict[str, Any], dataset: Any) -> None:
        """Scores of another order of classes would look like those of a bad network."""
        trained = classes_of(meta)
        names = list(map(composed, getattr(dataset, 'metainfo', {}).get('classes') or ()))
        if trained != names and sorted(trained) == sorted(names):
            raise UserError(f'checkpoint {self.source}: '
                            + in_another_order(trained, names, 'test_dataloader.dataset'))


def classes_of(meta: Any) -> List[str]:
    """The classes that a network was trained on, as mmengine and mmdet 2 note them in ``meta``."""
    noted = (meta if isinstance(meta, dict) else {}).get('dataset_meta') or {}
    trained = noted.get('classes', noted.get('CLASSES')) or ()
    return [] if isinstance(trained, str) else list(map(composed, trained))


def in_another_order(trained: List[str], names: List[str], place: str) -> str:
    """What is wrong with a data set at ``place`` that has the same classes in another order."""
    i = next(i for i, name in enumerate(names) if name != trained[i])
    return (f'it was trained with the classes in another order than {place} has them: class {i} '
            f'was {trained[i]!r}, and is {names[i]!r}: give metainfo=dict(classes=...) in the '
            f'order of the training ({", ".join(trained[:6])}{", ..." if trained[6:] else ""})')


def take_weights(model: nn.Module, checkpoint: Any, source: str, purpose: str,
                 partial: bool = False, quiet: bool = False) -> None:
    """Load a checkpoint into a network as its purpose asks, and bring it to mmengine's form.

    Args:
        model: the network, or a wrapper of it.
        checkpoint: content of the file; changed in place.
        source: its name, for errors and the log.
        purpose: 'test', 'resume' or 'load_from'.
        partial: take what fits.
        quiet: say nothing in the log.

    Raises:
        UserError: if the weights do not fit.
    """
    if purpose == 'resume' and 'meta' not in checkpoint:
        raise UserError(f'checkpoint {source} has weights but no state of a training to resume: '
                        'start a training from it with load_from')
    model, weights = unwrap(model), weights_of(checkpoint, source)
    if 'state_dict' not in checkpoint:
        weights = dict(weights)
        checkpoint.clear()
    if hasattr(model, 'own_names'):
        weights = model.own_names(weights)
    take = 'any' if partial and purpose != 'resume' else TAKE[purpose]
    checkpoint['state_dict'] = load_weights(model, weights, source, take=take, hint=HINTS[purpose],
                                            quiet=quiet)
