"""What a preflight looks at: a config, a checkpoint, and what is to be done with them."""

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Tuple

from mmengine.config import Config

# The data of a config that is read for each purpose.
SPLITS = {'train': ('train', 'val'), 'resume': ('train', 'val'), 'test': ('test',),
          'check': ('train', 'val', 'test')}


@dataclass
class Run:
    """A command that is about to start.

    Attributes:
        cfg: the config with all options. Checks do not change it.
        config: how the command names it, for messages.
        purpose: 'train', 'resume', 'test' or 'check' (all of them).
        checkpoint: file or URL that is tested or resumed, or None.
        work_dir: folder of the run, or None.
        thorough: look at everything that takes long, every image, too.
    """

    cfg: Config
    config: str
    purpose: str
    checkpoint: Optional[str] = None
    work_dir: Optional[str] = None
    thorough: bool = False

    def loaders(self) -> List[Tuple[str, Dict[str, Any]]]:
        """Dotted key and config of every data loader that is used; equal ones once."""
        found: List[Tuple[str, Dict[str, Any]]] = []
        for split in SPLITS[self.purpose]:
            loader = self.cfg.get(f'{split}_dataloader')
            for place, node in _items(f'{split}_dataloader', loader):
                if all(node != other for _, other in found):
                    found.append((place, node))
        return found

    def splits(self) -> List[Tuple[str, Dict[str, Any]]]:
        """Dotted key and config of every data set that is used, wrappers opened; equal ones once.

        ``('train_dataloader.dataset.datasets.0', dict(type='CocoDataset', ...))``; the key begins
        with the split.
        """
        found: List[Tuple[str, Dict[str, Any]]] = []
        for place, loader in self.loaders():
            for inner, dataset in open_wrappers(f'{place}.dataset', loader.get('dataset')):
                if all(dataset != other for _, other in found):
                    found.append((inner, dataset))
        return found

    def evaluators(self) -> List[Tuple[str, Dict[str, Any]]]:
        """Dotted key and config of every metric that is used; equal ones once."""
        found: List[Tuple[str, Dict[str, Any]]] = []
        for split in SPLITS[self.purpose]:
            for place, node in _items(f'{split}_evaluator', self.cfg.get(f'{split}_evaluator')):
                if all(node != other for _, other in found):
                    found.append((place, node))
        return found


def open_wrappers(place: str, node: Any) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """The data sets inside RepeatDataset, ConcatDataset and the like, at any depth."""
    for where, dataset in _items(place, node):
        inner = [key for key in ('dataset', 'datasets') if isinstance(dataset.get(key),
                                                                     (dict, list, tuple))]
        if not inner:
            yield where, dataset
        for key in inner:
            yield from open_wrappers(f'{where}.{key}', dataset[key])


def _items(place: str, node: Any) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """The dicts of a dict or a list of dicts."""
    if isinstance(node, dict):
        yield place, node
    elif isinstance(node, (list, tuple)):
        for i, item in enumerate(node):
            yield from _items(f'{place}.{i}', item)
