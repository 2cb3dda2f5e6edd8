"""Pictures of what a preflight found."""

import re
from pathlib import Path
from typing import List, Union

from asl_det.analysis.pictures import plot_images
from asl_det.preflight.finding import Report
from asl_det.preflight.images import loaders_of
from asl_det.preflight.run import Run

SHOWN = 24  # images of one finding


def draw_findings(report: Report, run: Run, folder: Union[str, Path]) -> List[Path]:
    """A sheet of images for every finding that has some."""
    drawn, loaders, folder = [], loaders_of(run), Path(folder)
    for i, finding in enumerate(f for f in report.findings if f.images):
        folder.mkdir(parents=True, exist_ok=True)
        drawn.append(folder / f'{i + 1:03d}_{re.sub(r"[^a-z0-9]+", "-", finding.rule.lower())}.png')
        plot_images(finding.images[:SHOWN], f'{finding.where}: {finding.message}', drawn[-1],
                    loaders=loaders, boxes=finding.boxes[:SHOWN])
    return drawn
