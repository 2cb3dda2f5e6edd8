"""Training and testing of any config through mmengine's Runner."""

import copy
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ContextManager, Dict, List, Optional, Sequence, Tuple, Union

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from asl_det.config.new_style import as_data
from asl_det.config.options import apply_options, use_amp, without_amp
from asl_det.config.read import import_modules, read_config
from asl_det.config.schedule import (
    check_one_cycle,
    drop_empty_schedules,
    enable_auto_scale_lr,
    scale_one_cycle,
)
from asl_det.config.signatures import arguments
from asl_det.detection.operating_point import decide, usual_threshold
from asl_det.detection.swap import print_swaps, swap_losses, take_swap
from asl_det.errors import Stopped, UserError, check_seed
from asl_det.files.code import versions
from asl_det.files.identity import hold
from asl_det.files.whole import write_whole
from asl_det.multilabel.thresholds import Thresholds
from asl_det.preflight.checks import require
from asl_det.preflight.classes import set_num_classes
from asl_det.preflight.resume import run_seed
from asl_det.preflight.run import Run
from asl_det.registry import HOOKS, is_type, lookup
from asl_det.training import hooks
from asl_det.training.processes import decided_by_main, join_processes
from asl_det.training.run_folder import FINISHED, Start, choose_start
from asl_det.training.runner import ask_for_files, make_resumable, set_files
from asl_det.training.screen import build_shown, log_lines
from asl_det.training.stopping import STOP, Signals, killed_worker, noted

__all__ = ['default_work_dir', 'load_config', 'test', 'train']


def load_config(path: str, options: Optional[Dict[str, Any]] = None, *,
                quiet: bool = False) -> Config:
    """Read a config, with options of the command line in it.

    Args:
        path: see :func:`asl_det.config.read.read_config`.
        options: dotted keys and values that override the config's;
            ``data_root``, ``max_epochs`` and ``lr`` reach every place that
            depends on them, see :func:`asl_det.config.options.apply_options`;
            ``loss``, ``loss_options`` and ``loss_where`` replace losses, see
            :func:`asl_det.detection.swap_losses`.
        quiet: do not print what was replaced.

    Raises:
        UserError: for what is no config, or an option that would be ignored.
    """
    cfg, options = read_config(path), dict(options or {})
    swap = take_swap(options)
    if swap:  # before the other options, which may change the new loss
        import_modules(cfg, path)
        swaps = swap_losses(cfg, **swap)
        if not quiet:
            print_swaps(swaps)
    if options:
        apply_options(cfg, options)
    import_modules(cfg, path)
    return cfg


def train(cfg: Config,
          *,
          work_dir: str,
          resume: Optional[str] = None,
          overwrite: bool = False,
          amp: bool = False,
          auto_scale_lr: bool = False,
          launcher: str = 'none',
          seed: Optional[int] = None,
          stop_signals: Sequence[str] = STOP,
          non_finite_steps: int = 10,
          partial: bool = False,
          resume_anyway: bool = False,
          num_classes: Optional[str] = None,
          calibrate: bool = True,
          verbose: bool = True) -> Optional[Path]:
    """Train, and leave checkpoints, logs and ``curves.png`` in ``work_dir``.

    Whatever ends the training, ``work_dir`` holds a checkpoint that loads, once
    the first was written; an error between two steps (of data, of a
    validation) saves the state before it. No process returns before all have
    finished, the writing of the last checkpoint included.

    Args:
        cfg: a config with a model, data, schedule and evaluator. It is not
            changed.
        work_dir: folder of the run.
        resume: a checkpoint, or 'auto' for the newest one of ``work_dir`` that
            loads; if there is none, the training starts as it would without.
        overwrite: begin anew where ``work_dir`` holds a run; its checkpoints
            and curves are removed when the first step begins.
        amp: mixed precision. It needs a GPU; without one, a config that asks
            for it trains in float32, and the log says so.
        auto_scale_lr: scale the learning rate by the batch size of all
            processes over ``cfg.auto_scale_lr.base_batch_size``.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        seed: seed of every random generator; None keeps the config's.
        stop_signals: names of signals that save a checkpoint after the step
            that is under way, and stop; the second ends the process at once.
        non_finite_steps: so many steps in a row with a loss that is NaN or
            infinite end the training.
        partial: start from ``load_from`` with what fits of it; otherwise only
            the heads may differ.
        resume_anyway: resume although the config is not the one of the run.
        num_classes: 'auto' or a number for every head, see
            :func:`asl_det.preflight.classes.set_num_classes`.
        calibrate: choose thresholds and calibrate scores on the validation,
            see :class:`asl_det.training.hooks.CalibrationHook`.
        verbose: show the whole log, as mmengine does; otherwise a digest,
            progress and metrics, and the rest is in the log file alone.

    Returns:
        The last checkpoint, or None if the config writes none.

    Raises:
        UserError: if the preflight finds a mistake in config, data or
            checkpoint, ``work_dir`` holds a run that is neither resumed nor
            overwritten or another process trains there, the schedule does not
            fit, to itself or to the resumed checkpoint, a checkpoint is not
            one of this network or can not be written, loss or weights are not
            finite, or a DataLoader worker was killed.
        Stopped: after a stop signal.
    """
    if seed is not None:
        check_seed(seed)
    cfg = _own_copy(cfg, work_dir, launcher, 'training', ('train_dataloader', 'train_cfg',
                                                          'optim_wrapper'))
    began = cfg.get('load_from'), cfg.get('resume', False)
    with ExitStack() as stack:
        start, held = _settle(cfg, stack, resume, overwrite)
        if seed is not None:
            cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
        run = Run(cfg, cfg.filename or 'config', 'resume' if cfg.resume else 'train',
                  cfg.load_from if cfg.resume else None, work_dir, partial=partial,
                  anyway=resume_anyway)
        said = _preflight(run, num_classes)
        check_one_cycle(cfg)
        if not held:  # a mistake leaves no folder
            decided_by_main(lambda: stack.enter_context(hold(work_dir)))
        said += _prepare(run, amp, auto_scale_lr)
        if resume == 'auto' and not cfg.resume:
            said.append(f'--resume: {work_dir} holds no checkpoint, the training begins')
        said += [f'warning: --resume passes over a newer checkpoint, {newer}'
                 for newer in start.passed_over]
        runner = build_shown(cfg, stack, verbose, said)
        # What the folder and checkpoints keep is the training as it began: run, it begins.
        runner.cfg.load_from, runner.cfg.resume = began
        runner.dump_config()
        log_lines(runner, said)
        scale_one_cycle(runner, cfg)
        drop_empty_schedules(runner)
        signals = stack.enter_context(noted(stop_signals))
        guard = hooks.GuardHook(signals, non_finite_steps, start.overwritten)
        _register_hooks(runner, cfg, guard, partial, resume_anyway)
        if calibrate:
            runner.register_hook(hooks.CalibrationHook(usual_threshold(cfg.model)))
        _train(runner, guard, signals)
        barrier()  # a launcher ends all processes when one fails, so none may run ahead
        return _finished(runner, cfg)


def _own_copy(cfg: Config, work_dir: str, launcher: str, what: str, needs: Sequence[str]) -> Config:
    """A copy of a config to be changed, and this process among those of its launcher."""
    cfg = as_data(copy.copy(cfg))  # no module that a new-style config imports can be copied
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = work_dir
    cfg.launcher = launcher
    missing = [key for key in needs if cfg.get(key) is None]
    if missing and 'runner_type' not in cfg:
        raise UserError(f'{cfg.filename or "config"} has no {", ".join(missing)}: a {what} needs '
                        f'{", ".join(needs)}')
    join_processes(cfg)
    return cfg


def _settle(cfg: Config, stack: ExitStack, resume: Optional[str],
            overwrite: bool) -> Tuple[Start, bool]:
    """What the training begins with, which the config then says; and whether the folder is held."""

    def choose() -> Tuple[Start, bool]:
        held = os.path.isdir(cfg.work_dir)
        if held:
            stack.enter_context(hold(cfg.work_dir))
        return choose_start(cfg, resume, overwrite), held

    start, held = decided_by_main(choose)
    cfg.load_from, cfg.resume = start.checkpoint, start.resume
    return start, held


def _prepare(run: Run, amp: bool, auto_scale_lr: bool) -> List[str]:
    """Change a config for this machine and for the checkpoint; what to say about it in the log."""
    cfg, said = run.cfg, []
    has_gpu = get_device() not in ('cpu', 'mps')
    if amp and has_gpu:
        use_amp(cfg)
    if not has_gpu and (without_amp(cfg) or amp):
        said.append('warning: mixed precision needs a GPU, and torch finds none: training in '
                    'float32, without AmpOptimWrapper')
    if auto_scale_lr:
        enable_auto_scale_lr(cfg)
    drawn = run_seed(run) if cfg.resume else None
    if drawn is not None:  # before samplers order the images, where the config has none
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=drawn)
    run.forget()
    make_resumable(cfg)
    return said


def _register_hooks(runner: Runner, cfg: Config, guard: hooks.GuardHook, partial: bool,
                    resume_anyway: bool) -> None:
    """Add the hooks that every training has."""
    runner.register_hook(hooks.CurvesHook())
    if cfg.load_from:
        purpose = 'resume' if cfg.resume else 'load_from'
        runner.register_hook(hooks.LoadWeightsHook(purpose, cfg.load_from, partial))
    if cfg.resume:
        runner.register_hook(hooks.SameScheduleHook())
    runner.register_hook(guard)
    for hook in runner.hooks:
        if isinstance(hook, hooks.SafeCheckpointHook):
            hook.train_on = resume_anyway


def _finished(runner: Runner, cfg: Config) -> Optional[Path]:
    """The last checkpoint, which the folder names as that of a training that ran to its end."""
    written = [h.last_ckpt for h in runner.hooks if isinstance(h, CheckpointHook) and h.last_ckpt]
    if not written and cfg.resume:  # there was nothing left to train
        written = [cfg.load_from]
    if written and is_main_process():
        write_whole(Path(cfg.work_dir, FINISHED), os.path.basename(written[-1]))
    return Path(written[-1]) if written else None


def _train(runner: Runner, guard: hooks.GuardHook, signals: Signals) -> None:
    """Run the training; what ends it between two steps costs nothing of it."""
    try:
        with _literal():
            runner.train()
    except Exception as error:
        # First, because torch's handler of a worker's death may still raise, in the saving too.
        known = killed_worker(
            error, 'val_dataloader' if guard.validating else 'train_dataloader')
        saved = guard.rescue(runner)
        if signals.number and (saved or not is_main_process()):  # it has ended a worker too
            raise Stopped(signals.number, runner.iter, saved) from error
        if saved is not None:
            runner.logger.error(f'an error ends the training after iteration {runner.iter}, which '
                                f'{saved} holds: --resume goes on from there')
        if known is None:
            raise
        raise known from error


def _literal() -> ContextManager[None]:
    """Where mmdet's visualizer draws class names as they are."""
    from asl_det.analysis.style import literal  # matplotlib only when it is needed
    return literal()


def _preflight(run: Run, num_classes: Optional[str]) -> List[str]:
    """Settle the number of classes and check everything; what to say about it in the log."""
    said = set_num_classes(run.cfg, run.config, run.purpose, num_classes)
    return said + [str(f) for f in require(run).warnings]


def test(cfg: Config,
         checkpoint: str,
         *,
         work_dir: str,
         out: Union[str, Path, None] = None,
         show_dir: Union[str, Path, None] = None,
         launcher: str = 'none',
         partial: bool = False,
         thresholds: Union[Thresholds, float, None] = None,
         num_classes: Optional[str] = None,
         verbose: bool = True) -> Dict[str, float]:
    """Evaluate a checkpoint.

    Args:
        cfg: the config that it was trained with. It is not changed.
        checkpoint: file or URL.
        work_dir: folder of the log.
        out: json file for the metrics; detections (COCO's result format) and
            scores go beside it, see
            :func:`asl_det.training.runner.ask_for_files`.
        show_dir: folder for every image with truth (left) and predictions
            (right).
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        partial: evaluate even if the checkpoint does not fit; the log says
            which weights keep their initial values and which are not used.
        thresholds: from which score a class is predicted, or a box drawn, see
            :func:`asl_det.detection.operating_point.choose_thresholds`; None
            for those in the checkpoint, or else the usual ones. Scores that are
            drawn are calibrated; those that are written are as the network
            gives them.
        num_classes: as in :func:`train`; verbose too.

    Returns:
        The metrics by name.

    Raises:
        UserError: if the preflight finds a mistake in config, data or
            checkpoint, the checkpoint is not one of this network, or
            thresholds are of other classes.
    """
    cfg = _own_copy(cfg, work_dir, launcher, 'test', ('test_dataloader', 'test_cfg',
                                                      'test_evaluator'))
    config = cfg.filename
    outputs = {flag: str(path) for flag, path in (('--out', out), ('--show', show_dir)) if path}
    said = _preflight(Run(cfg, config or 'config', 'test', str(checkpoint), work_dir,
                          outputs=outputs, partial=partial), num_classes)
    cfg.load_from = checkpoint
    if show_dir is not None:
        default = cfg.get('default_hooks', {})
        drawing = dict(default.get('visualization', dict(type='DetVisualizationHook')), draw=True,
                       test_out_dir=os.path.abspath(show_dir))
        if 'score_thr' in arguments(lookup(HOOKS, drawing))[0]:
            drawing['score_thr'] = 0.0  # DecideHook leaves what is predicted
        cfg.default_hooks = dict(default, visualization=drawing)
        shown = cfg.get('visualizer') or {}
        if is_type(shown, 'DetLocalVisualizer') and not set(shown) - {'type', 'name',
                                                                      'vis_backends'}:
            cfg.visualizer = dict(shown, type='BoxVisualizer')  # nothing is set that ours lacks
    if out is not None:
        out = Path(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        prefixes = ask_for_files(cfg, out)
    if cfg.filename:  # beside the config of a training in that folder, not in its place
        cfg = Config(cfg.to_dict(), cfg_text=cfg.text or '\n',
                     filename=str(Path(cfg.filename).with_suffix('.test.py')))
    with ExitStack() as stack:
        runner = build_shown(cfg, stack, verbose, said)
        log_lines(runner, said)
        if out is not None:
            set_files(runner, prefixes, out)
        runner.register_hook(hooks.LoadWeightsHook('test', checkpoint, partial))
        chosen = decide(runner, cfg, checkpoint, thresholds)
        metrics = _test(runner)
    if out is not None and is_main_process():
        record = dict(config=config, checkpoint=str(checkpoint), metrics=metrics,
                      thresholds=chosen and chosen.thresholds.to_dict(),
                      thresholds_are=chosen and chosen.why,
                      versions=versions())
        write_whole(out, json.dumps(record, indent=2, default=_plain) + '\n')
    barrier()
    return metrics


def _test(runner: Runner) -> Dict[str, float]:
    try:
        with _literal():
            return _known(runner, runner.test())
    except Exception as error:
        known = killed_worker(error, 'test_dataloader')
        if known is None:
            raise
        raise known from error


def _known(runner: Runner, metrics: Dict[str, float]) -> Dict[str, float]:
    """No metrics where all are -1, as pycocotools says of a test set without objects."""
    if metrics and all(isinstance(v, (int, float)) and not v >= 0 for v in metrics.values()):
        runner.logger.warning('the test set has no objects: there are no metrics')
        return {}
    return metrics


def _plain(value: Any) -> Any:
    """Numbers, lists or text in the place of what json does not know (numpy, tensors)."""
    return value.tolist() if hasattr(value, 'tolist') else str(value)


def default_work_dir(config: str, loss: Optional[str] = None) -> str:
    """``work_dirs/<name of the config>``, as in mmdet; with ``-<loss>`` if one was put in."""
    name = Path(config.split('::')[-1]).stem
    return os.path.join('work_dirs', f'{name}-{loss}' if loss else name)
