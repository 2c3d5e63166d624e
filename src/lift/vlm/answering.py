"""What a language model answers about images, and how much of it is right, by kind of question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lift.errors import ConfigError
from lift.evals._metrics import share
from lift.terms import ImageLike, Metric
from lift.vlm.assembly import Llava
from lift.vlm.conversations import question
from lift.vlm.questions import KINDS, Question
from lift.vlm.recipes import IMAGE, Template


@torch.inference_mode()
def answers(
    seeing: Llava,
    asked: Sequence[tuple[ImageLike | None, str]],
    template: Template,
    *,
    max_new_tokens: int = 8,
    batch_size: int = 64,
) -> list[str]:
    """Return the likeliest answer to each question, word by word, without what ends it.

    Args:
        seeing: who is asked.
        asked: an image (None: none is shown) and a question, each asked for itself.
        template: that it was tuned with.
        max_new_tokens: where an answer that does not end is cut.
        batch_size: questions answered together, of equal length, so that nothing is filled up.

    Raises:
        BrokenSample: an image can't be read.
        ConfigError: a size below 1.
    """
    if batch_size < 1 or max_new_tokens < 1:
        raise ConfigError("batch_size and max_new_tokens must be at least 1.")
    tokenizer, found = seeing.tokenizer, [""] * len(asked)
    by_length: dict[tuple[int, bool], list[tuple[int, list[int]]]] = {}
    for number, (image, text) in enumerate(asked):
        shown = seeing.patches if image is not None else 0
        text = text.replace(IMAGE, "").strip()  # its patches are put in place of it
        ids = tokenizer(question(template, text, shown), verbose=False)["input_ids"]
        by_length.setdefault((len(ids), image is not None), []).append((number, ids))
    for (length, shown), group in by_length.items():
        for first in range(0, len(group), batch_size):
            part = group[first : first + batch_size]
            ids = torch.tensor([row for _, row in part], device=seeing.device)
            images = [asked[number][0] for number, _ in part]
            # Not as None: generation would look for the image that it names.
            seen = (
                {"pixel_values": seeing.pixels([i for i in images if i is not None])}
                if shown
                else {}
            )
            made = seeing.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                **seen,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
            for (number, _), row in zip(part, made[:, length:], strict=True):
                found[number] = tokenizer.decode(row, skip_special_tokens=True).strip()
    return found


def accuracy(asked: Sequence[Question], answered: Sequence[str]) -> dict[str, Metric]:
    """Return the share of right answers by kind, and the mean of the kinds as "mean".

    An answer is right if it is the word, in any case, with a full stop or not. Questions about one
    scene are drawn together in the intervals; in the mean each kind counts alike.
    """
    right = np.array(
        [a.strip().rstrip(".").lower() == q.answer for q, a in zip(asked, answered, strict=True)],
        np.float64,
    )
    kinds = np.array([q.kind for q in asked])
    scenes = np.unique([q.key for q in asked], return_inverse=True)[1]
    found = {k: share(right[kinds == k], None, scenes[kinds == k]) for k in KINDS if k in kinds}
    weights = np.array([1 / (kinds == kind).sum() for kind in kinds])
    found["mean"] = share(right, weights * len(right) / weights.sum(), scenes)
    return found
