"""Other libraries at work without their progress bars and their reports of weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lift.text.loading import quiet_loading


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what transformers draws and tells while it saves and loads."""
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with quiet_loading():
            yield
    finally:
        if drawn:
            logging.enable_progress_bar()
