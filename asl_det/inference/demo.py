"""A page that shows what networks see in a picture, at a threshold that is moved by hand."""

import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from asl_det.errors import UserError

Named = Sequence[Tuple[str, Any]]
EXAMPLES = 8
MOST_BYTES = 20_000_000  # of an upload
SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.webp')


def build_page(inferencers: Named, examples: Sequence[str] = (), threshold: float = 0.5) -> Any:
    """A gradio page: a picture, a slider, and what each network says, side by side.

    A network runs once for a picture; the slider draws anew from its scores.

    Args:
        inferencers: name and :class:`MultiLabelInferencer` or
            :class:`DetInferencer` of each network.
        examples: pictures to choose from.
        threshold: where the slider begins.

    Raises:
        UserError: if gradio is not installed.
    """
    try:
        os.environ.setdefault('GRADIO_ANALYTICS_ENABLED', 'False')
        import gradio
    except ImportError as error:
        raise UserError('the page needs gradio: pip install "asl-det[demo]"') from error

    def draw(computed: Optional[Dict[str, Any]], threshold: float) -> List[Optional[np.ndarray]]:
        if computed is None:
            return [None] * len(inferencers)
        return [infer.picture(computed['image'], sample, threshold=threshold)
                for (_, infer), sample in zip(inferencers, computed['samples'], strict=True)]

    def compute(picture: Optional[np.ndarray], threshold: float) -> List[Any]:
        if picture is None:
            return [None, *draw(None, threshold)]
        image = np.ascontiguousarray(picture[..., ::-1])
        samples = []
        for _, infer in inferencers:
            data = infer.pipeline(image)
            samples += [sample.cpu() for sample in infer.forward(infer.collate_fn([data]))]
        computed = dict(image=image, samples=samples)
        return [computed, *draw(computed, threshold)]

    with gradio.Blocks(title='asl_det', analytics_enabled=False) as page:
        computed = gradio.State()
        with gradio.Row():
            picture = gradio.Image(label='picture', type='numpy', image_mode='RGB',
                                   sources=['upload', 'clipboard'], height=320)
            slider = gradio.Slider(0.0, 1.0, threshold, step=0.01, label='threshold')
        drawn = []
        with gradio.Row():
            for name, _ in inferencers:
                with gradio.Column():
                    gradio.Textbox(name, show_label=False, container=False, interactive=False)
                    drawn.append(gradio.Image(show_label=False, interactive=False, format='png',
                                              buttons=[]))  # they would lie on the picture
        if examples:
            gradio.Examples([[path] for path in examples], picture, cache_examples=False)
        picture.change(compute, [picture, slider], [computed, *drawn], show_progress='hidden')
        slider.change(draw, [computed, slider], drawn, show_progress='hidden')
    return page


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
