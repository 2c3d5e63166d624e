"""What a bill says: its table, and in plain sentences whether LIFT is cheaper than CLIP."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lift.training import amounts

if TYPE_CHECKING:
    from lift.training.cost import Against, Cost
    from lift.training.encoder_cost import EncoderSize

CLIP_B = (12, 512)
"""Blocks and width of CLIP-B's text tower (Radford et al. 2021)."""

SEVERAL = 3.0
"""Times its image tower that a text tower costs where a comparison is one of caption lengths."""


def verdict(bill: Cost) -> str:
    """Return in plain sentences whether LIFT is cheaper than CLIP."""
    return f"{_verdict(bill)}{_caution(bill)}"


def _caution(bill: Cost) -> str:
    """Say where CLIP's cost is nearly all that of long captions beside small images."""
    if (times := _times(bill)) < SEVERAL:
        return ""
    return (
        f" Beware: {bill.usual.name}, that text tower costs {amounts.number(times)} times as much "
        "as this recipe's image tower. The comparison says how long the captions are beside the "
        "images; it is no finding about LIFT."
    )


def _tower(bill: Cost) -> str:
    blocks, width = bill.text_tower
    of = "CLIP-B" if bill.text_tower == CLIP_B else "as deep as the image tower"
    return f"{of}, {blocks} x {width}"


def _times(bill: Cost) -> float:
    """Return the cost of CLIP's text tower over that of its image tower."""
    usual = bill.usual
    return usual.step_flops / usual.image_flops if usual.image_flops > 0 else math.inf


def _verdict(bill: Cost) -> str:
    usual, bare = bill.usual, bill.against[-1]
    share = f"At {amounts.epochs(bill.epochs)}"
    tower = f"text tower {_tower(bill)}, {usual.name}"
    if usual.ratio is None or usual.cheaper_from is None:
        saved = 1 - bill.training_flops / usual.clip_flops
        return (
            f"{share} LIFT's training costs {abs(saved):.0%} {'less' if saved >= 0 else 'more'}"
            f" than CLIP's ({tower}); what the embedding costs is not in it: "
            f"{bill.encoder.source}."
            + ("" if bill.price is not None else " Give a price per million tokens.")
        )
    told = f"{share} LIFT costs {_ratio(usual.ratio)} CLIP ({tower})"
    if not bill.embedding_flops:
        return f"{told}; there is no embedding to pay."
    told += ", counting the embedding"
    if usual.ratio > 1:
        told = f"LIFT costs more than CLIP here. {told}"
    told += f"; it is cheaper {_from(usual.cheaper_from)}"
    if usual.ratio > 1 and 0 < usual.cheaper_from < math.inf:
        largest = bill.epochs / usual.cheaper_from * (bill.encoder.parameters or 0)
        told += (
            ", of all models trained on these captions together, or with a text encoder of at "
            f"most {amounts.short(largest)} parameters"
        )
    if bare.ratio is None or bare.cheaper_from is None:
        return f"{told}."
    return (
        f"{told}. Against a text tower that pads nothing it costs {_ratio(bare.ratio)} and is "
        f"cheaper {_from(bare.cheaper_from)}."
    )


def table(bill: Cost) -> str:
    """Return the bill as aligned text, the verdict last."""
    device, captions = bill.device, bill.captions
    rows = [
        ("captions", f"{captions.count:,}, {captions.mean:.1f} tokens, at most "
         f"{captions.longest:,} ({captions.source})"),
        ("text encoder", f"{bill.encoder.name}, {_size(bill.encoder)}"),
        ("device", f"{device.name}, {device.tflops:,.4g} TFLOP/s ({device.source}), "
         f"{device.utilisation:.0%} of it reached"),
        ("text space", f"{bill.dimensions:,} dimensions ({bill.dimensions_from})"),
        ("epochs", f"{amounts.epochs(bill.epochs)} of {bill.pairs:,} {bill.unit}".replace(
            " epochs of", " of") + (f" ({bill.models} models)" if bill.models > 1 else "")),
        ("embedding, a caption", amounts.flops(bill.caption_flops)),
        ("embedding, in all", _flops_and_hours(bill, bill.embedding_flops)),
    ]  # fmt: skip
    if bill.price is not None:
        rows.append(
            (
                "embedding, price",
                f"{amounts.number(bill.price)}, in the currency of the price a token",
            )
        )
    rows += [
        ("image training, an image", amounts.flops(bill.image_flops)),
        ("image training, in all", _flops_and_hours(bill, bill.training_flops)),
    ]
    if bill.embedding_flops is not None:
        total = bill.training_flops + bill.embedding_flops
        rows.append(("LIFT in all", _flops_and_hours(bill, total)))
    times = f"{amounts.number(_times(bill))} times the FLOPs of the image tower"
    rows.append(("CLIP's text tower", f"{_tower(bill)}: {times}"))
    for clip in bill.against:
        ratio = "" if clip.ratio is None else f"; LIFT {_ratio(clip.ratio)}"
        saved = amounts.flops(clip.step_flops * bill.pairs)
        if clip.tokens < bill.captions.mean:
            ratio += " (cuts most captions)"
        rows += [
            (f"CLIP, text {clip.name}", _flops_and_hours(bill, clip.clip_flops) + ratio),
            (
                "  text tower, saved an epoch",
                f"{saved} ({amounts.flops(clip.step_flops)} a caption)",
            ),
            ("  break-even", _break_even(clip)),
        ]
    rows += [
        (
            f"cache, {codec}",
            f"{amounts.size(size)} ({size / captions.count:,.0f} bytes a caption)",
        )
        for codec, size in bill.storage.items()
    ]
    wide = max(len(name) for name, _ in rows)
    lines = [f"{name:<{wide}}  {value}" for name, value in rows]
    return "\n".join([*lines, "", verdict(bill)])


def _flops_and_hours(bill: Cost, flops: float | None) -> str:
    if flops is None:
        return amounts.flops(None)
    return f"{amounts.flops(flops)}, {amounts.device_time(bill.device.hours(flops))}"


def _size(encoder: EncoderSize) -> str:
    if encoder.parameters is None:
        return f"size unknown ({encoder.source})"
    return f"{amounts.short(encoder.parameters)} parameters without embeddings ({encoder.source})"


def _break_even(clip: Against) -> str:
    if clip.break_even is None or clip.cheaper_from is None:
        return "unknown"
    if clip.cheaper_from < amounts.AT_ONCE:
        return "at once"
    whole = "never" if math.isinf(clip.cheaper_from) else amounts.number(clip.cheaper_from)
    return f"{amounts.epochs(clip.break_even)} of training ({whole} with LIFT's head counted)"


def _from(epochs: float) -> str:
    """Say from which epoch on."""
    if math.isinf(epochs):
        return "never, since its head costs more than the text tower"
    if epochs < amounts.AT_ONCE:
        return "at once"
    return f"from {amounts.epochs(math.ceil(epochs) if epochs > 3 else epochs)}"


def _ratio(value: float) -> str:
    """Return a cost as a multiple of CLIP's."""
    return f"{value:.2f}x" if value >= 0.01 else "less than 0.01x"
