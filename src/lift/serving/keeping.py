"""What a server does besides answering: it warms up, and looks for what others added."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType

from lift.errors import LiftError
from lift.search.terms import Query, Term
from lift.serving.service import Service

_log = logging.getLogger("lift.serving")


class Keeping:
    """A task beside the server, from its start to its end."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Keeping:
        await self._warm()
        if hasattr(self.service.searchable, "refresh"):
            self._task = asyncio.create_task(self._refreshing())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _warm(self) -> None:
        """Encode a word, so that the first client does not wait until a model is loaded.

        What is missing (a text encoder that is not installed) is told, and the rest serves.
        """
        try:
            await self.service.workers.vector(Query((Term("text", "a photo"),)))
        except LiftError as error:
            _log.warning("No words can be searched for: %s", error)

    async def _refreshing(self) -> None:
        """Look again and again, whatever happens; what goes wrong is told once until it changes."""
        refresh = self.service.searchable.refresh  # type: ignore[attr-defined]
        told = ""
        while True:
            await asyncio.sleep(self.service.config.refresh_seconds)
            try:
                await asyncio.to_thread(refresh)
                said = ""
            except Exception as error:  # noqa: BLE001  # a disk may come back
                said = str(error) or type(error).__name__
            if said and said != told:
                _log.warning("The index could not be looked at again: %s", said)
            told = said
