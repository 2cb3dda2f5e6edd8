"""Count what an entry costs in the machine code of the GPU kernel, and fail over the limits.

Compiles for GPUs that need not be there. Of the time in which an H100 moves an entry, say,
"of the chip" is the share that its instructions and its special functions take: over 100 %,
the kernel can not run at the speed of the memory.
"""

import argparse
import sys

from asl_det.analysis.kernel_budget import CASES, CHIPS, budget, count, faults
from asl_det.cli import one_line_errors
from asl_det.losses.backends.triton import CONFIGS


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
            for config in CONFIGS if args.all_configs else CONFIGS[1:2]:
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
