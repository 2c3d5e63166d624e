"""Everything that a run holds in hand between two steps."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lift import plugins
from lift.bundle import Bundle, BundleRecord
from lift.cache.features import FeatureCache
from lift.candidates import Objective
from lift.data.loader import Loader
from lift.data.provenance import Provenance, origin_of
from lift.encoders import CachedImages
from lift.evaluation import Plan
from lift.model import SideConfig, TwoSided
from lift.ranks import Ranks
from lift.terms import Encoder
from lift.training.checkpoint import TrainState
from lift.training.config import RunConfig
from lift.training.counting import Counting
from lift.training.folder import RunFolder
from lift.training.guard import Guard
from lift.training.log import Log
from lift.training.optim import rest_frozen
from lift.training.step import Stepper
from lift.training.texts import Texts
from lift.training.trained_on import TrainedOn
from lift.world import versions


@dataclass
class Run:
    """A run that is open; see `lift.training.prepare`."""

    config: RunConfig
    folder: RunFolder
    loader: Loader
    texts: Texts
    state: TrainState
    stepper: Stepper
    device: torch.device
    plans: Sequence[Plan]
    log: Log
    trained_on: TrainedOn
    ranks: Ranks
    guard: Guard
    features: FeatureCache | None = None
    judged: Encoder | None = None

    def __post_init__(self) -> None:
        self.counting = Counting(self)

    @property
    def model(self) -> TwoSided:
        """The two sides and the objective."""
        assert isinstance(self.state.model, TwoSided)
        return self.state.model

    def close(self) -> None:
        """Let go of the log, and of the other ranks."""
        self.stepper.close()
        self.log.close()

    def judging(self, encoder: Encoder) -> Encoder:
        """Return an encoder that takes image features from where they are stored."""
        return encoder if self.features is None else CachedImages(encoder, self.features)

    def train_mode(self) -> None:
        """Put the model into training, but for what the config freezes."""
        self.model.train()
        rest_frozen(self.model)

    def stages(self) -> Iterator[tuple[int, int, Loader]]:
        """Yield (first step, last step + 1, loader) of what is left of the run.

        A run with `low_resolution` shows the same crops in its first part, only smaller.
        """
        begin, switch, end = self.state.step, self.config.low_steps, self.last_step
        if begin < switch:
            small = self.config.low_resolution.resolution
            yield begin, switch, self.loader.at_resolution(small)
        if switch < end:
            yield max(begin, switch), end, self.loader

    @property
    def current(self) -> TwoSided:
        """The sides as they are now: the mean of weights where one is kept."""
        mean = self.state.mean
        return mean if isinstance(mean, TwoSided) else self.model

    @property
    def chosen(self) -> TwoSided:
        """The sides that are saved: of a run that may end early, those of its best evaluation."""
        best = self.state.best if self.state.best_step else None
        return best if isinstance(best, TwoSided) else self.current

    @property
    def last_step(self) -> int:
        """The step after which the run ends."""
        return self.state.step if self.state.given_up else self.config.steps

    def bundle(self, trained_on: Provenance | None = None, *, now: bool = False) -> Bundle:
        """Return the model as users will hold it.

        Args:
            trained_on: what it was shown.
            now: as it is after the last step, whatever was better before.
        """
        chosen = self.current if now else self.chosen
        sides = chosen
        if self.config.precision == "float64":  # models are float32
            sides = copy.deepcopy(sides).float()
        config = self.config
        origin: dict[str, Any] = {
            "recipe": config.recipe,
            "data": self.loader.source.name,
            **({"start": config.start} if config.start else {}),
            **({} if trained_on is None else {"trained_on": origin_of(trained_on)}),
        }
        steps = self.state.step if chosen is self.current else self.state.best_step
        samples = steps * config.step_samples

        def record(*, head: Any = config.head, gain: float = 1.0, **more: Any) -> BundleRecord:
            kept = chosen if isinstance(chosen.objective, Objective) else self.model
            scalars = kept.objective.scalars()  # type: ignore[operator]
            if "scale" in scalars:
                scalars["scale"] *= gain
            if "temperature" in scalars:
                scalars["temperature"] /= gain
            return BundleRecord(
                image=SideConfig(tower=plugins.kept(config.tower, sides.image.tower), head=head),
                transform=config.transform,
                scalars=scalars,
                origin={**origin, "samples": samples, "versions": versions()},
                **more,
            )

        path = None if trained_on is None else trained_on.path
        name = self.folder.path.name
        return self.texts.bundle(sides, record, name=name, device=self.device, trained_on=path)
