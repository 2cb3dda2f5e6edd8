"""Count what an entry costs in the machine code of the GPU kernel, and fail over the limits.

Compiles for GPUs that need not be there. Of the time in which an H100 moves an entry, say,
"of the chip" is the share that its instructions and its special functions take: over 100 %,
the kernel can not run at the speed of the memory.

Triton compiles for them, and its wheel brings NVIDIA's disassembler.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from asl_det.commands.command_line import one_line_errors
from asl_det.losses.backends import triton as backend
from asl_det.losses.types import Batch, Settings


class Chip(NamedTuple):
    """What a GPU can do in a second, from its data sheet; special functions: 16 a clock and SM."""
    name: str
    capability: int
    processors: int
    lanes: int  # instructions of single threads that an SM starts in a clock
    clock: float  # Hz, boost
    bandwidth: float  # bytes / s


class Case(NamedTuple):
    """A kind of call, and what an entry of it may cost."""
    limit: float
    mufu_limit: float = 4.5
    dtype: torch.dtype = torch.float32
    classes: int = 80
    dense: bool = False
    gamma_neg: float = 4
    gamma_pos: float = 0
    clip: float = 0.05
    statistics: bool = False


class Count(NamedTuple):
    """What the machine code of a case has, in instructions of one thread."""
    instructions: float  #: an entry, in the loop over tiles
    mufu: float  #: special functions an entry
    per_row: float  #: a row: its positive
    per_program: int  #: besides, once a program
    widths: Dict[str, List[int]]  #: bits of the loads of logits and stores of gradients
    calls: int  #: calls of subroutines in the loops over tiles and rows
    spills: int  #: loads and stores of spilled registers
    registers: int
    warps: int  #: resident a processor, of 64


CHIPS = {chip.name: chip for chip in (
    Chip('A100', 80, 108, 128, 1.410e9, 2.039e12),
    Chip('H100', 90, 132, 128, 1.755e9, 3.35e12),
    Chip('B200', 100, 148, 128, 1.850e9, 8.0e12))}
HALF = torch.bfloat16
CASES = {
    'index-80': Case(40),
    'index-80-gamma-2': Case(40, gamma_neg=2),
    'index-80-bf16': Case(40, dtype=HALF),
    'index-80-bf16-gamma-2': Case(40, dtype=HALF, gamma_neg=2),
    'index-10': Case(60, classes=10),
    'index-365': Case(60, classes=365),
    'index-1203': Case(60, classes=1203),
    'index-9605': Case(60, classes=9605),
    'index-1203-bf16': Case(60, dtype=HALF, classes=1203),
    'dense': Case(55, 5.5, dense=True),
    'dense-bf16': Case(55, 5.5, dtype=HALF, dense=True),
    'statistics': Case(55, statistics=True),
    'statistics-dense': Case(70, 5.5, dense=True, statistics=True),
    'gamma-1.7': Case(60, 6.5, gamma_neg=1.7),
    'focal': Case(40, gamma_neg=2, gamma_pos=2, clip=0),
}


def budget(chip: Chip, dtype: torch.dtype) -> tuple:
    """Instructions and special functions for which there is time while an entry moves.

    An entry is read and its gradient is written, each in ``dtype``.
    """
    seconds = 2 * dtype.itemsize / chip.bandwidth
    clocks = chip.processors * chip.clock * seconds
    return chip.lanes * clocks, 16 * clocks


def count(case: Case, chip: Chip, config: Optional[triton.Config] = None) -> Count:
    """Compile what a call launches on 400,000 rows, and count.

    Args:
        case: the call, with row weights and gradient.
        chip: what to compile for.
        config: block and warps; one of the list that is tuned over.
    """
    config = backend.CONFIGS[1] if config is None else config
    cubin = _compile(_launch(case), chip, config)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'kernel.cubin'
        file.write_bytes(cubin)
        listing = _tool('nvdisasm', '-c', file)
        registers = int(re.search(r'REG:(\d+)', _tool('cuobjdump', '-res-usage', file))[1])
    code = instructions(listing)
    tiles, rows = _loops(code)
    entries = sum(_bits(op) for op in tiles if op.startswith('STG')) / (8 * case.dtype.itemsize)
    # For the A100 a loop may be left by a CALL that never comes back: no subroutine, no RET.
    returns = any(op.startswith('RET') for _, op, _ in code)
    warps = 65536 // (32 * 8 * -(-registers // 8)) // config.num_warps * config.num_warps
    return Count(
        instructions=len(tiles) / entries,
        mufu=sum(op.startswith('MUFU') for op in tiles) / entries,
        per_row=len(rows),
        per_program=len(code) - len(tiles) - len(rows),
        widths={kind: sorted({_bits(op) for op in tiles if op.startswith(kind)})
                for kind in ('LDG', 'STG')},
        calls=sum(op.startswith('CALL') for op in [*tiles, *rows]) if returns else 0,
        spills=sum(op.startswith(('LDL', 'STL')) for _, op, _ in code),
        registers=registers, warps=min(64, warps))


def faults(case: Case, found: Count) -> List[str]:
    """What a count has that the case may not have."""
    return [text for text, bad in (
        (f'over {case.limit} instructions', found.instructions > case.limit),
        (f'over {case.mufu_limit} special functions', found.mufu > case.mufu_limit),
        ('calls a subroutine', found.calls > 0),
        ('spills registers', found.spills > 0),
        ('narrow loads', 128 not in found.widths['LDG']),
        ('narrow stores', found.widths['STG'] != [128])) if bad]


def instructions(listing: str) -> list:
    """``(label in front or None, operation, label it jumps to or None)`` of every instruction."""
    found, label = [], None
    for line in listing.splitlines():
        at_label = re.match(r'\s*(\.L\w+):', line)
        if at_label:
            label = at_label[1]
        code = re.match(r'\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*)', line)
        if code and code[1] != 'NOP':
            target = re.search(r'`\((\.L\w+)\)', code[2]) if code[1].startswith('BRA') else None
            found.append((label, code[1], target and target[1]))
            label = None
    return found


def _loops(code: list) -> tuple:
    """The operations in the loop over full tiles, and in the one over rows (index targets)."""
    at = {label: i for i, (label, _, _) in enumerate(code) if label}
    loops = [[op for _, op, _ in code[at[target]:i + 1]] for i, (_, _, target) in enumerate(code)
             if target in at and at[target] < i]
    tiles, *others = [body for body in loops if any(op.startswith('MUFU') for op in body)]
    return tiles, others[1] if len(others) > 1 else []  # between them: the tiles that are not full


def _bits(operation: str) -> int:
    """Bits that a load or store moves."""
    size = re.search(r'\.(?:[US]?(8|16|64|128))\b', operation)
    return int(size[1]) if size else 32


def _launch(case: Case) -> backend.Launch:
    """What :mod:`asl_det.losses.backends.triton` starts for the case."""
    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device='meta')

    rows = 400_000
    targets = empty(rows, case.classes) if case.dense else empty(rows, dtype=torch.int64)
    settings = Settings(case.gamma_pos, case.gamma_neg, case.clip, None, False, -1, 1.0)
    return backend.prepare(
        empty(rows, case.classes, dtype=case.dtype), Batch(targets, row_weight=empty(rows)),
        settings, want_grad=True, want_loss=True, want_statistics=case.statistics)[0]


def _compile(launch: backend.Launch, chip: Chip, config: triton.Config) -> bytes:
    """Machine code of a launch, with the hints on alignment that Triton finds at a call."""
    kernel = launch.kernel.fn if hasattr(launch.kernel, 'configs') else launch.kernel
    values: Dict[str, Any] = {**dict(zip(kernel.arg_names, launch.args, strict=False)),
                              **launch.kwargs, **config.kwargs}
    signature, constants, hints = {}, {}, {}
    for i, name in enumerate(kernel.arg_names):
        value, kind = values[name], 'constexpr'
        if isinstance(value, Tensor):
            kind = '*' + triton.runtime.jit.type_canonicalisation_dict[str(value.dtype)[6:]]
        elif isinstance(value, float):
            kind = 'fp32'
        elif type(value) is int and not name.isupper():
            kind = 'i32' if abs(value) < 2**31 else 'i64'
        else:
            constants[name] = value
        signature[name] = kind
        if kind[0] == '*' or name == 'span':
            hints[i,] = [['tt.divisibility', 16]]
    source = ASTSource(kernel, signature, constexprs=constants, attrs=hints)
    return triton.compile(source, target=GPUTarget('cuda', chip.capability, 32),
                          options=dict(num_warps=config.num_warps)).asm['cubin']


def _tool(name: str, *args: Any) -> str:
    """Output of a program that ships in Triton's wheel."""
    path = getattr(triton.knobs.nvidia, name).path
    return subprocess.run([path, *map(str, args)], capture_output=True, text=True,
                          check=True).stdout


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--chips', nargs='+', choices=CHIPS, default=list(CHIPS))
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES))
    parser.add_argument('--all-configs', action='store_true',
                        help='every block and number of warps that is tuned over')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    print('| chip | case | block, warps | instructions | special functions | of the chip | '
          'a row | a program | loads, stores (bit) | registers | warps of 64 | |')
    print('|' + ' --- |' * 12)
    over = 0
    for name in args.chips:
        for case_name in args.cases:
            for config in backend.CONFIGS if args.all_configs else backend.CONFIGS[1:2]:
                chip, case = CHIPS[name], CASES[case_name]
                found = count(case, chip, config)
                wrong = faults(case, found)
                over += bool(wrong)
                share = [f'{have / may:.0%}' for have, may in zip(
                    found[:2], budget(chip, case.dtype), strict=True)]
                print(f'| {name} | {case_name} | {config.kwargs["BLOCK"]}, {config.num_warps} | '
                      f'{found.instructions:.1f} | {found.mufu:.2f} | {", ".join(share)} | '
                      f'{found.per_row} | {found.per_program} | '
                      f'{max(found.widths["LDG"])}, {max(found.widths["STG"])} | '
                      f'{found.registers} | {found.warps} | {", ".join(wrong)} |', flush=True)
    if over:
        sys.exit(f'{over} kernels over their limits')


if __name__ == '__main__':
    main()
