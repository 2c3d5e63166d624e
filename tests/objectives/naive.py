"""Every objective in float64 loops, straight from its formula; and small steps to try them on.

`REFERENCES[name](z_image, texts, numbers, **options)` returns the loss of a whole step and each
image's own loss, as torch scalars with a graph: gradients come by autograd. Nothing here is shared
with the code under test but `Candidates`.
"""

from __future__ import annotations

import torch

from lift.candidates import Candidates, Extra
from lift.terms import unit


def total(values):
    """Return the sum of torch scalars, also of none."""
    return torch.stack(values).sum() if len(values) else torch.zeros((), dtype=torch.float64)


def truth(texts, share_equal=True, ignore_above=None, untaught_too=True, most=float("inf")):
    """Return {(image, text): how right} and the set of (image, text) that are left out."""
    b, c, z = texts.images, len(texts.z), texts.z.detach()
    owner = texts.owner.tolist()
    row = range(c) if texts.row is None else texts.row.tolist()
    weight = [1.0] * c if texts.weight is None else texts.weight.tolist()
    own = {i: [j for j in range(c) if owner[j] == i] for i in range(b)}
    right, dropped = {}, set()
    for i in range(b):
        for j in range(c):
            same = [weight[k] for k in own[i] if k == j or (share_equal and row[k] == row[j])]
            if same and max(same) > 0:
                right[i, j] = min(max(same), most)
            elif ignore_above is not None and any(
                float(z[j] @ z[k]) > ignore_above for k in own[i]
            ):
                dropped.add((i, j))
    if not untaught_too:
        images, captions = {i for i, _ in right}, {j for _, j in right}
        dropped = {(i, j) for i, j in dropped if i in images and j in captions}
    return right, dropped


def rivals(texts, ignore_above=None):
    """Return {image: vectors of the extra texts that compete for it}."""
    found = {i: [] for i in range(texts.images)}
    if texts.extra is None:
        return found
    z = texts.extra.take(0, len(texts.extra.row)).double()
    for i in found:
        own = [j for j in range(len(texts.z)) if texts.owner[j] == i]
        rows = {int(texts.row[j]) for j in own}
        for e, row in enumerate(texts.extra.row.tolist()):
            near = ignore_above is not None and any(
                float(z[e] @ texts.z[j].detach()) > ignore_above for j in own
            )
            if row not in rows and not near:
                found[i].append(z[e])
    return found


def described(texts):
    """Return {image: unit vector of the weighted mean of its texts}, of those that have one."""
    weight = torch.ones(len(texts.z)) if texts.weight is None else texts.weight
    found = {}
    for i in range(texts.images):
        own = [j for j in range(len(texts.z)) if texts.owner[j] == i and weight[j] > 0]
        if own:
            mean = torch.stack([texts.z[j].detach() * weight[j].double() for j in own]).sum(0)
            found[i] = mean / mean.norm()
    return found


def softmax(z_image, texts, numbers, *, share_equal=True, ignore_above=None, direction="both",
            soft=0.0, soft_temperature=0.05):  # fmt: skip
    b, c = texts.images, len(texts.z)
    right, dropped = truth(texts, share_equal, ignore_above, untaught_too=False)
    scale = numbers["log_scale"].exp()
    logit = {(i, j): scale * (z_image[i] @ texts.z[j]) for i in range(b) for j in range(c)}
    others = rivals(texts, ignore_above)
    text_of = described(texts)

    def near(i, j):
        return (text_of[i] @ texts.z[j].detach()) / soft_temperature

    def cross_entropy(pairs, more=()):
        """Of one row or column: its pairs, and logits that only stand in the denominator."""
        goal = {p: right[p] for p in pairs if p in right}
        if not goal:
            return None
        kept = [p for p in pairs if p not in dropped]
        whole = torch.logsumexp(torch.stack([*(logit[p] for p in kept), *more]), 0)
        spread = sum(goal.values())
        hard = total([w / spread * (whole - logit[p]) for p, w in goal.items()])
        if not soft:
            return hard
        known = [p for p in kept if p[0] in text_of]
        share = torch.softmax(torch.stack([near(*p) for p in known]), 0)
        gentle = total([s * (whole - logit[p]) for s, p in zip(share, known, strict=True)])
        return (1 - soft) * hard + soft * gentle

    def mean(found):
        counted = [x for x in found if x is not None]
        return total(counted) / max(len(counted), 1)

    rows = [
        cross_entropy([(i, j) for j in range(c)], [scale * (z_image[i] @ z) for z in others[i]])
        for i in range(b)
    ]
    by_image = [torch.zeros(()).double() if x is None else x for x in rows]
    if direction == "to_text":
        return mean(rows), by_image
    columns = [cross_entropy([(i, j) for i in range(b)]) for j in range(c)]
    return (mean(rows) + mean(columns)) / 2, by_image


def sigmoid(z_image, texts, numbers, *, share_equal=True, ignore_above=None):
    right, dropped = truth(texts, share_equal, ignore_above, most=1.0)
    scale, bias = numbers["log_scale"].exp(), numbers["bias"]
    others = rivals(texts, ignore_above)

    def away(x):
        return torch.log1p(x.exp())

    by_image = []
    for i in range(texts.images):
        terms = [away(scale * (z_image[i] @ z) + bias) for z in others[i]]
        for j in range(len(texts.z)):
            if (i, j) not in dropped:
                x = scale * (z_image[i] @ texts.z[j]) + bias
                t = right.get((i, j), 0.0)
                terms.append(t * away(-x) + (1 - t) * away(x))
        by_image.append(total(terms))
    return total(by_image) / max(texts.images, 1), by_image


def cosine(z_image, texts, numbers):
    del numbers
    weight = [1.0] * len(texts.z) if texts.weight is None else texts.weight.tolist()
    sums = [[] for _ in range(texts.images)]
    shares = [0.0] * texts.images
    for j, i in enumerate(texts.owner.tolist()):
        sums[i].append(weight[j] * (1 - z_image[i] @ texts.z[j]))
        shares[i] += weight[j]
    by_image = [total(s) / (share or 1.0) for s, share in zip(sums, shares, strict=True)]
    return total([total(s) for s in sums]) / (sum(shares) or 1.0), by_image


def matryoshka(z_image, texts, numbers, *, of="softmax", prefixes, weights=(), **options):
    lengths = [*prefixes, z_image.shape[1]]
    weights = weights or [1.0] * len(lengths)
    losses, by_image = [], []
    for length, weight in zip(lengths, weights, strict=True):

        def cut(z, length=length):
            part = z[:, :length]
            full = length == z.shape[1]
            return part if full else part / part.norm(dim=1, keepdim=True)

        extra = texts.extra and Extra(
            texts.extra.row, lambda a, b, cut=cut: cut(texts.extra.take(a, b))
        )
        facts = texts.owner, texts.row, texts.weight, texts.images, 0, extra
        loss, each = REFERENCES[of](
            cut(z_image), Candidates(cut(texts.z), *facts), numbers, **options
        )
        losses.append(weight / sum(weights) * loss)
        by_image.append(weight / sum(weights) * torch.stack(each))
    return total(losses), list(torch.stack(by_image).sum(0))


def agreement(texts):
    """Return the mean, over images with several different captions, of the cosine of two."""
    means = []
    for i in range(texts.images):
        known = {}
        for j in range(len(texts.z)):
            counted = texts.weight is None or texts.weight[j] > 0
            if texts.owner[j] == i and counted:
                known[int(texts.row[j])] = texts.z[j].detach()
        pairs = [a @ b for n, a in enumerate(known.values()) for b in list(known.values())[:n]]
        if pairs:
            means.append(total(pairs) / len(pairs))
    return total(means) / len(means) if means else torch.ones((), dtype=torch.float64)


def compatible(z_image, texts, numbers, *, of="softmax", weight=10.0, positives=True, everyone=True,
               target=None):  # fmt: skip
    ranked, each = REFERENCES[of](z_image, texts, numbers)
    right, _ = truth(texts)
    goal = agreement(texts) if target is None else target
    given = [1.0] * len(texts.z) if texts.weight is None else texts.weight.tolist()
    z, fixed = texts.z, texts.z.detach()
    others, terms = rivals(texts), []
    for i in range(texts.images):
        own = [j for j in range(len(z)) if texts.owner[j] == i]
        spread = sum(given[j] for j in own)
        if not spread:
            terms.append(None)
            continue
        term = total([])
        apart = [j for j in range(len(z)) if (i, j) not in right]
        pairs = [(z[j], fixed[j]) for j in apart] + [(e, e) for e in others[i]]
        if everyone and pairs:
            far = [
                z_image[i] @ t - sum(given[k] / spread * (fixed[k] @ still) for k in own)
                for t, still in pairs
            ]
            term = term + total([x**2 for x in far]) / len(far)
        if positives:
            near = [given[j] / spread * (z_image[i] @ z[j] - goal) ** 2 for j in own]
            term = term + total(near)
        terms.append(weight * term)
    counted = [term for term in terms if term is not None]
    by_image = [x if t is None else x + t for x, t in zip(each, terms, strict=True)]
    return ranked + total(counted) / max(len(counted), 1), by_image


REFERENCES = {
    "compatible": compatible,
    "cosine": cosine,
    "matryoshka": matryoshka,
    "sigmoid": sigmoid,
    "softmax": softmax,
}

OPTIONS = {
    "compatible": [
        {},
        {"of": "sigmoid", "weight": 30.0, "positives": False},
        {"of": "cosine", "weight": 3.0, "everyone": False},
        {"of": "cosine", "target": 0.6},
    ],
    "cosine": [{}],
    "sigmoid": [{"share_equal": False}, {}, {"ignore_above": 0.3}],
    "softmax": [
        {"share_equal": False},
        {},
        {"ignore_above": 0.3},
        {"direction": "to_text"},
        {"direction": "to_text", "ignore_above": 0.3, "soft": 0.25},
        {"soft": 0.4},
        {"soft": 0.4, "soft_temperature": 0.3, "ignore_above": 0.3},
        {"soft": 1.0, "share_equal": False},
    ],
    "matryoshka": [
        {"prefixes": (2, 5)},
        {"prefixes": (3,), "weights": (1.0, 0.25), "of": "sigmoid"},
        {"prefixes": (3, 6), "weights": (1.0, 0.0, 2.0), "of": "cosine"},
    ],
}
"""What each objective is tried with; `of` is the inner one's name."""

CASES = [(name, options) for name, several in OPTIONS.items() for options in several]

FACTS = {
    "plain": {},
    "no text repeats": {"distinct": True},
    "weights": {"weights": True},
    "some weights are 0": {"weights": True, "zeros": True},
    "extra texts": {"further": 9},
    "extra texts and weights": {"further": 9, "weights": True},
}
"""Kinds of steps: options of `step`."""


def step(images=7, more=6, width=8, seed=0, *, weights=False, zeros=False, further=0,
         sort=False, lonely=True, distinct=False, dtype=torch.float64):  # fmt: skip
    """Return image vectors and the texts of a step: some images have several, some texts repeat.

    Args:
        more: texts beside one for each image.
        weights, zeros: texts have weights; an image's are all 0, and so is another's first.
        further: how many extra texts; some equal a text of the step, some are close to one.
        sort: texts of one image stand together, in the order of images.
        lonely: the last image but one has no text.
        distinct: no text equals another one.
    """
    draw = torch.Generator().manual_seed(seed)
    z_image = unit(torch.randn(images, width, generator=draw, dtype=torch.float64))
    owner = torch.cat([torch.arange(images), torch.randint(0, images, (more,), generator=draw)])
    owner = owner[torch.randperm(len(owner), generator=draw)]
    if lonely:
        owner = torch.where(owner == images - 2, 0, owner)
    if sort:
        owner = owner.sort().values
    row = torch.randint(100, 103, (len(owner),), generator=draw)
    row[::2] = torch.arange(len(row[::2]))
    first, second = (owner == 0).nonzero()[:2, 0].tolist()
    row[second] = row[first]  # an image may have a text twice
    if distinct:
        row = torch.randperm(len(owner), generator=draw) + 100
    rows = torch.cat([row, torch.arange(1000, 1000 + further)])
    if further:
        taken = torch.randint(0, len(row), (len(rows[-further::2]),), generator=draw)
        rows[-further::2] = row[taken]
    vectors = {
        int(r): torch.randn(width, generator=draw, dtype=torch.float64) for r in rows.unique()
    }
    z = unit(torch.stack([vectors[int(r)] for r in rows]) + 0.3)
    if further:  # the second and so on are close to one that is here
        near = z[: len(z[-further + 1 :: 2])]
        z[-further + 1 :: 2] = unit(near + 0.05 * z[-further + 1 :: 2])
    weight = None
    if weights:
        weight = torch.rand(len(owner), generator=draw) * 0.9 + 0.1
        if zeros:
            weight[owner == 1] = 0
            weight[(owner == 2).nonzero()[0]] = 0
    extra = None
    if further:
        kept = z[len(owner) :].to(dtype)
        extra = Extra(rows[len(owner) :], lambda start, stop: kept[start:stop])
    texts = Candidates(z[: len(owner)].to(dtype), owner, row, weight, images, 0, extra)
    return z_image.to(dtype), texts
