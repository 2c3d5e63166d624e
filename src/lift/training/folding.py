"""From an image side trained on conditioned text rows to one that answers in the raw space."""

from __future__ import annotations

import dataclasses

import torch

from lift.heads import Head, HeadConfig
from lift.model import Side
from lift.moved_heads import folded_behind, linear_head
from lift.text.conditioning import Condition


def folded(side: Side, config: HeadConfig, condition: Condition) -> tuple[Side, HeadConfig]:
    """Return the side with the transform folded into its head, and that head's options.

    Exact but for rounding: the new side returns unit(F z) where the old one returns z. The tower
    is shared with the side, the head is new; the side itself stays as it is, and no random number
    is drawn.

    Args:
        side: trained on rows of `condition.width` numbers.
        config: of its head.
        condition: what its text rows went through.
    """
    back = condition.fold()
    if side.head is None:
        like = next(iter(side.parameters()), torch.empty(0))
        head: Head = linear_head(back.to(like))
        hidden = config.hidden or condition.width
        head.config = dataclasses.replace(head.config, hidden=hidden)
    else:
        assert isinstance(side.head, Head), type(side.head)
        head = folded_behind(side.head, back)
    changed = Side(side.tower, head.train(side.training))
    changed.training = side.training  # not train(): the tower is the side's, too
    return changed, head.config
