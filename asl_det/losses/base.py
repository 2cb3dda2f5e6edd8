"""What the loss modules share."""

from typing import Any, Callable, NoReturn, Optional

from torch import Tensor, nn


class Loss(nn.Module):
    """A loss with ``class_weight``: float32, whatever dtype the model has."""

    class_weight: Optional[Tensor]

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> 'Loss':
        kept = self.class_weight
        super()._apply(fn, *args, **kwargs)
        if kept is not None and self.class_weight.dtype != kept.dtype:
            self.class_weight = kept.to(self.class_weight.device)  # .half() takes no digits
        return self

    def __prepare_scriptable__(self) -> NoReturn:
        """What torch.jit.script asks every module for first."""
        raise RuntimeError(f'{type(self).__name__} can not be compiled by TorchScript '
                           '(torch.jit.script): use torch.compile or torch.jit.trace, or script '
                           'the network without its loss')
