"""Training steps that the benchmarks compare: each is built alone, on equal weights and inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lift import plugins
from lift.config import part, to_dict
from lift.data.transform import Transform
from lift.heads import HeadConfig
from lift.model import Side, SideConfig, TwoSided, build_side
from lift.terms import Batch
from lift.text_towers import transformer
from lift.towers import vit
from lift.training.config import OptimConfig
from lift.training.optim import make_optimizer
from lift.training.passes import Means
from lift.training.step import Stepper
from lift.world import Precision, autocast

INPUTS = 4
"""Random inputs that take turns: equal inputs, or zeros, would flatter caches and power."""
VOCABULARY = 49_408
"""Of CLIP's tokenizer."""
CLIP_NORM = 1.0
OPTIM = OptimConfig(lr=1e-4, warmup_steps=0, clip_norm=CLIP_NORM)

TOWERS: dict[str, Callable[..., vit.Config]] = {
    "tiny64": lambda **changes: vit.clip_size("Ti/8", **{"depth": 6, **changes}),
    **{
        name: lambda name=name, **changes: vit.clip_size(name, **changes)
        for name in ("Ti/16", "S/16", "B/16")
    },
}
"""CLIP's trunk with the mean of its patches, which open_clip can hold too."""
RESOLUTIONS = {"tiny64": 64}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all contenders of a comparison have in common.

    Attributes:
        tower: of the images.
        batch: images of a step.
        dimensions: of LIFT's text rows.
        tokens: of every caption in CLIP.
        precision: of the towers.
        compile: nothing, each block of the towers, or each side whole (a foreign model whole).
        device: where they run.
    """

    tower: vit.Config
    batch: int
    dimensions: int = 384
    tokens: int = 77
    precision: Precision = "float32"
    compile: Literal["off", "block", "side"] = "off"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def text_width(self) -> int:
        """Width of CLIP's text tower, two thirds of the images': 512 beside ViT-B, as released."""
        return self.tower.width * 2 // 3

    @property
    def text_heads(self) -> int:
        """Of CLIP's text tower, 64 wide."""
        return max(1, self.text_width // 64)

    @property
    def head(self) -> HeadConfig:
        """The paper's: two layers, as wide as the text space."""
        return HeadConfig(layers=2)

    def pixels(self) -> list[Tensor]:
        """Return the inputs, uint8 on the device."""
        generator = torch.Generator().manual_seed(1)
        shape = (self.batch, 3, self.tower.resolution, self.tower.resolution)
        return [
            torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(self.device)
            for _ in range(INPUTS)
        ]

    def captions(self) -> list[Tensor]:
        """Return the inputs of CLIP's text tower: ids that fill it, the last one ends the text."""
        generator = torch.Generator().manual_seed(2)
        made = []
        for _ in range(INPUTS):
            ids = torch.randint(1, VOCABULARY - 2, (self.batch, self.tokens), generator=generator)
            ids[:, 0], ids[:, -1] = VOCABULARY - 2, VOCABULARY - 1
            made.append(ids.to(self.device))
        return made

    def build_tower(self) -> nn.Module:
        """Return the tower; every call draws the same weights."""
        torch.manual_seed(0)
        return vit.build(self.tower).to(self.device).train()


@dataclass(kw_only=True)
class Contender:
    """Something that takes steps.

    Attributes:
        step: takes the step with input i % INPUTS; returns its loss where it has one.
        modules: what holds the weights.
        inputs: what lies on the device for it, beside weights.
        graph: builds the graph of a step's backward pass and returns what holds it.
    """

    step: Callable[[int], float | None]
    modules: tuple[nn.Module, ...]
    inputs: list[Tensor]
    graph: Callable[[], object]

    def held(self) -> Iterator[Tensor]:
        """Yield what is in memory between steps, gradients and moments left out."""
        yield from self.inputs
        for module in self.modules:
            yield from module.parameters()
            yield from module.buffers()


def bare(setting: Setting) -> Contender:
    """Return the tower alone, forward and backward under a fixed random gradient; no optimiser."""
    tower = setting.build_tower()
    if setting.compile != "off":
        tower.compile() if setting.compile == "side" else _compile_blocks(tower)
    transform = Transform(resolution=setting.tower.resolution)
    pixels = [transform.normalise(images) for images in setting.pixels()]
    generator = torch.Generator().manual_seed(3)
    shape = (setting.batch, setting.tower.width)
    upstream = torch.randn(shape, generator=generator).to(setting.device)

    def forward(i: int) -> Tensor:
        with autocast(setting.device, setting.precision):
            return tower(pixels[i % INPUTS])

    def step(i: int) -> None:
        for p in tower.parameters():
            p.grad = None
        h = forward(i)
        h.backward(upstream.to(h.dtype))

    return Contender(
        step=step, modules=(tower,), inputs=[*pixels, upstream], graph=lambda: forward(0)
    )


def our_lift(setting: Setting) -> Contender:
    """Return LIFT's step: from uint8 pixels and stored rows on the device to moved weights."""
    tower = setting.build_tower()
    torch.manual_seed(5)
    side = build_side(
        SideConfig(tower=None, head=setting.head), setting.tower.width, setting.dimensions
    )
    model = TwoSided(
        Side(tower, side.head),
        build_side(SideConfig(), setting.dimensions, setting.dimensions),
        plugins.build(part("objectives", "softmax")),
    )
    generator = torch.Generator().manual_seed(4)
    texts = [
        torch.randn(setting.batch, setting.dimensions, generator=generator).to(setting.device)
        for _ in range(INPUTS)
    ]
    return _ours(setting, model, setting.pixels(), texts)


def our_clip(setting: Setting) -> Contender:
    """Return CLIP's step by us: a text tower of CLIP's shape, a matrix after each tower."""
    return _ours(setting, clip_model(setting), setting.pixels(), setting.captions())


def clip_model(setting: Setting) -> TwoSided:
    """Return our CLIP; every call draws the same weights."""
    tower = setting.build_tower()
    torch.manual_seed(6)
    return TwoSided(
        Side(tower, _matrix(setting.tower.width, setting.text_width)),
        Side(build_text(setting), _matrix(setting.text_width, setting.text_width)),
        plugins.build(part("objectives", "softmax")),
    )


def text_config(setting: Setting, **changes: Any) -> transformer.Config:
    """Return the options of CLIP's text tower."""
    shape = {
        "width": setting.text_width,
        "depth": setting.tower.depth,
        "heads": setting.text_heads,
        "context": setting.tokens,
        "vocabulary": VOCABULARY,
    }
    return transformer.Config(**{**shape, **changes})


def build_text(setting: Setting, **changes: Any) -> nn.Module:
    """Return CLIP's text tower."""
    return transformer.build(text_config(setting, **changes))


def _matrix(wide_in: int, wide_out: int) -> nn.Module | None:
    side = build_side(SideConfig(head=HeadConfig(layers=1, bias=False)), wide_in, wide_out)
    return side.head


def _ours(
    setting: Setting, model: TwoSided, pixels: list[Tensor], texts: list[Tensor]
) -> Contender:
    """Return the step of a model of ours; the one place that knows how a step is taken."""
    device = setting.device
    model = model.to(device).train()
    count = torch.arange(setting.batch)
    batches = [
        Batch(
            images=images,
            texts=rows,
            owner=count.to(device),
            row=(count + 1000 * i).to(device),
            index=count,
            source=torch.zeros_like(count),
            prints=torch.zeros(setting.batch, 2, dtype=torch.int64),
        )
        for i, (images, rows) in enumerate(zip(pixels, texts, strict=True))
    ]
    stored = model.text.is_stored
    means = Means(
        model=model,
        transform=Transform(resolution=setting.tower.resolution),
        device=device,
        precision=setting.precision,
        decode=Tensor.float if stored else lambda ids: ids,
    )
    stepper = Stepper(
        means, make_optimizer(model, OPTIM), clip_norm=CLIP_NORM, compiled=setting.compile
    )

    def graph() -> object:
        with autocast(device, setting.precision):
            images = model.image(means.transform.normalise(pixels[0]))
            return images, None if stored else model.text(texts[0])

    return Contender(
        step=lambda i: stepper.take([batches[i % INPUTS]], i).loss,
        modules=(model,),
        inputs=[*pixels, *texts],
        graph=graph,
    )


def _compile_blocks(module: nn.Module) -> None:
    for block in getattr(module, "blocks", ()):
        block.compile()


def described(setting: Setting) -> dict[str, Any]:
    """Return the setting for a record."""
    return {**to_dict(setting.tower), "batch": setting.batch, "tokens": setting.tokens,
            "text width": setting.text_width, "text layers": setting.tower.depth,
            "dimensions": setting.dimensions, "precision": setting.precision,
            "compile": setting.compile, "device": str(setting.device)}  # fmt: skip
