"""Say what is installed, which path of the loss runs here and why, and what to install.

    asl-det env
"""

import argparse
import textwrap
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Iterator, List, Optional, Tuple

# What a part of OpenMMLab is installed as, in the two stacks that this package runs on.
STACKS = {'openmmlab': ('mmdet', 'mmengine', 'mmcv', 'mmcv-lite'),
          'onedl': ('onedl-mmdetection', 'onedl-mmengine', 'onedl-mmcv')}
# Module -> what installs it, and what needs it.
OPTIONAL = {'timm': ('multilabel', 'classifiers with a backbone of timm'),
            'onnxscript': ('export', 'asl-det export'),
            'onnxruntime': ('export', 'asl-det export'),
            'gradio': ('demo', 'asl-det demo')}
INSTALL = 'pip install "asl-det[{}]"'
Line = Tuple[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(args: argparse.Namespace) -> None:
    for name, text in (*_versions(), *_operators(), *_loss(), *_missing()):
        print(textwrap.fill(text, 80, initial_indent=f'{name:16}', subsequent_indent=' ' * 16,
                            break_long_words=False, break_on_hyphens=False))


def _versions() -> Iterator[Line]:
    import platform

    import torch

    from asl_det.version import __version__
    yield 'asl_det', __version__
    yield 'python', f'{platform.python_version()}, {platform.system()} {platform.machine()}'
    gpus = [f'cuda:{i} {torch.cuda.get_device_name(i)}' for i in range(torch.cuda.device_count())]
    yield 'torch', (f'{torch.__version__}, {", ".join(gpus) or "no GPU"}, '
                    f'{torch.get_num_threads()} CPU threads')
    yield 'torchvision', _version('torchvision') or 'not installed'
    found = {stack: [f'{name} {_version(name)}' for name in names if _version(name)]
             for stack, names in STACKS.items()}
    parts = [f'{stack}: {", ".join(names)}' for stack, names in found.items() if names]
    yield 'stack', '; '.join(parts) or ('none: the loss alone works; for the rest: '
                                        + INSTALL.format('openmmlab'))


def _operators() -> Iterator[Line]:
    """Which of mmcv's compiled operators are ours."""
    if not all(map(find_spec, ('mmcv', 'mmengine'))):
        return
    from mmcv.utils import ext_loader
    if ext_loader.check_ops_exist():
        yield 'operators', 'compiled, of mmcv'
        return
    from asl_det.compat import mmcv_ext
    names = dict.fromkeys(name.partition('_forward')[0].partition('_backward')[0]
                          for name, value in vars(mmcv_ext).items()
                          if getattr(value, '__module__', '').startswith('asl_det.compat.ops.')
                          and name != 'missing')
    yield 'operators', 'stand-ins on torchvision, as mmcv has no compiled ones: ' + ', '.join(names)
    yield '', 'others raise when they are called; compiled ones: install mmcv with them'


def _loss() -> Iterator[Line]:
    """Which path of the loss runs on each device."""
    import torch

    from asl_det.losses.backends import native
    try:
        yield 'loss, CPU', f'the compiled pass ({native.library()._name})'
    except (native.Unavailable, OSError) as error:
        yield 'loss, CPU', f'the slower path in torch: {error}'
    for i in range(torch.cuda.device_count()):
        problem = _triton_problem(torch.device('cuda', i))
        yield f'loss, cuda:{i}', ('the kernels in Triton' if problem is None
                                  else f'the slower path in torch: {problem}')


def _triton_problem(device: object) -> Optional[str]:
    try:
        from asl_det.losses.backends import triton
    except ImportError as error:
        return f'Triton can not be imported ({error})'
    return triton.problem(device)


def _missing() -> List[Line]:
    return [('not installed', f'{name}, for {what}: {INSTALL.format(extra)}')
            for name, (extra, what) in OPTIONAL.items() if find_spec(name) is None]


def _version(name: str) -> Optional[str]:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
