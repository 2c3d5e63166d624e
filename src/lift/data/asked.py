"""What a batch is asked for by, and what is known of a sample on its way into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from lift.data.augment import View
from lift.data.image import Picture
from lift.terms import Caption


class Request(NamedTuple):
    """The samples of one batch and the epoch that each is in."""

    epochs: Int64[np.ndarray, " n"]
    numbers: Int64[np.ndarray, " n"]


class Told(NamedTuple):
    """What is known of a sample besides its pixels."""

    key: str
    captions: Sequence[Caption]
    rows: Int64[np.ndarray, " n"]


class Found(NamedTuple):
    """One sample of a batch before its picture is decoded.

    Attributes:
        number: of the sample.
        epoch: that it is shown in.
        told: its key, captions and rows.
        shown: places of the captions that the batch shows.
        image: the picture, or its canvas.
        view: of the image, in its coordinates.
        prints: hashes of its file and its look; the look is 0 until it is decoded.
        taught: the address of what a teacher made of this view, "" without a teacher.
    """

    number: int
    epoch: int
    told: Told
    shown: Int64[np.ndarray, " shown"]
    image: Picture | Tensor
    view: View
    prints: tuple[int, int]
    taught: str = ""
