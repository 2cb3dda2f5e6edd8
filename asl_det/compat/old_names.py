"""Modules of asl_det 0.1 by the names that they had then.

Configs that mmengine dumped, checkpoints and people's own code name them:
``type='asl_det.hooks.guard.GuardHook'``. Importing one gives the module that
has its content now, with a warning.
"""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Optional

# Packages, whose modules kept their names but for those that stand here too.
OLD = {
    'analysis.suggest': 'experiments.suggest', 'analysis.sweep': 'experiments.figures',
    'analysis.sweep_table': 'experiments.table', 'datasets': 'data', 'export': 'inference.export',
    'hooks': 'training.hooks', 'hooks.adaptive_gamma': 'training.hooks.accumulation',
    **dict.fromkeys(('hooks.curves', 'hooks.drawing', 'hooks.multilabel_pictures'),
                    'training.hooks.drawing'),
    'identity': 'files.identity', 'inference.run': 'inference.infer', 'loops': 'training.loops',
    'multilabel.datasets.base': 'multilabel.datasets.dataset', 'overrides': 'config.options',
    'package_weights': 'compat.package_weights', 'schedules': 'training.schedules',
    'sweep': 'experiments.sweep', 'thresholds': 'multilabel.thresholds',
    'weights': 'compat.weights',
}


class _Alias(MetaPathFinder, Loader):
    """Finds the old names, before the folders that a clone may still have of them."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        return ModuleSpec(name, self) if new_name(name) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = new_name(spec.name)
        warnings.warn(f'{spec.name} is {new} now', FutureWarning, stacklevel=2)
        module = import_module(new)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # importlib has set that of the old name


def new_name(name: str) -> Optional[str]:
    """What a module is called now; None for a name that is none of the old ones."""
    package, _, inside = name.partition('.')
    if package != 'asl_det' or not inside:
        return None
    parent, _, last = inside.rpartition('.')
    found = OLD.get(inside) or (parent in ('hooks', 'datasets') and f'{OLD[parent]}.{last}')
    return f'asl_det.{found}' if found else None


def install() -> None:
    """Put the old names before every other finder of ``sys.meta_path``."""
    if not any(isinstance(finder, _Alias) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Alias())
