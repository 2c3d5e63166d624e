"""lift: put images into a text-embedding space that never moves.

    import lift

    lift.embed(["photos.parquet"], out="captions")          # once, offline
    lift.train("flickr8k_tiny", data="photos.parquet", cache="captions", out="run")
    model = lift.load("run")
    model.similarity(["cat.jpg"], ["a cat asleep", "a dog"])

Every name below is imported on first use: importing lift loads no torch, numpy or transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lift.bank import Bank as Bank
    from lift.bundle import Bundle as Bundle
    from lift.cache.features import FeatureCache as FeatureCache
    from lift.cache.reader import EmbeddingCache as EmbeddingCache
    from lift.commands.attach import attach as attach
    from lift.commands.data import inspect as inspect
    from lift.commands.data import pack as pack
    from lift.commands.data import select as select
    from lift.commands.diagnosis import diagnose as diagnose
    from lift.commands.evaluation import data_sets as data_sets
    from lift.commands.evaluation import evaluate as evaluate
    from lift.commands.evaluation import judge as judge
    from lift.commands.export import export_model as export_model
    from lift.commands.fitting import fit as fit
    from lift.commands.fitting import migrate as migrate
    from lift.commands.index import build_index as build_index
    from lift.commands.index import open_index as open_index
    from lift.commands.index import open_searchable as open_searchable
    from lift.commands.ladder import ladder as ladder
    from lift.commands.models import import_reference as import_reference
    from lift.commands.models import load as load
    from lift.commands.models import report as report
    from lift.commands.start import start as start
    from lift.commands.text import audit as audit
    from lift.commands.text import card as card
    from lift.commands.text import embed as embed
    from lift.commands.text import embed_images as embed_images
    from lift.commands.training import budget as budget
    from lift.commands.training import compare as compare
    from lift.commands.training import dry_run as dry_run
    from lift.commands.training import quickstart as quickstart
    from lift.commands.training import train as train
    from lift.errors import LiftError as LiftError
    from lift.text.space import TextSpace as TextSpace

_HOMES = {
    "Bank": "lift.bank",
    "Bundle": "lift.bundle",
    "EmbeddingCache": "lift.cache.reader",
    "FeatureCache": "lift.cache.features",
    "LiftError": "lift.errors",
    "TextSpace": "lift.text.space",
    "attach": "lift.commands.attach",
    "audit": "lift.commands.text",
    "budget": "lift.commands.training",
    "build_index": "lift.commands.index",
    "card": "lift.commands.text",
    "compare": "lift.commands.training",
    "diagnose": "lift.commands.diagnosis",
    "dry_run": "lift.commands.training",
    "embed": "lift.commands.text",
    "embed_images": "lift.commands.text",
    "data_sets": "lift.commands.evaluation",
    "evaluate": "lift.commands.evaluation",
    "export_model": "lift.commands.export",
    "fit": "lift.commands.fitting",
    "import_reference": "lift.commands.models",
    "inspect": "lift.commands.data",
    "judge": "lift.commands.evaluation",
    "ladder": "lift.commands.ladder",
    "load": "lift.commands.models",
    "migrate": "lift.commands.fitting",
    "open_index": "lift.commands.index",
    "open_searchable": "lift.commands.index",
    "pack": "lift.commands.data",
    "quickstart": "lift.commands.training",
    "report": "lift.commands.models",
    "select": "lift.commands.data",
    "start": "lift.commands.start",
    "train": "lift.commands.training",
}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'lift' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
