"""From features to one logit a class."""

import math
from typing import Any, Dict, List, Optional, Sequence, Union

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModule
from scipy.special import logit
from torch import Tensor, nn

from asl_det.errors import UserError
from asl_det.multilabel.sample import MultiLabelSample
from asl_det.registry import MODELS, register

Features = Union[Tensor, Sequence[Tensor]]
OFFICIAL_DECODER = {
    'query_embed.weight': 'queries', 'embed_standart.': 'embed.', 'layers.0.': '',
    'multihead_attn.': 'attention.', 'duplicate_pooling_bias': 'group_bias',
    'duplicate_pooling': 'group_weight'
}


class Head(BaseModule):
    """Loss and checks of every head; subclasses compute the logits.

    Args:
        num_classes: C.
        in_channels: channels of the features. In a config it can be left out
            with :class:`TimmBackbone` and :class:`TorchvisionBackbone`.
        loss: config of a registered loss on logits and targets ``(N, C)``.

    Attributes:
        pooled: asks for features as the network's own classifier reads them.
    """

    pooled = False

    def __init__(self, num_classes: int, in_channels: int, loss: Dict[str, Any]) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.loss_cls = MODELS.build(loss)

    def own_name(self, name: str, classifier: Optional[str]) -> Optional[str]:
        """This head's name of a weight in an official file, None if it has none.

        Args:
            name: of the weight, e.g. 'head.fc.weight'.
            classifier: of the file's last layer, e.g. 'head.fc'.
        """
        raise NotImplementedError

    def loss(self, features: Features, samples: List[MultiLabelSample]) -> Dict[str, Tensor]:
        """The loss of a batch; unknown labels (-1) cost nothing."""
        logits = self(features)
        target = torch.stack([s.gt_label for s in samples]).to(logits.device)
        if target.shape != logits.shape:
            raise UserError(f'the data set has {target.size(1)} classes, but the head has '
                            f'{self.num_classes}: set model.head.num_classes={target.size(1)}')
        known = target >= 0
        options = {}
        if getattr(self.loss_cls, 'reduction', 'mean') == 'mean':
            # Over all processes, or those with many unknown labels would count more.
            count = known.sum().to(torch.float32)
            if get_world_size() > 1:
                all_reduce(count, 'mean')
            options['avg_factor'] = count.clamp(min=1)
        if getattr(self.loss_cls, 'ignore_index', None) != -1:
            options['weight'] = known.to(logits.dtype)
            target = target.clamp(min=0)
        loss = self.loss_cls(logits, target, **options)
        if getattr(self.loss_cls, 'reduction', 'mean') == 'sum':
            loss = loss * get_world_size()  # gradients are averaged over processes, not summed
        return dict(loss=loss)

    def _map(self, features: Features) -> Tensor:
        """The last feature map, with its channels checked."""
        x = features if isinstance(features, Tensor) else features[-1]
        channels = x.size(1) if x.dim() == 4 else x.size(-1)
        if channels != self.in_channels:
            raise UserError(f'the features have {channels} channels, but the head expects '
                            f'{self.in_channels}: set model.head.in_channels={channels}')
        return x


@register(MODELS)
class LinearHead(Head):
    """A linear layer on pooled features.

    Args:
        num_classes, in_channels, loss: as everywhere.
        prior: probability of every class at the start; None keeps the
            layer's own initial bias (probabilities near 0.5).
        dropout: share of the pooled features that is dropped in training.
        bottleneck: width of a linear layer before it, None for none (the
            official TResNet files with a bottleneck head: 512).
    """

    pooled = True

    def __init__(self, num_classes: int, in_channels: int, loss: Dict[str, Any],
                 prior: Optional[float] = None, dropout: float = 0.0,
                 bottleneck: Optional[int] = None) -> None:
        super().__init__(num_classes, in_channels, loss)
        self.dropout = nn.Dropout(dropout)
        self.bottleneck = nn.Linear(in_channels, bottleneck) if bottleneck else nn.Identity()
        self.fc = nn.Linear(bottleneck or in_channels, num_classes)
        if check_prior(prior) is not None:
            nn.init.normal_(self.fc.weight, std=0.01)
            nn.init.constant_(self.fc.bias, logit(prior))

    def own_name(self, name: str, classifier: Optional[str]) -> Optional[str]:
        layer, _, kind = name.rpartition('.')
        return {classifier: f'fc.{kind}', f'{classifier}.FC': f'fc.{kind}',
                f'{classifier}.embedding_generator.0': f'bottleneck.{kind}'}.get(layer)

    def forward(self, features: Features) -> Tensor:
        """``(N, C')``, or ``(N, C', h, w)`` or ``(N, L, C')``, averaged, to logits ``(N, C)``."""
        x = self._map(features)
        if x.dim() == 4:
            x = x.mean((2, 3))
        elif x.dim() == 3:
            x = x.mean(1)
        return self.fc(self.bottleneck(self.dropout(x)))


@register(MODELS)
class MLDecoderHead(Head):
    """ML-Decoder: fixed queries attend to the feature map, a group of classes shares one.

    A decoder layer without self-attention: K fixed random queries attend to
    the spatial features; each becomes the logits of ``ceil(C / K)`` classes
    through a linear map of its own. Cost grows with K, not with C.

    With queries ``q``, memory ``m = relu(embed(features))`` and dropout
    ``d``: ``q = norm1(q + d(q))``, ``q = norm2(q + d(attention(q, m)))``,
    ``q = norm3(q + d(feedforward(q)))``, logits of group k: ``q_k W_k + b``.

    Args:
        num_classes, in_channels, loss: as everywhere.
        num_groups: K, at most C; K = C gives every class a query.
        embed_dims: width of queries and attention.
        num_heads: attention heads.
        feedforward_channels: width of the feed-forward layer.
        dropout: of queries, attention and feed-forward layer, in training.
        prior: as in :class:`LinearHead`.

    Reference:
        Ridnik et al., ML-Decoder: Scalable and Versatile Classification
        Head, WACV 2023, arXiv 2111.12933.
    """

    def __init__(self, num_classes: int, in_channels: int, loss: Dict[str, Any],
                 num_groups: int = 100, embed_dims: int = 768, num_heads: int = 8,
                 feedforward_channels: int = 2048, dropout: float = 0.1,
                 prior: Optional[float] = None) -> None:
        super().__init__(num_classes, in_channels, loss)
        groups = min(num_groups, num_classes)
        self.embed = nn.Linear(in_channels, embed_dims)
        # Fixed: the paper finds that learning the queries gains nothing.
        self.register_buffer('queries', torch.randn(groups, embed_dims))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(embed_dims) for _ in range(3))
        self.attention = nn.MultiheadAttention(embed_dims, num_heads, dropout, batch_first=True)
        self.linear1 = nn.Linear(embed_dims, feedforward_channels)
        self.linear2 = nn.Linear(feedforward_channels, embed_dims)
        self.dropout = nn.Dropout(dropout)
        per_group = math.ceil(num_classes / groups)
        self.group_weight = nn.Parameter(torch.empty(groups, embed_dims, per_group))
        self.group_bias = nn.Parameter(torch.zeros(num_classes))
        if check_prior(prior) is None:
            nn.init.xavier_normal_(self.group_weight)
        else:
            nn.init.normal_(self.group_weight, std=0.01 / math.sqrt(embed_dims))
            nn.init.constant_(self.group_bias, logit(prior))

    def own_name(self, name: str, classifier: Optional[str]) -> Optional[str]:
        _, found, name = name.rpartition('decoder.')
        for theirs, ours in OFFICIAL_DECODER.items():
            name = name.replace(theirs, ours)
        return name if found else None

    def forward(self, features: Features) -> Tensor:
        """``(N, C', h, w)`` or tokens ``(N, L, C')`` to logits ``(N, C)``."""
        x = self._map(features)
        if x.dim() == 4:
            x = x.flatten(2).transpose(1, 2)
        elif x.dim() == 2:
            raise UserError('MLDecoderHead attends to a feature map, but the features are pooled: '
                            'remove the neck, or use LinearHead')
        memory = F.relu(self.embed(x))
        # Not len(): that fixes the batch of an export.
        x = self.queries.to(memory.dtype).expand(memory.size(0), -1, -1)
        x = self.norm1(x + self.dropout(x))
        x = self.norm2(x + self.dropout(self.attention(x, memory, memory, need_weights=False)[0]))
        hidden = self.dropout(F.relu(self.linear1(x)))
        x = self.norm3(x + self.dropout(self.linear2(hidden)))
        logits = torch.einsum('nkd,kdg->nkg', x, self.group_weight).flatten(1)
        return logits[:, :self.num_classes] + self.group_bias


def check_prior(prior: Optional[float]) -> Optional[float]:
    if prior is not None and not 0 < prior < 1:
        raise UserError(f'prior={prior}: expected a probability between 0 and 1, or None')
    return prior
