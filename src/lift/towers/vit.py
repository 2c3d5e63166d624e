"""A plain vision transformer: CLIP's shape, SigLIP's shape, and what lies between them.

Dosovitskiy et al. 2021 (arXiv 2010.11929); CLIP (2103.00020) adds a norm before the blocks and
drops the bias of the patch embedding; SigLIP (2303.15343) has no class token and pools by
attention. The final norm always comes before the pooling.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lift.config import from_dict
from lift.errors import ConfigError, unknown
from lift.layers import Activation, AttentionPool, Block
from lift.towers._mosaic import by_tile, mosaics, require_tiles

Pooling = Literal["mean", "token", "attention"]

NOT_IN_ROWS = frozenset({"dropout", "patch_dropout", "drop_path", "checkpoint_activations"})

SHAPES: dict[str, tuple[int, int, int]] = {
    "Ti": (192, 12, 3),
    "S": (384, 12, 6),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
}
"""(width, depth, heads) of the named sizes."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Shape and regularisation of the tower; the defaults are Ti/16 in SigLIP's shape.

    Attributes:
        width: length of a token and of the output.
        depth: number of blocks.
        heads: attention heads; they share the width equally.
        patch: pixels of a patch's side.
        resolution: pixels of an image's side that the positions are learned for.
        mlp_ratio: hidden width of a block's MLP, as a multiple of `width`.
        pooling: "mean" of the patches, the class "token", or "attention" with a learned query
            over the patches (SigLIP's MAP head). A class token is in no mean.
        class_token: prepend a learned token.
        pre_norm: norm before the first block (CLIP).
        patch_bias: bias of the patch embedding.
        norm_eps: epsilon of every LayerNorm (CLIP 1e-5, SigLIP 1e-6).
        activation: "gelu" (exact), "quick_gelu" (OpenAI's CLIP) or "gelu_tanh" (SigLIP).
        dropout: share of numbers dropped after attention and MLP; in training only.
        patch_dropout: share of patches left out; in training only (2212.00794).
        drop_path: chance that the last block is skipped for an image, falling linearly to 0 at
            the first; in training only (1603.09382).
        checkpoint_activations: recompute blocks in the backward pass instead of storing them.
    """

    width: int = 192
    depth: int = 12
    heads: int = 3
    patch: int = 16
    resolution: int = 224
    mlp_ratio: float = 4.0
    pooling: Pooling = "mean"
    class_token: bool = False
    pre_norm: bool = False
    patch_bias: bool = True
    norm_eps: float = 1e-6
    activation: Activation = "gelu"
    dropout: float = 0.0
    patch_dropout: float = 0.0
    drop_path: float = 0.0
    checkpoint_activations: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("pooling", Pooling), ("activation", Activation)):
            if getattr(self, name) not in get_args(kind):
                raise unknown(name, getattr(self, name), get_args(kind))
        positive = {name: getattr(self, name) for name in ("width", "depth", "heads", "patch")}
        shares = {name: getattr(self, name) for name in ("dropout", "patch_dropout", "drop_path")}
        complaints = [
            *(f"{name} must be at least 1, not {n}." for name, n in positive.items() if n < 1),
            *(
                f"{name} must lie in [0, 1), not {n}."
                for name, n in shares.items()
                if n < 0 or n >= 1
            ),
        ]
        if not complaints:
            complaints = self._misfits()
        if complaints:
            raise ConfigError(" ".join(complaints))

    def _misfits(self) -> list[str]:
        width, heads, resolution, patch = self.width, self.heads, self.resolution, self.patch
        tests = {
            f"{heads} heads can't share the width {width} equally.": width % heads,
            f"resolution must be a multiple of patch {patch}, not {resolution}.": resolution < 1
            or resolution % patch,
            f"mlp_ratio {self.mlp_ratio} leaves the MLP no hidden unit.": self.hidden < 1,
            f"norm_eps must be above 0, not {self.norm_eps}.": self.norm_eps <= 0,
            "pooling=token needs class_token=true.": self.pooling == "token"
            and not self.class_token,
        }
        return [sentence for sentence, wrong in tests.items() if wrong]

    @property
    def hidden(self) -> int:
        """Hidden width of a block's MLP."""
        return round(self.width * self.mlp_ratio)

    @property
    def patches(self) -> int:
        """Patches of an image at `resolution`."""
        return (self.resolution // self.patch) ** 2


def size(name: str, **changes: Any) -> Config:
    """Return a named size in SigLIP's shape, for example `size("B/16", resolution=256)`.

    Args:
        name: "Ti", "S", "B" or "L", a slash, and the patch size in pixels.
        changes: any other fields of `Config`.

    Raises:
        ConfigError: no such size or field, or a value that does not fit.
    """
    match = re.fullmatch(r"([A-Za-z]+)/([0-9]+)", name)
    if match is None or match[1] not in SHAPES:
        raise unknown("ViT size", name, [f"{s}/{p}" for s in SHAPES for p in (8, 14, 16)])
    width, depth, heads = SHAPES[match[1]]
    shape = {"width": width, "depth": depth, "heads": heads, "patch": int(match[2])}
    return from_dict(Config, {**shape, **changes}, "towers/vit")


def clip_size(name: str, **changes: Any) -> Config:
    """Return a named size as LIFT's paper has it: CLIP's trunk with the mean of its patches.

    The patch embedding has no bias, a norm comes before the blocks, a class token attends but is
    not pooled. B/16 at 224 has 85,799,424 parameters. Arguments and errors as in `size`.
    """
    trunk = {"class_token": True, "pre_norm": True, "patch_bias": False, "norm_eps": 1e-5}
    return size(name, **{**trunk, **changes})


def build(config: Config) -> ViT:
    """Return the tower, its weights drawn from torch's global generator."""
    return ViT(config)


class ViT(nn.Module):
    """The tower; see `Config`.

    Attributes:
        config: what it was built from.
        width: length of `h_image`.
        resolution: pixels of a side that it was built for.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.width, self.resolution = config, config.width, config.resolution
        width, prefix = config.width, int(config.class_token)
        self.patch = nn.Conv2d(3, width, config.patch, config.patch, bias=config.patch_bias)
        if config.class_token:
            self.class_token = nn.Parameter(torch.empty(width))
        self.position = nn.Parameter(torch.empty(prefix + config.patches, width))
        self.norm_pre = nn.LayerNorm(width, config.norm_eps) if config.pre_norm else None
        last = max(config.depth - 1, 1)
        self.blocks = nn.ModuleList(
            Block(config, config.dropout, config.drop_path * i / last) for i in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, config.norm_eps)
        self.pool = AttentionPool(config) if config.pooling == "attention" else None
        self._init()

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b width"]:
        """Return `h_image`, one raw vector an image.

        Args:
            images: normalised pixels. Another size than `resolution` has its positions
                interpolated (bicubic, antialiased).

        Raises:
            ConfigError: a side that is not a multiple of the patch size.
        """
        x = self.norm(self._encode(images, self.config.depth))
        if self.config.pooling == "token":
            return x[:, 0]
        patches = x[:, int(self.config.class_token) :]
        return patches.mean(1) if self.pool is None else self.pool(patches)

    def regions(self, images: Float[Tensor, "b 3 h w"], tiles: int) -> Float[Tensor, "b width"]:
        """Return one raw vector an image, from the patches of its tile in a mosaic.

        The images are shrunk into mosaics of `tiles` x `tiles`, in order, and a mosaic goes
        through the tower as one image: 1 / `tiles`^2 of the cost of `forward`. An image's vector
        can be right only if its patches still say what is at their place.

        Args:
            images: as in `forward`, of the size that mosaics shall have.
            tiles: tiles of a mosaic's side.

        Raises:
            ConfigError: tiles that are not made of whole patches.
        """
        require_tiles(images.shape[2], images.shape[3], self.config.patch, tiles)
        return self.grid(mosaics(images, tiles), tiles)[: len(images)]

    def grid(self, images: Float[Tensor, "b 3 h w"], tiles: int) -> Float[Tensor, "n width"]:
        """Return one raw vector for each of `tiles` x `tiles` equal parts of every image.

        All patches attend to each other; then those of a part are pooled alone, as `forward`
        pools those of an image (after pooling=token by their mean: no token stands for a part).
        Patch dropout leaves every part equally many patches, at least one. Parts follow one
        another row by row, image by image.

        Args:
            images, tiles: as in `regions`.

        Raises:
            ConfigError: parts that are not made of whole patches.
        """
        require_tiles(images.shape[2], images.shape[3], self.config.patch, tiles)
        x = self.norm(self._encode(images, self.config.depth, tiles))
        patches = x[:, int(self.config.class_token) :].unflatten(1, (tiles**2, -1)).flatten(0, 1)
        return patches.mean(1) if self.pool is None else self.pool(patches)

    def tokens(
        self, images: Float[Tensor, "b 3 h w"], layer: int = -1, *, normed: bool = False
    ) -> Float[Tensor, "b p width"]:
        """Return the patch tokens after a block, row by row from the top left, as dense features.

        Args:
            images: as in `forward`.
            layer: 0 is what enters the first block, `depth` or -1 what leaves the last, -2 what
                leaves the last but one.
            normed: apply the final norm, which `forward` does before it pools.

        Raises:
            ConfigError: no such layer, or a side that is not a multiple of the patch size.
        """
        depth = self.config.depth
        if not -depth - 1 <= layer <= depth:
            raise ConfigError(f"layer must lie in -{depth + 1}..{depth}, not {layer}.")
        x = self._encode(images, layer % (depth + 1))
        return (self.norm(x) if normed else x)[:, int(self.config.class_token) :]

    def _encode(self, images: Tensor, depth: int, tiles: int = 1) -> Tensor:
        x = self._embed(images, tiles)
        recompute = self.config.checkpoint_activations and self.training
        for block in self.blocks[:depth]:
            if recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x

    def _embed(self, images: Tensor, tiles: int = 1) -> Tensor:
        config = self.config
        h, w = images.shape[-2:]
        if h % config.patch or w % config.patch or not h or not w:
            raise ConfigError(
                f"Images of {h} x {w} pixels do not divide into patches of {config.patch}; "
                f"resize them to a multiple of {config.patch}."
            )
        x = self.patch(images).flatten(2).transpose(1, 2)
        position = self._position(h // config.patch, w // config.patch)
        prefix = int(config.class_token)
        # Contiguous, or every later sum runs over the convolution's transposed layout. The sum is
        # float32 under autocast too: a bfloat16 stream loses what late blocks add (same speed).
        x = (x + position[prefix:]).contiguous()
        if tiles > 1:
            x = by_tile(x, h // config.patch, tiles)
        if self.training and config.patch_dropout:
            kept = _kept(x.shape[1], config.patch_dropout)
            order = torch.rand(x.shape[:2], device=x.device).argsort(1)[:, :kept, None]
            x = x.gather(1, order.expand(-1, -1, x.shape[2]))
        if tiles > 1:
            x = x.unflatten(0, (-1, tiles**2)).flatten(1, 2)
        if config.class_token:
            first = self.class_token + position[0]
            x = torch.cat([first.expand(x.shape[0], 1, -1), x], 1)
        return x if self.norm_pre is None else self.norm_pre(x)

    def _position(self, rows: int, columns: int) -> Tensor:
        side = self.config.resolution // self.config.patch
        if (rows, columns) == (side, side):
            return self.position
        first, grid = self.position.split([int(self.config.class_token), side * side])
        grid = F.interpolate(
            grid.float().T.unflatten(1, (side, side))[None],
            (rows, columns),
            mode="bicubic",
            antialias=True,
        )
        return torch.cat([first, grid[0].flatten(1).T.to(first.dtype)])

    def _init(self) -> None:
        """Draw weights so that the stream starts with the same variance at any width and depth.

        Matrices are normal with CLIP's scales: width^-0.5 into attention, (2 width)^-0.5 into an
        MLP, and width^-0.5 (2 depth)^-0.5 back into the stream, which 2 depth branches share.
        Positions, class token and query width^-0.5, patches fan-in^-0.5; biases 0, norms 1.
        """
        scale = self.width**-0.5
        back = scale * (2 * self.config.depth) ** -0.5
        stds = {"qkv": scale, "q": scale, "k": scale, "v": scale, "fc1": scale * 2**-0.5}
        stds |= {"out": back, "fc2": back, "patch": (3 * self.config.patch**2) ** -0.5}
        for name, parameter in self.named_parameters():
            owner, _, kind = name.rpartition(".")
            owner = owner.rpartition(".")[2]
            if kind == "bias":
                nn.init.zeros_(parameter)
            elif owner in stds and kind == "weight":
                nn.init.normal_(parameter, std=stds[owner])
            elif kind in ("position", "class_token", "query"):
                nn.init.normal_(parameter, std=scale)


def forward_flops(config: Config, head_flops: int = 0) -> int:
    """Return the operations of one image's forward pass at `resolution`, head included.

    A multiply-add is 2; norms, activations and softmax are left out, as the literature does.
    B/16 at 224 with class token: 35.13e9.
    """
    return _embed_flops(config) + _token_flops(config, config.patches) + head_flops


def training_flops(config: Config, head_flops: int = 0) -> int:
    """Return the operations of one image's forward and backward pass.

    The backward pass costs two forward passes, without the gradient of the pixels, which nobody
    takes. Patches that `patch_dropout` leaves out are not counted; neither is what
    `checkpoint_activations` computes twice (so utilisation counts useful work only).
    """
    kept = _kept(config.patches, config.patch_dropout)
    return 2 * _embed_flops(config) + 3 * (_token_flops(config, kept) + head_flops)


def _embed_flops(config: Config) -> int:
    return 2 * 3 * config.patch**2 * config.width * config.patches


def _token_flops(config: Config, patches: int) -> int:
    width, mlp = config.width, 2 * 2 * config.width * config.hidden
    t = patches + int(config.class_token)
    total = config.depth * (t * (2 * 4 * width**2 + mlp) + 2 * 2 * t**2 * width)
    if config.pooling == "attention":
        total += 2 * width**2 + patches * (2 * 2 * width**2 + 2 * 2 * width) + 2 * width**2 + mlp
    return total


def _kept(patches: int, dropped: float) -> int:
    return max(1, round(patches * (1 - dropped)))
