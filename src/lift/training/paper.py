"""The released configuration of LIFT's paper, and the CLIP that it was compared with."""

from __future__ import annotations

import dataclasses

from lift.config import part
from lift.data.augment import Augment
from lift.data.loader import LoaderConfig
from lift.data.transform import CLIP_MEAN, CLIP_STD, Transform
from lift.heads import HeadConfig
from lift.training import methods
from lift.training.config import OptimConfig, RunConfig


def paper(name: str, *, samples: int, pairs: int, cap: int) -> RunConfig:
    """Return the released configuration, value by value (docs/reproduce.md has the sources).

    `--set encoder.model=FOLDER` says where the text encoder was when the cache was made, and
    `--set encoder=none` takes rows of any other encoder with 4,096 dimensions.

    Gradient checkpointing, on in the release, is off: it changes no number and costs a third.
    """
    return RunConfig(
        recipe=name,
        samples=samples,
        pairs=pairs,
        encoder=part("text/encoders", "nv_embed", max_tokens=cap),
        dimensions=4096,
        transform=Transform(
            resolution=224,
            mean=CLIP_MEAN,
            std=CLIP_STD,
            augment=Augment(scale=(0.9, 1.0), aspect=(3 / 4, 4 / 3)),
        ),
        loader=LoaderConfig(batch_size=16_384, workers=8),
        tower=part(
            "towers",
            "vit",
            width=768,
            depth=12,
            heads=12,
            patch=16,
            resolution=224,
            pooling="mean",
            class_token=True,
            pre_norm=True,
            patch_bias=False,
            norm_eps=1e-5,
        ),
        head=HeadConfig(layers=2),
        objective=part("objectives", "softmax", share_equal=False, ignore_above=None),
        optim=OptimConfig(
            lr=1e-3,
            betas=(0.9, 0.98),
            eps=1e-6,
            weight_decay=0.2,
            warmup_steps=500,
            final_lr=0.0,
            clip_norm=1.0,
        ),
        checkpoint_every=1000,
        log_every=20,
        seed=0,
    )


def unmatched(base: RunConfig, *, context: int) -> RunConfig:
    """Return CLIP as the paper's repository trains it: 149.62 million parameters at 77 tokens.

    It pools the class token, projects by one matrix without bias, pads captions to the context,
    and clips no gradient. Optimiser, data and views are LIFT's. `share_equal=False`: captions
    that are equal push each other's images away, there as here.
    """
    matrix = HeadConfig(layers=1, bias=False)
    return dataclasses.replace(
        base,
        encoder=None,
        dimensions=512,
        tower=dataclasses.replace(base.tower, options={**base.tower.options, "pooling": "token"}),
        head=matrix,
        text_tower=part(
            "text_towers",
            "transformer",
            **methods.text_shape(768, 12),
            context=context,
            vocabulary=49_408,
            pad_to="context",
        ),
        text_head=matrix,
        optim=dataclasses.replace(base.optim, clip_norm=None),
    )
