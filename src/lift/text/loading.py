"""Load networks of transformers in silence; what fails is one sentence that names the model."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import textwrap
from collections.abc import Collection, Iterator
from pathlib import Path

import torch

from lift.errors import ConfigError, LiftError


@contextlib.contextmanager
def loading(source: str | Path, what: str = "text encoder") -> Iterator[None]:
    """Load a model inside without progress bars; what fails is a ConfigError that names it.

    Args:
        source: its folder, id or kind, for the message.
        what: what it is, for the message.
    """
    try:
        with _no_progress_bars():
            yield
    except (LiftError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        # An ImportError inside transformers names one of its own classes, whatever was missing.
        if isinstance(error, ImportError) and (fault := torchvision_fault()) is not None:
            raise ConfigError(f"The {what} {str(source)!r} could not be loaded: {fault}") from error
        why = textwrap.shorten(str(error), 300, placeholder=" ...")
        raise ConfigError(
            f"The {what} {str(source)!r} could not be loaded ({type(error).__name__}: "
            f"{why}); check the folder or the hub id."
        ) from error


def torchvision_fault() -> str | None:
    """Return what is wrong with a torchvision that is installed and can't be imported, else None.

    transformers takes it up where it is installed, so a broken one breaks what never needed it.
    """
    if importlib.util.find_spec("torchvision") is None:
        return None
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        why = textwrap.shorten(str(error), 100, placeholder=" ...")
        return (
            f"the torchvision installed here can't be imported with torch {torch.__version__} "
            f"({type(error).__name__}: {why}); install the build that was made for this torch, "
            "from the index that torch came from, or, where only transformers is used, remove it "
            "(pip uninstall torchvision)."
        )
    return None


_FAULTS = {
    "GatedRepoError": "its owner has to let you in first",
    "RevisionNotFoundError": "it has no such revision",
    "RepositoryNotFoundError": "there is none that you may see",
    "LocalEntryNotFoundError": "the hub can't be reached and there is no copy here",
    "EntryNotFoundError": "it has no such file",
    "HFValidationError": "that is no name of a hub model",
    "HfUriError": "that is no name of a hub model",
    "OfflineModeIsEnabled": "the hub can't be reached and there is no copy here",
}
"""What an error of huggingface_hub means; a subclass stands before its base."""


def fault_of(error: Exception) -> str:
    """Return, in a few words, why a hub model did not come: the hub's own are about its client."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    known = next((words for name, words in _FAULTS.items() if name in kinds), None)
    return known or textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def require_weights(source: str | Path, missing: Collection[str]) -> None:
    """Raise ConfigError if weights of a network were in no file: they are random numbers then."""
    if missing:
        raise ConfigError(
            f"The files of {str(source)!r} lack {len(missing)} of the model's weights "
            f"({min(missing)}, ...), which would be random numbers; get the model again."
        )


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence the report of weights; missing ones are looked for afterwards."""
    logger = logging.getLogger("transformers.modeling_utils")
    # A filter and not a level: at some levels the library does other things.
    logger.addFilter(_is_error)
    try:
        yield
    finally:
        logger.removeFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
