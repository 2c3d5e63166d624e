"""What maps a tower's vector into the shared space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lift.config import to_dict
from lift.errors import ConfigError
from lift.terms import unit

Kind = Literal["mlp", "residual", "gated"]

WIDEST = 4096
"""Hidden units of a residual or gated head at most, where nobody says how many."""

_NORM_EPS = 1e-6
"""Of the norm before a branch: unit rows of 4,096 numbers have a variance of 2e-4 only."""


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What maps a tower's vector into the shared space.

    Attributes:
        layers: 0 none, 1 one matrix, 2 the paper's MLP (matrix, GELU, matrix), and so on. Of a
            residual head, those of its branch; a gated one has 2.
        hidden: width between the layers. None is, for an MLP, the width of the shared space, as in
            the paper (768-4096-4096, 19,931,136 parameters); for the other kinds 4 times the width
            that comes in, 4,096 at most.
        bias: whether the matrices have a bias.
        dropout: share of hidden units dropped in training.
        kind: "mlp"; "residual": a matrix, plus an MLP on normed inputs; "gated": a matrix, plus
            a product of two layers on normed inputs (SAIL's star MLP, arXiv 2412.04616). The last
            two start as the matrix alone.
        unit: scale what comes in to unit length first.
        standardise: then subtract a stored mean and divide by a stored spread; until
            `Head.standardise_by` gives them, 0 and 1.
        before: a head in front of this one: a tower's own way into its own space, say. With
            `unit`, what it gives is brought to unit length in between.
        between: width between the two.
    """

    layers: int = 2
    hidden: int | None = None
    bias: bool = True
    dropout: float = 0.0
    kind: Kind = "mlp"
    unit: bool = False
    standardise: bool = False
    before: HeadConfig | None = None
    between: int | None = None

    def __post_init__(self) -> None:
        if self.layers < 0:
            raise ConfigError(f"head.layers must be 0 or more, not {self.layers}.")
        if self.hidden is not None and self.hidden < 1:
            raise ConfigError(f"head.hidden must be at least 1, not {self.hidden}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"head.dropout must lie in [0, 1), not {self.dropout}.")
        if self.kind == "residual" and self.layers < 2:
            raise ConfigError(
                f"head.kind=residual has a branch of 2 layers or more, not {self.layers}; one "
                "matrix alone is kind=mlp with layers=1."
            )
        if self.kind == "gated" and self.layers != 2:
            raise ConfigError(f"head.kind=gated has layers=2, not {self.layers}.")
        if not self.layers and (self.unit or self.standardise or self.before):
            raise ConfigError(
                "head.layers=0 is no head: leave out head.unit, head.standardise and head.before, "
                "or give it a layer."
            )
        if self.standardise and not self.bias:
            raise ConfigError(
                "head.standardise takes a mean off, which a head without bias can't give back: set "
                "head.bias=true."
            )
        self._check_before()

    def _check_before(self) -> None:
        if (self.before is None) != (self.between is None):
            raise ConfigError(
                "head.before and head.between come together: a head in front of this one, and the "
                "width between the two."
            )
        if self.before is not None and not self.before.layers:
            raise ConfigError("head.before has no layer; leave it out.")
        if self.between is not None and self.between < 1:
            raise ConfigError(f"head.between must be at least 1, not {self.between}.")

    def hidden_width(self, width: int, shared: int) -> int:
        """Return the width between the layers.

        Args:
            width: of the tower.
            shared: of the shared space.
        """
        if self.hidden is not None:
            return self.hidden
        return shared if self.kind == "mlp" else min(4 * (self.between or width), WIDEST)


def described(config: HeadConfig) -> dict[str, Any]:
    """Return the options as plain values, those left out that came later and are not used.

    What was hashed before there were other kinds keeps its hash.
    """
    first = {"layers", "hidden", "bias", "dropout"}
    plain = HeadConfig()
    return {
        name: value
        for name, value in to_dict(config).items()
        if name in first or getattr(config, name) != getattr(plain, name)
    }


class Head(nn.Module):
    """What all kinds share: what happens to a row before it meets the first matrix.

    Attributes:
        config: its options.
        width: of what comes in.
        shared: of what goes out.
        before: the head in front of it.
        mean, spread: what rows are standardised by, where they are.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, config: HeadConfig, width: int, shared: int) -> None:
        super().__init__()
        self.config, self.width, self.shared = config, width, shared
        self.before: Head | None = None
        if config.before is not None and config.between is not None:
            self.before = build_head(config.before, width, config.between)
        self.inner = config.between or width
        if config.standardise:
            self.register_buffer("mean", torch.zeros(self.inner))
            self.register_buffer("spread", torch.ones(self.inner))

    def incoming(self, h: Float[Tensor, "b width"]) -> Float[Tensor, "b inner"]:
        """Return the rows that the matrices see."""
        if self.before is not None:
            h = self.before(h)
        if self.config.unit:
            h = unit(h)
        if self.config.standardise:
            h = (h - self.mean) / self.spread
        return h

    @property
    def entry(self) -> nn.Linear:
        """The matrix by which rows enter, but for a branch."""
        raise NotImplementedError

    @property
    def last(self) -> Sequence[nn.Linear]:
        """The matrices that write into the shared space; behind the first, those of a branch."""
        raise NotImplementedError

    @property
    def is_matrix(self) -> bool:
        """Whether, apart from what happens to rows before, it is a matrix and a bias by now."""
        return self._idle

    @property
    def _idle(self) -> bool:
        """Whether it has no branch, or one that is still 0."""
        return not any(branch.weight.any() for branch in self.last[1:])

    @torch.no_grad()
    def standardise_by(
        self, mean: Float[Tensor, " inner"], spread: Float[Tensor, " inner"]
    ) -> None:
        """Standardise rows from here on; the head goes on computing the same function.

        Args:
            mean: of the rows, as they come out of `before` and unit length.
            spread: their standard deviation, or whatever is to become 1.

        Raises:
            ConfigError: the head doesn't standardise; numbers that can't be mean and spread; a
                branch that has learned something, which is no linear function of the rows.
        """
        if not self.config.standardise:
            raise ConfigError("This head does not standardise its rows: set head.standardise=true.")
        for name, value in (("mean", mean), ("spread", spread)):
            if value.shape != self.mean.shape:
                raise ConfigError(
                    f"The {name} to standardise by has {value.numel()} numbers, the rows of this "
                    f"head have {self.inner}."
                )
        mean, spread = mean.detach().cpu().double(), spread.detach().cpu().double()
        if not (mean.isfinite().all() and spread.isfinite().all() and (spread > 0).all()):
            raise ConfigError(
                "Rows are standardised by finite means and by spreads above 0; give a direction "
                "that does not vary the spread 1."
            )
        if not self._idle:
            raise ConfigError(
                "This head has learned from rows as they were; standardise them before training."
            )
        old, held = self.mean.cpu().double(), self.spread.cpu().double()
        weight = self.entry.weight.cpu().double()
        self.entry.bias.add_((weight @ ((mean - old) / held)).to(self.entry.bias))
        self.entry.weight.copy_(weight * (spread / held))
        self.mean.copy_(mean)
        self.spread.copy_(spread)


class MLPHead(Head):
    """`layers` matrices with GELU between them."""

    def __init__(self, config: HeadConfig, width: int, shared: int) -> None:
        super().__init__(config, width, shared)
        self.layers = _mlp(config, self.inner, config.hidden_width(width, shared), shared)

    def forward(self, h: Float[Tensor, "b width"]) -> Float[Tensor, "b d"]:
        """Return the head's output, raw."""
        return self.layers(self.incoming(h))

    @property
    def entry(self) -> nn.Linear:
        """The first matrix."""
        return _as_linear(self.layers[0])

    @property
    def last(self) -> Sequence[nn.Linear]:
        """The last matrix."""
        return [_as_linear(self.layers[-1])]

    @property
    def is_matrix(self) -> bool:
        """Whether it is one matrix."""
        return self.config.layers == 1


class ResidualHead(Head):
    """W x + MLP(norm(x)): a matrix, and what a matrix can't do; the MLP's last matrix starts at 0.

    The norm is a layer norm without weights; the last matrix of the MLP has no bias of its own.
    """

    def __init__(self, config: HeadConfig, width: int, shared: int) -> None:
        super().__init__(config, width, shared)
        self.linear = _linear(self.inner, shared, config.bias)
        hidden = config.hidden_width(width, shared)
        self.layers = _mlp(config, self.inner, hidden, shared, branch=True)

    def forward(self, h: Float[Tensor, "b width"]) -> Float[Tensor, "b d"]:
        """Return the head's output, raw."""
        x = self.incoming(h)
        return self.linear(x) + self.layers(_normed(x))

    @property
    def entry(self) -> nn.Linear:
        """The matrix beside the branch."""
        return self.linear

    @property
    def last(self) -> Sequence[nn.Linear]:
        """The matrix, and the last one of the branch."""
        return [self.linear, _as_linear(self.layers[-1])]


class GatedHead(Head):
    """W x + V(silu(A norm(x)) * B norm(x)): a matrix, and products; V starts at 0.

    Its branch is SAIL's star MLP (arXiv 2412.04616), with SiLU for ReLU6 and a norm before it.
    """

    def __init__(self, config: HeadConfig, width: int, shared: int) -> None:
        super().__init__(config, width, shared)
        hidden = config.hidden_width(width, shared)
        self.linear = _linear(self.inner, shared, config.bias)
        self.gate = _linear(self.inner, hidden, config.bias)
        self.value = _linear(self.inner, hidden, config.bias)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else None
        self.back = _zeros(hidden, shared)

    def forward(self, h: Float[Tensor, "b width"]) -> Float[Tensor, "b d"]:
        """Return the head's output, raw."""
        x = self.incoming(h)
        normed = _normed(x)
        hidden = F.silu(self.gate(normed)) * self.value(normed)
        if self.dropout is not None:
            hidden = self.dropout(hidden)
        return self.linear(x) + self.back(hidden)

    @property
    def entry(self) -> nn.Linear:
        """The matrix beside the branch."""
        return self.linear

    @property
    def last(self) -> Sequence[nn.Linear]:
        """The matrix, and the last one of the branch."""
        return [self.linear, self.back]


_KINDS: dict[str, type[Head]] = {"mlp": MLPHead, "residual": ResidualHead, "gated": GatedHead}


def build_head(config: HeadConfig, width: int, shared: int) -> Head:
    """Return a head, its weights drawn from torch's global generator.

    Args:
        config: its shape; `layers` is above 0.
        width: length of what comes in.
        shared: width of the space in which the sides meet.
    """
    return _KINDS[config.kind](config, width, shared)


# --- layers -------------------------------------------------------------------------------------


def _mlp(
    config: HeadConfig, width: int, hidden: int, shared: int, *, branch: bool = False
) -> nn.Sequential:
    """Return matrices with GELU between them; the last one of a branch is 0, without bias."""
    modules: list[nn.Module] = []
    wide = width
    for _ in range(config.layers - 1):
        modules += [_linear(wide, hidden, config.bias), nn.GELU()]
        if config.dropout:
            modules.append(nn.Dropout(config.dropout))
        wide = hidden
    modules.append(_zeros(wide, shared) if branch else _linear(wide, shared, config.bias))
    return nn.Sequential(*modules)


def _linear(width: int, wide_out: int, bias: bool) -> nn.Linear:
    linear = nn.Linear(width, wide_out, bias=bias)
    nn.init.normal_(linear.weight, std=width**-0.5)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear


def _zeros(width: int, wide_out: int) -> nn.Linear:
    linear = nn.Linear(width, wide_out, bias=False)
    nn.init.zeros_(linear.weight)
    return linear


def _normed(x: Float[Tensor, "b width"]) -> Float[Tensor, "b width"]:
    return F.layer_norm(x, x.shape[-1:], eps=_NORM_EPS)


def _as_linear(module: nn.Module) -> nn.Linear:
    assert isinstance(module, nn.Linear), type(module)
    return module
