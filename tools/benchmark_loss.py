"""Time and memory of the asymmetric loss against other losses, side by side.

First every path of ours is checked against float64; nothing is timed if one is
wrong. Then all contenders run in one process, one after the other in every
round, and a row is the median of its per-round ratios. Absolute times depend on
the machine; ratios are what to read. On a GPU the clock is its own, behind work that clears its
cache while the host prepares the step; steps below 131,072 entries, which a launch bounds, are
timed by the host everywhere. "copy / this" is the share of the copy bandwidth for the bytes that
have to move: logits in, gradient out.
"""

import argparse
import ctypes
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional

import torch
import torch.nn.functional as F
import torchvision
from benchmark_table import benchmark_table, plot_benchmark
from rich.console import Console
from rich.table import Table

import asl_det  # noqa: F401  makes mmdet.models importable
from asl_det.commands.command_line import one_line_errors
from asl_det.errors import UserError
from asl_det.files.code import versions
from asl_det.files.reading import read_json
from asl_det.files.whole import require_output, write_whole
from asl_det.losses import AsymmetricLoss, asymmetric_loss

SHAPES = {  # name: rows, classes, kind of target
    'small': (128, 80, 'dense'),
    'wide': (64, 9605, 'dense'),
    'fcos': (44_000, 80, 'index'),
    'retinanet': (200_000, 80, 'index'),
    'coco': (400_000, 80, 'index'),  # for GPUs: on a CPU as retinanet
    'lvis': (100_000, 1203, 'index'),
    'single': (1_600_000, 1, 'index'),
}
LOGITS = {  # name: mean, standard deviation; the share over the margin 0.05 in the table
    'init': (-4.6, 0.1),
    'trained': (-6.125, 1.5),
    'wide': (0.0, 2.0),
}
GAMMA_NEG, GAMMA_POS = 4, 0
SMALL = 1 << 17  # entries
CACHE = 1 << 28  # bytes, more than a GPU's cache
Step = Callable[[torch.Tensor], torch.Tensor]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--shapes', nargs='+', choices=SHAPES,
                        default=[name for name in SHAPES if name != 'coco'])
    parser.add_argument('--logits', nargs='+', choices=LOGITS, default=['trained'])
    parser.add_argument('--clip', type=float, default=0.05)
    parser.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], default='float32')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads (default: 1)')
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--only', nargs='+', metavar='NAME', help='contenders whose name has it')
    parser.add_argument('--compile', action='store_true', help='torch.compile as a contender too')
    parser.add_argument('--detector', nargs='+', metavar='CONFIG',
                        help='time whole training iterations of these configs, and no loss')
    parser.add_argument('--size', type=int, nargs=2, default=(800, 1344), help='of their images')
    parser.add_argument('--out', type=Path, help='write json here, and a chart beside it')
    parser.add_argument('--table', type=Path, nargs='+', metavar='JSON',
                        help='time nothing, and print the rows of such files as Markdown')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.table:
        print(benchmark_table(list(map(read_record, args.table))))
        return
    check(args)
    torch.set_num_threads(args.threads)
    console = Console()
    if args.detector:
        time_detectors(args, console)
        return
    results = []
    for shape in args.shapes:
        for logits in args.logits:
            results.append(run_case(shape, logits, args, console))
    if args.out:
        record = dict(circumstances(args), results=results)
        write_whole(args.out, json.dumps(record, indent=1) + '\n')
        plot_benchmark(record, args.out.with_suffix('.png'))
        console.print(f'{args.out}, {args.out.with_suffix(".png")}')


def check(args: argparse.Namespace) -> None:
    """Raise UserError for numbers out of range, a device or a place that are not there."""
    for name, value in (('threads', args.threads), ('rounds', args.rounds),
                        ('size', min(args.size))):
        if value < 1:
            raise UserError(f'--{name} {value}: expected a whole number from 1')
    if not 0 <= args.clip < 1:
        raise UserError(f'--clip {args.clip:g}: expected a margin in [0, 1)')
    try:
        torch.zeros(1, device=args.device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f'--device {args.device}: {str(error).splitlines()[0]}') from error
    if args.out:
        require_output(args.out, '--out')
        require_output(args.out.with_suffix('.png'))


def read_record(path: Path) -> dict:
    """What ``--out`` wrote; UserError where the file is something else."""
    record = read_json(path)
    try:
        benchmark_table([record])
    except (KeyError, TypeError, AttributeError, ValueError, StopIteration) as error:
        raise UserError(f'{path}: expected what this command writes with --out '
                        f'({type(error).__name__}: {error})') from error
    return record


def run_case(shape: str, distribution: str, args: argparse.Namespace, console: Console) -> dict:
    """One table: every contender on one batch."""
    rows, classes, kind = SHAPES[shape]
    x, labels, one_hot = make_batch(rows, classes, kind, *LOGITS[distribution], args)
    share = (x.sigmoid() > 0.05).float().mean().item()
    steps = contenders(labels if kind == 'index' else one_hot, one_hot, args)
    if args.only:
        kept = ['plain chain', 'one copy', *args.only]
        steps = {n: s for n, s in steps.items() if any(k in n for k in kept)}
    gate(x, labels if kind == 'index' else one_hot, args)
    times: Dict[str, List[float]] = {name: [] for name in steps}
    for step in steps.values():
        once(step, x)  # warm up: compilation, caches
    rounds = args.rounds * (20 if x.numel() < SMALL else 1)  # small ones are noisy
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(once(step, x))
    chain = times['plain chain']
    entries = []
    for name, step in steps.items():
        entries.append(dict(
            name=name,
            median_ms=1e3 * statistics.median(times[name]),
            chain_over_this=statistics.median(
                c / t for c, t in zip(chain, times[name], strict=True)),
            peak_over_logits=peak_memory(step, x) / (x.numel() * x.element_size())))
    title = (f'({rows:,}, {classes}) {kind}, {distribution} logits ({share:.1%} over 0.05), '
             f'clip {args.clip}, {args.dtype}, {args.device}, {args.threads} thread(s)')
    table = Table(title=title, title_justify='left')
    copies = times.get('one copy of the logits', chain)
    for column in ('forward + backward', 'median ms', 'plain chain / this', 'copy / this',
                   'peak / logits'):
        table.add_column(column, justify='left' if column.startswith('f') else 'right')
    for e in entries:
        share = statistics.median(c / t for c, t in zip(copies, times[e['name']], strict=True))
        table.add_row(e['name'], f'{e["median_ms"]:.3f}', f'{e["chain_over_this"]:.2f}',
                      f'{share:.1%}' if 'one copy of the logits' in times else '-',
                      f'{e["peak_over_logits"]:.2f}' if x.numel() > 1 << 21 else '-')
    console.print(table)
    return dict(shape=shape, rows=rows, classes=classes, kind=kind, logits=distribution,
                share_over_margin=share, clip=args.clip, entries=entries)


def make_batch(rows: int, classes: int, kind: str, mean: float, deviation: float,
               args: argparse.Namespace) -> tuple:
    """Logits, labels (1 % of the rows positive), and their one-hot form."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, classes, generator=generator) * deviation + mean
    positive = torch.rand(rows, generator=generator) < (0.01 if kind == 'index' else 1)
    labels = torch.where(positive, torch.randint(classes, (rows,), generator=generator), classes)
    one_hot = torch.zeros(rows, classes + 1).scatter_(1, labels[:, None], 1)[:, :classes]
    dtype = getattr(torch, args.dtype)
    return (x.to(args.device, dtype), labels.to(args.device),
            one_hot.contiguous().to(args.device))


def contenders(target: torch.Tensor, one_hot: torch.Tensor,
               args: argparse.Namespace) -> Dict[str, Step]:
    """Name -> forward pass on logits that require a gradient."""
    import mmcv.ops
    from mmcv.utils.ext_loader import check_ops_exist
    from mmdet.models.losses import FocalLoss

    def ours(impl: str) -> AsymmetricLoss:
        return AsymmetricLoss(gamma_neg=GAMMA_NEG, gamma_pos=GAMMA_POS, clip=args.clip,
                              reduction='sum', impl=impl)

    auto, plain = ours('auto'), ours('torch')
    steps: Dict[str, Step] = {
        'plain chain': lambda x: plain_chain(x, one_hot, args.clip),
        'asl_det auto': lambda x: auto(x, target),
        'asl_det torch': lambda x: plain(x, target),
        'BCE with logits (one-hot given)': lambda x: F.binary_cross_entropy_with_logits(
            x, one_hot.to(x.dtype), reduction='sum'),
        'mmdet FocalLoss': lambda x: focal(x, target, reduction_override='sum'),
        'torchvision focal (one-hot given)': lambda x: torchvision.ops.sigmoid_focal_loss(
            x, one_hot.to(x.dtype), reduction='sum'),
    }
    focal = FocalLoss()
    if args.threads > 1:
        steps['asl_det auto, one thread'] = on_one_thread(auto, target)
    if args.compile:
        compiled = torch.compile(plain, dynamic=True)
        steps['torch.compile of asl_det torch'] = lambda x: compiled(x, target)
        chain = torch.compile(plain_chain, dynamic=True)
        steps['torch.compile of the plain chain'] = lambda x: chain(x, one_hot, args.clip)
    if args.device != 'cpu' and target.dim() == 1 and check_ops_exist():  # mmcv's own kernels
        steps['mmcv focal'] = lambda x: mmcv.ops.sigmoid_focal_loss(
            x, target, 2.0, 0.25, None, 'sum')
    try:
        from timm.loss import AsymmetricLossMultiLabel
    except ImportError:
        pass
    else:
        timm_loss = AsymmetricLossMultiLabel(gamma_neg=GAMMA_NEG, gamma_pos=GAMMA_POS,
                                             clip=args.clip)
        steps['timm (one-hot given)'] = lambda x: timm_loss(x, one_hot)
    steps['one copy of the logits'] = None
    return steps


def plain_chain(x: torch.Tensor, y: torch.Tensor, clip: float) -> torch.Tensor:
    """The loss as public implementations compute it: full-size operations under autograd."""
    p = torch.sigmoid(x.float())
    not_p = 1 - p
    if clip > 0:
        not_p = (not_p + clip).clamp(max=1)
    log_likelihood = y * torch.log(p.clamp(min=1e-8)) + (1 - y) * torch.log(not_p.clamp(min=1e-8))
    p_t = p * y + not_p * (1 - y)
    gamma = GAMMA_POS * y + GAMMA_NEG * (1 - y)
    return -(log_likelihood * torch.pow(1 - p_t, gamma)).sum()


def on_one_thread(loss: AsymmetricLoss, target: torch.Tensor) -> Step:
    """The loss on one thread, backward pass included: :func:`once` sets the number back."""

    def step(x: torch.Tensor) -> torch.Tensor:
        torch.set_num_threads(1)
        return loss(x, target)

    return step


def once(step: Optional[Step], x: torch.Tensor) -> float:
    """Seconds of one forward and backward pass, or of a copy."""
    leaf, threads = x.detach().requires_grad_(), torch.get_num_threads()
    if x.is_cuda and x.numel() >= SMALL:
        return on_the_gpu(lambda: x.clone() if step is None else step(leaf).backward())
    synchronise(x)
    start = time.perf_counter()
    if step is None:
        x.clone()
    else:
        step(leaf).backward()
    synchronise(x)
    seconds = time.perf_counter() - start
    torch.set_num_threads(threads)
    return seconds


def on_the_gpu(work: Callable[[], object]) -> float:
    """Seconds by the clock of the GPU, which clears its cache while the host prepares ``work``."""
    cache = torch.empty(CACHE, dtype=torch.uint8, device='cuda')
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(16):  # about 2 ms
        cache.zero_()
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


def time_detectors(args: argparse.Namespace, console: Console) -> None:
    """Forward and backward pass of whole detectors, side by side, on made-up images."""
    from mmdet.registry import MODELS
    from mmdet.testing import demo_mm_inputs
    from mmengine.registry import init_default_scope

    from asl_det.engine import load_config

    init_default_scope('mmdet')
    steps, times = {}, {config: [] for config in args.detector}
    for config in args.detector:
        cfg = load_config(config)
        model = MODELS.build(cfg.model).to(args.device).train()
        torch.manual_seed(0)
        data = demo_mm_inputs(2, [(3, *args.size)] * 2, [20, 20], device=args.device,
                              num_classes=cfg.model.bbox_head.num_classes)
        batch = model.data_preprocessor(data, True)
        steps[config] = (model, batch)
    for repeat in range(args.rounds + 2):
        for config, (model, batch) in steps.items():
            model.zero_grad()
            some = batch['inputs']
            synchronise(some)
            start = time.perf_counter()
            loss, _ = model.parse_losses(model(**batch, mode='loss'))
            loss.backward()
            synchronise(some)
            if repeat >= 2:  # warm
                times[config].append(time.perf_counter() - start)
    for config, seconds in times.items():
        console.print(f'{config}: {1e3 * statistics.median(seconds):.1f} ms an iteration, '
                      f'batch 2, {args.size[0]} x {args.size[1]}, {args.device}')


def synchronise(x: torch.Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize()


def gate(x: torch.Tensor, target: torch.Tensor, args: argparse.Namespace) -> None:
    """Stop unless value and gradient of our paths equal float64 on a part of the batch."""
    x, target = x[:2000], target[:2000]
    kwargs = dict(gamma_neg=GAMMA_NEG, gamma_pos=GAMMA_POS, clip=args.clip)
    exact = x.double().requires_grad_()
    expected = asymmetric_loss(exact, target, **kwargs).sum()
    expected.backward()
    for impl in ('auto', 'fused', 'torch'):
        leaf = x.detach().clone().requires_grad_()
        loss = AsymmetricLoss(reduction='sum', impl=impl, **kwargs)(leaf, target)
        loss.backward()
        rtol = dict(float32=1e-5, float16=1e-3, bfloat16=8e-3)[args.dtype]
        atol = 6e-8 if args.dtype == 'float16' else 1e-12
        atol = 1e-6 if x.is_cuda and impl == 'auto' else atol  # the contract of Triton's kernels
        right = torch.allclose(loss.double(), expected.detach(), rtol=1e-5) and torch.allclose(
            leaf.grad.double(), exact.grad, rtol=rtol, atol=atol)
        if not right:
            raise UserError(f'impl={impl!r} differs from float64 by more than {rtol} '
                            f'({loss.item()} against {expected.item()}): nothing was timed')


def peak_memory(step: Optional[Step], x: torch.Tensor) -> float:
    """Bytes above the start at the peak of one pass (Linux, or CUDA; else nan)."""
    if x.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        once(step, x)
        return torch.cuda.max_memory_allocated() - before
    try:
        ctypes.CDLL(None).malloc_trim(0)  # memory that malloc keeps would hide a need
        Path('/proc/self/clear_refs').write_text('5', 'utf-8')  # resets the high-water mark
        before = _status('VmRSS')
        once(step, x)
        return _status('VmHWM') - before
    except (OSError, AttributeError):
        return float('nan')


def _status(key: str) -> int:
    for line in Path('/proc/self/status').read_text('utf-8').splitlines():
        if line.startswith(key):
            return 1024 * int(line.split()[1])
    raise OSError(f'/proc/self/status has no {key}')


def circumstances(args: argparse.Namespace) -> dict:
    """What a reader needs to run it again."""
    cpu = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    for line in info.read_text('utf-8').splitlines() if info.exists() else ():
        if line.startswith('model name'):
            cpu = line.split(':')[1].strip()
            break
    hardware = torch.cuda.get_device_name() if args.device != 'cpu' else cpu
    return dict(versions(), hardware=hardware, threads=args.threads, dtype=args.dtype,
                device=args.device, rounds=args.rounds, torchvision=torchvision.__version__,
                python=platform.python_version(), command='python ' + ' '.join(sys.argv))


if __name__ == '__main__':
    main()
