"""The bench that models are judged on: opened once, asked everything, one after the other."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lift import plugins
from lift.against import Difference, compared, pooled_results
from lift.cache.reader import EmbeddingCache
from lift.cached_texts import require_use, serves
from lift.catalog import Catalogue, search
from lift.contenders import open_contender
from lift.efficiency import Efficiency
from lift.encoders import CachedTexts, Shared
from lift.errors import (
    ConfigError,
    DataError,
    Echo,
    LiftError,
    MissingPackage,
    MissingRows,
)
from lift.evaluation import ROOM, Plan, evaluate, parse_plan
from lift.files import require_writable, sole_writer
from lift.judging.found import JudgedModel, Judgement, folders_of, names_of
from lift.judging.report import opened, repeat, write_costs, write_elsewhere, write_page
from lift.kept_vectors import KeptVectors
from lift.ranks import Ranks, joined
from lift.results import write_results
from lift.terms import Encoder, EvalResult
from lift.world import choose_device

VECTORS = "vectors"
"""The folder of kept vectors, beside the results."""


@dataclass(frozen=True)
class Asked:
    """An evaluation, and whether the user named it: what a folder suggested may be left out."""

    plan: Plan
    words: str
    suggested: bool


@dataclass(frozen=True)
class Bench:
    """Models, and what they are asked.

    Attributes:
        words, encoders, names: of each model.
        identities: of each as well, "" where it tells none; told once, for that reads all weights.
        on: what was named to judge them on.
        asked: evaluations.
        catalogues: of the folders that were named.
        unclear: what of them can't be asked, in sentences.
        caches: text vectors that are there.
        out: where results go.
        leaks, efficiency, progress, say: see `lift.commands.evaluation.judge`.
        device: of the models.
        looks: of images by the hash of their files, so that each is decoded for leaks once.
    """

    words: list[str]
    on: list[str]
    encoders: list[Encoder]
    names: list[str]
    identities: list[str]
    asked: list[Asked]
    catalogues: list[Catalogue]
    unclear: list[str]
    caches: list[EmbeddingCache]
    out: Path
    device: torch.device
    leaks: bool
    efficiency: bool
    progress: bool
    say: Callable[[str], None]
    looks: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        words: list[str],
        *,
        on: list[str],
        caches: list[str],
        out: Path,
        device: str,
        **rest: Any,
    ) -> Bench:
        """Open models, caches and folders.

        Raises:
            LiftError: one that can't be opened, or a cache of no model's space.
        """
        catalogues = [search(word) for word in on if _is_folder(word)]
        asked = [Asked(_plan(word), word, suggested=False) for word in on if not _is_folder(word)]
        suggested = [word for c in catalogues for found in c.found for word in found.on]
        unclear = [
            f"Not all of {folder} was looked at: it holds too many folders, or may not be listed."
            for catalogue in catalogues
            for folder in catalogue.unseen
        ]
        for word in suggested:
            try:
                asked.append(Asked(parse_plan(word), word, suggested=True))
            except ConfigError as error:  # a folder's name can break any words
                unclear.append(f"{word} was left out: {error}")
        if not asked:
            named = ", ".join(on) or "nothing"
            raise ConfigError(
                f"There is nothing to judge models on in {named}: name evaluations "
                "(retrieval:data=PATH), or a folder of data sets (`lift data sets` lists them)."
                + "".join(f" {why}" for why in unclear)
            )
        encoders = [open_contender(word, device=device) for word in words]
        stored = [EmbeddingCache.open(cache) for cache in caches]
        for cache in stored:
            require_use(cache, encoders, words)
        return cls(
            words,
            on,
            encoders,
            names_of(words, encoders),
            [str(getattr(encoder, "identity", "")) for encoder in encoders],
            asked,
            catalogues,
            unclear,
            stored,
            out,
            choose_device(device),
            **rest,
        )

    def judged(self, *, arms: int, report: bool) -> Judgement:
        """Return what is found of every model; `arms` of them are one arm, the rest the other."""
        with contextlib.ExitStack() as held:
            return self._judged(held, arms, report)

    def _judged(self, held: contextlib.ExitStack, arms: int, report: bool) -> Judgement:
        """Return the same; `held` is what is let go at the end."""
        left_out = [*self.unclear]
        with joined(self.device) as ranks:
            with ranks.together():
                if ranks.first:  # two would append to the same vectors
                    held.enter_context(sole_writer(self.out))
                    require_writable(self.out)
            models = [self._model(at, ranks, left_out) for at in range(len(self.words))]
        pooled, differences, alone = _side_by_side(models[:arms], models[arms:])
        judgement = Judgement(
            tuple(models),
            pooled,
            differences,
            (*dict.fromkeys(left_out), *self._twice(arms), *alone),
            self._absent(),
            told=ranks.first,
        )
        if not report or not ranks.first:
            return judgement
        sources = opened(asked.plan.data for asked in self.asked)
        encoders = {
            name: self._texts(encoder)
            for name, encoder in zip(self.names, self.encoders, strict=True)
        }
        try:
            page = write_page(judgement, sources, encoders, self.out, self._command(arms))
        except MissingPackage as error:  # the figures are there without it
            return dataclasses.replace(judgement, left_out=(*judgement.left_out, str(error)))
        return dataclasses.replace(judgement, report=page)

    def _twice(self, arms: int) -> list[str]:
        """Return a sentence for a model that stands twice in an arm."""
        found = []
        for arm in (slice(None, arms), slice(arms, None)):
            met: dict[str, str] = {}
            for name, identity in zip(self.names[arm], self.identities[arm], strict=True):
                if identity and identity in met:
                    found.append(
                        f"{name} is the same model as {met[identity]}: as seeds of one arm they "
                        "say nothing of other seeds"
                    )
                met.setdefault(identity, name)
        return found

    def _command(self, arms: int) -> str:
        return repeat(
            self.words[:arms],
            self.on,
            against=self.words[arms:],
            cache=[str(cache.folder) for cache in self.caches],
            out=str(self.out),
        )

    def _model(self, at: int, ranks: Ranks, left_out: list[str]) -> JudgedModel:
        """Return what is found of one model; results are on disk as soon as they are there."""
        encoder, name = self.encoders[at], self.names[at]
        folder = self.out
        if len(self.words) > 1:
            folder /= folders_of(self.names, [VECTORS])[at]
        judged = self._wrapped(at, ranks)
        results: list[EvalResult] = []
        written: list[Path] = []
        for asked in self.asked:
            self.say(f"{name}: {asked.words}")
            with _left_out(asked, left_out, ranks):
                results += evaluate(
                    judged,
                    [asked.plan],
                    progress=self.progress and ranks.first,
                    trained_on=getattr(encoder, "trained_on", None) if self._leaks(ranks) else None,
                    looks=self.looks,
                )
                results[-1] = dataclasses.replace(results[-1], encoder=name)
                if ranks.first:
                    written += write_results(results[-1:], folder, outcomes=True, besides=written)
        cost = self._cost(encoder) if self.efficiency and ranks.first else None
        if cost is not None:
            write_costs(cost, folder)
        model = JudgedModel(name, self.words[at], self.identities[at], tuple(results), cost, folder)
        if ranks.first:
            write_elsewhere(model)
        return model

    def _cost(self, encoder: Encoder) -> Efficiency | None:
        """Return what a model costs; a text encoder that a cache stands for is not loaded."""
        measured = getattr(encoder, "efficiency", None)
        if measured is None:
            return None
        return measured(texts=not any(serves(cache, encoder) for cache in self.caches))

    def _leaks(self, ranks: Ranks) -> bool:
        return self.leaks and ranks.first

    def _wrapped(self, at: int, ranks: Ranks) -> Encoder:
        """Return an encoder, its work shared, its vectors kept, its texts from a cache."""
        encoder, identity = self.encoders[at], self.identities[at]
        judged: Encoder = Shared(encoder, ranks) if ranks.size > 1 else encoder
        if identity:
            judged = KeptVectors(judged, self.out / VECTORS, ranks, identity=identity)
        return self._texts(judged)

    def _texts(self, encoder: Encoder) -> Encoder:
        """Return the encoder with its texts from caches of its space; the last is asked first."""
        for cache in self.caches:
            if serves(cache, encoder):
                encoder = CachedTexts(encoder, cache)
        return encoder

    def _absent(self) -> tuple[tuple[str, str], ...]:
        if not self.catalogues:
            return ()
        common = set.intersection(*(set(found.absent) for found in self.catalogues))
        return tuple((name, plugins.load("catalog", name).WHERE) for name in sorted(common))


@contextlib.contextmanager
def _left_out(asked: Asked, left_out: list[str], ranks: Ranks):
    """Turn what an evaluation that a folder suggested can't do into a sentence."""
    try:
        yield
    except LiftError as error:
        if not asked.suggested:
            raise
        leaves = isinstance(error, ConfigError | DataError | MissingPackage | MissingRows)
        if error.of_all_ranks or isinstance(error, Echo):  # an echo does not tell what it is of
            leaves = any(ranks.hear(leaves))
        if not leaves:
            raise
        left_out.append(f"{asked.words} was left out: {error}")


def _plan(word: str) -> Plan:
    if "/" in word.partition(":")[0]:
        raise ConfigError(
            f"{word} is neither a folder of data sets nor an evaluation (retrieval:data=PATH)."
        )
    return parse_plan(word)


def _is_folder(word: str) -> bool:
    name = word.partition(":")[0]
    return os.path.isdir(word) and name not in plugins.names(ROOM)


def _side_by_side(
    ours: Sequence[JudgedModel], theirs: Sequence[JudgedModel]
) -> tuple[tuple[tuple[str, tuple[EvalResult, ...]], ...], tuple[Difference, ...], list[str]]:
    """Return arms over their seeds, one against the other, and what does not compare."""
    pooled, alone = [], []
    for arm in (ours, theirs):
        if len(arm) > 1:
            results, why = pooled_results([model.results for model in arm])
            pooled.append((" + ".join(model.name for model in arm), tuple(results)))
            alone += why
    differences: list[Difference] = []
    if theirs:
        try:
            differences, why = compared([m.results for m in ours], [m.results for m in theirs])
        except (ConfigError, DataError) as error:  # what each of them can do stands all the same
            why = [f"Nothing compares. {error}"]
        alone += why
    return tuple(pooled), tuple(differences), alone
