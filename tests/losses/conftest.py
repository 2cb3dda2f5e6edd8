import pytest
import torch

from asl_det.losses import one_pass
from asl_det.losses.backends import native
from asl_det.losses.types import Batch


@pytest.fixture
def take_backend(monkeypatch):
    """A function that puts a backend behind impl='fused', or skips where it can not run."""

    def take(name):
        choose = one_pass.choose_backend
        if name == 'native':
            if not native.is_available():
                pytest.skip('there is no C compiler')
            assert choose('fused', torch.zeros(1, 1), Batch(torch.zeros(1))) == 'native'
            return
        if name == 'triton':
            pytest.importorskip('triton.backends')  # older ones have no interpreter
            from asl_det.losses.backends import triton, triton_math
            if triton.INTERPRETED:
                import rough
                from triton.runtime import interpreter

                # Triton patches its language again at every inner call: half of the time.
                interpreter._patch_lang(triton_math.tl.sum.fn)
                monkeypatch.setattr(interpreter.InterpretedFunction, '__call__',
                                    lambda self, *args, **kw: self.rewrite()(*args, **kw))
                for function in ('exp2', 'log2', 'reciprocal'):
                    monkeypatch.setattr(triton_math, function, getattr(rough, function))

        def chosen(impl, logits, batch):
            usual = choose(impl, logits, batch)
            return name if impl == 'fused' and usual != 'torch' else usual

        monkeypatch.setattr(one_pass, 'choose_backend', chosen)

    return take
