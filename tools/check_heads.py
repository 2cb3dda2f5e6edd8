"""Train a step of every head class of mmdet with the loss of its config and with another.

Writes two Markdown tables: every head, with why some do not work, and the heads of each kind.
"""

import argparse
import logging

from head_trial import HEADS, check_heads
from rich.progress import track

from asl_det.commands.command_line import one_line_errors
from asl_det.detection.presets import KINDS
from asl_det.files.whole import require_output, write_whole


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--loss', default='asl', help='as in asl-det train')
    parser.add_argument('--out', metavar='heads.md', help='write the table here, too')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    require_output(args.out, '--out')
    logging.disable(logging.WARNING)
    lines = ['| head | kind | works | negatives with gradient at the start | tried with |',
             '| --- | --- | --- | --- | --- |']
    rows = sorted(track(check_heads(args.loss), total=len(HEADS), transient=True),
                  key=lambda row: (bool(row['why']), row['head']))
    for row in rows:
        works = f'no: {row["why"]}' if row['why'] else 'yes'
        reached = '' if row['why'] else f'{row["reached"]:.0%}'
        lines.append(f'| {row["head"]} | {row["kind"]} | {works} | {reached} | {row["config"]} |')
    lines += ['', '| kind | heads that work |', '| --- | --- |']
    for kind in KINDS:
        names = [row['head'] for row in rows if kind in row['kind'].split(', ')]
        if names:
            lines.append(f'| {kind} | {", ".join(names)} |')
    text = '\n'.join(lines) + '\n'
    print(text)
    if args.out:
        write_whole(args.out, text)


if __name__ == '__main__':
    main()
