"""What a preflight looks at: a config, a checkpoint, and what is to be done with them."""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from mmengine.config import Config
from mmengine.registry import init_default_scope

from asl_det.config.walk import open_wrappers, outermost
from asl_det.registry import DATASETS, without_pipeline

# The data of a config that is read for each purpose.
SPLITS = {'train': ('train', 'val'), 'resume': ('train', 'val'), 'test': ('test',),
          'labels': ('train',), 'check': ('train', 'val', 'test')}


@dataclass
class Run:
    """A command that is about to start.

    Attributes:
        cfg: the config with all options. Checks do not change it.
        config: how the command names it, for messages.
        purpose: 'train', 'resume', 'test', 'labels' (of the training data alone) or 'check'
            (everything).
        checkpoint: file or URL that is tested or resumed, or None.
        work_dir: folder of the run, or None.
        thorough: look at everything that takes long, every image, too.
        outputs: flags that name what is written, ``--out`` and ``--show``, and their paths.
        partial: a checkpoint may fit in part.
        anyway: a resumed training may differ from what it was.
        memo: what checks share, so that it is read or built once.
    """

    cfg: Config
    config: str
    purpose: str
    checkpoint: Optional[str] = None
    work_dir: Optional[str] = None
    thorough: bool = False
    outputs: Dict[str, str] = field(default_factory=dict)
    partial: bool = False
    anyway: bool = False
    memo: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def loaders(self) -> List[Tuple[str, Dict[str, Any]]]:
        """Dotted key and config of every data loader that is used; equal ones once."""
        found: List[Tuple[str, Dict[str, Any]]] = []
        for split in SPLITS[self.purpose]:
            loader = self.cfg.get(f'{split}_dataloader')
            for place, node in outermost(loader, f'{split}_dataloader'):
                if all(node != other for _, other in found):
                    found.append((place, node))
        return found

    def splits(self) -> List[Tuple[str, Dict[str, Any]]]:
        """Dotted key and config of every data set that is used, wrappers opened; equal ones once.

        ``('train_dataloader.dataset.datasets.0', dict(type='CocoDataset', ...))``; the key begins
        with the split.
        """
        found: List[Tuple[str, Dict[str, Any]]] = []
        for split in SPLITS[self.purpose]:
            for place, dataset in self.data_sets(split):
                if all(dataset != other for _, other in found):
                    found.append((place, dataset))
        return found

    def data_sets(self, split: str) -> List[Tuple[str, Dict[str, Any]]]:
        """The same for one split, used or not, with its repetitions."""
        key = f'{split}_dataloader'
        return [found for place, loader in outermost(self.cfg.get(key), key)
                for found in open_wrappers(f'{place}.dataset', loader.get('dataset'))]

    def load(self, place: str, dataset: Dict[str, Any], lazy: bool = False) -> Any:
        """The data set of a config, without its pipeline; loaded once.

        Args:
            place: its dotted key.
            dataset: its config.
            lazy: its class names and other arguments are enough.

        Returns:
            The data set, or None if it can not be loaded: other checks say why.
        """
        key = f'{place} {lazy}'
        if key not in self.memo:
            init_default_scope(self.cfg.get('default_scope') or 'mmdet')
            self.memo[key] = None
            for options in (dict(lazy_init=True), {}) if lazy else ({},):
                with suppress(Exception):  # not every class has a choice
                    self.memo[key] = DATASETS.build(without_pipeline(dataset, **options))
                    break
        return self.memo[key]

    def forget(self) -> None:
        """Data sets are loaded anew after the config was changed."""
        self.memo.clear()

    def evaluators(self) -> List[Tuple[str, Dict[str, Any]]]:
        """Dotted key and config of every metric that is used; equal ones once."""
        found: List[Tuple[str, Dict[str, Any]]] = []
        for split in SPLITS[self.purpose]:
            for place, node in self.metrics(split):
                if all(node != other for _, other in found):
                    found.append((place, node))
        return found

    def metrics(self, split: str) -> List[Tuple[str, Dict[str, Any]]]:
        """The same for one split, with its repetitions; evaluators of several are opened."""
        place, node = f'{split}_evaluator', self.cfg.get(f'{split}_evaluator')
        if isinstance(node, dict) and 'metrics' in node:
            place, node = f'{place}.metrics', node['metrics']
        return list(outermost(node, place))


