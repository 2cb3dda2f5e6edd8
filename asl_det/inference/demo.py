"""A page that shows what networks see in a picture, at a threshold that is moved by hand."""

import os
from html import escape
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from asl_det.errors import UserError
from asl_det.registry import type_name

Named = Sequence[Tuple[str, Any]]
EXAMPLES = 8
TITLE = 'What networks find in a picture'
SENTENCE = ('Drop a picture, or choose one of the examples: each network draws and lists what it '
            'finds, with a score between 0 and 1. What scores below the threshold is left out.')
MOST_BYTES = 20_000_000  # of an upload
SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.webp')


def build_page(inferencers: Named, examples: Sequence[str] = ()) -> Any:
    """A gradio page: a picture, a slider, and what each network says, side by side.

    It starts with each network's own thresholds; the slider takes their
    place. A network runs once for a picture; the slider draws anew from its
    scores.

    Args:
        inferencers: name and :class:`MultiLabelInferencer` or
            :class:`DetInferencer` of each network.
        examples: pictures to choose from.

    Raises:
        UserError: if gradio is not installed.
    """
    try:
        os.environ.setdefault('GRADIO_ANALYTICS_ENABLED', 'False')
        import gradio
    except ImportError as error:
        raise UserError('the page needs gradio: pip install "asl-det[demo]"') from error

    def show(computed: Optional[Dict[str, Any]], own: bool, threshold: float) -> List[Any]:
        if computed is None:
            return [None, None] * len(inferencers)
        least = None if own else threshold
        shown: List[Any] = []
        for (_, infer), sample in zip(inferencers, computed['samples'], strict=True):
            shown += [infer.picture(computed['image'], sample, threshold=least),
                      [[found['label'], f"{found['score']:.2f}"]
                       for found in infer.result(sample, threshold=least) if found['predicted']]]
        return shown

    def compute(picture: Optional[np.ndarray], own: bool, threshold: float) -> List[Any]:
        if picture is None:
            return [None, *show(None, own, threshold)]
        image = np.ascontiguousarray(picture[..., ::-1])
        samples = []
        for _, infer in inferencers:
            data = infer.pipeline(image)
            samples += [sample.cpu() for sample in infer.forward(infer.collate_fn([data]))]
        computed = dict(image=image, samples=samples)
        return [computed, *show(computed, own, threshold)]

    def move(computed: Optional[Dict[str, Any]], threshold: float) -> List[Any]:
        return [False, *show(computed, False, threshold)]

    with gradio.Blocks(title=TITLE, analytics_enabled=False) as page:
        gradio.Markdown(f'# {TITLE}\n{SENTENCE}')
        computed = gradio.State()
        with gradio.Row():
            picture = gradio.Image(label='picture', type='numpy', image_mode='RGB',
                                   sources=['upload', 'clipboard'], height=320)
            with gradio.Column():
                own = gradio.Checkbox(True, label='each network\'s own threshold')
                slider = gradio.Slider(0.0, 1.0, round(inferencers[0][1].thresholds.default, 2),
                                       step=0.01, label='one threshold for all')
                if examples:
                    gradio.Examples([[path] for path in examples], picture, cache_examples=False)
        shown: List[Any] = []
        with gradio.Row():
            for name, infer in inferencers:
                with gradio.Column():
                    gradio.HTML(_heading(name, infer))
                    shown += [gradio.Image(show_label=False, interactive=False, format='png',
                                           buttons=[]),  # they would lie on the picture
                              gradio.Dataframe(headers=['label', 'score'], interactive=False,
                                               datatype='str', buttons=[])]
        hidden = dict(show_progress='hidden')
        picture.change(compute, [picture, own, slider], [computed, *shown], **hidden)
        own.input(show, [computed, own, slider], shown, **hidden)
        slider.input(move, [computed, slider], [own, *shown], **hidden)
    return page


def _heading(name: str, infer: Any) -> str:
    """What a network is, its file and its own threshold with its origin, as HTML."""
    model = infer.opened.cfg.model
    kind = ' with '.join(filter(None, (type_name(model), type_name(model.get('backbone')))))
    thresholds = infer.thresholds.of(infer.classes)
    least, most = min(thresholds), max(thresholds)
    own = f'{least:.2f}' if most - least < 0.005 else f'{least:.2f} to {most:.2f}, by class'
    return f'<h3>{escape(kind)}</h3><code>{escape(name)}</code><br>own threshold: {own} '\
        f'({escape(infer.why)})'


def serve(page: Any, host: str = '127.0.0.1', port: Optional[int] = None,
          wait: bool = True) -> str:
    """Serve a page; with ``wait`` until the process is interrupted.

    Args:
        page: of :func:`build_page`.
        host: address; the default is reached from this machine alone.
        port: by default a free one from 7860 on.
        wait: or return its URL at once.

    Raises:
        UserError: if the port is in use.
    """
    try:
        return page.launch(server_name=host, server_port=port, share=False, prevent_thread_lock=not
                           wait, max_file_size=MOST_BYTES, footer_links=[])[1]
    except OSError as error:
        raise UserError(f'the page can not be served at {host}:{port} ({error}): give another '
                        '--port or --host') from error


def find_examples(folder: Optional[str]) -> List[str]:
    """The first pictures of a folder, which the page then shows to everybody who reaches it.

    Raises:
        UserError: if it is no folder, or a picture is a link to a file
            outside of it.
    """
    if folder is None:
        return []
    if not os.path.isdir(folder):
        raise UserError(f'--examples {folder} is no folder')
    found = sorted(p for p in Path(folder).iterdir()
                   if p.suffix.lower() in SUFFIXES and p.is_file())[:EXAMPLES]
    for path in found:
        if not path.resolve().is_relative_to(Path(folder).resolve()):
            raise UserError(f'--examples {folder}: {path.name} is a link to {path.resolve()}, '
                            'which is not in this folder and would be published: copy it, or give '
                            'the folder that it is in')
    return list(map(str, found))
