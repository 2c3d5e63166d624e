"""Rows from an embedding server: texts cut and batched here, asked for at once, checked."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from lift.config import Part
from lift.errors import ConfigError, NotFinite, ServerError
from lift.text.encoder import EncodedTexts, clean, default_token_budget
from lift.text.encoders._answers import BYTES_A_VALUE, BYTES_AROUND, rows_of
from lift.text.encoders._cuts import Cut
from lift.text.encoders._http import Server, TooLarge
from lift.text.probes import PROBES
from lift.text.space import TextSpace
from lift.world import Precision

_AMPLE = 4_096
"""Values a row that any answer may have: a wrong width is better told as such than as size."""

_WIDEST = 65_536
"""The same where nothing is known of the width."""


class ServedEncoder:
    """A `TextEncoder` whose network is elsewhere; see the attributes there.

    Attributes:
        counts: requests sent so far, and how many of them were repeats.
    """

    def __init__(
        self,
        server: Server,
        space: TextSpace,
        part: Part,
        *,
        fields: Mapping[str, Any],
        cut: Cut,
        batch_size: int,
        concurrency: int,
        matryoshka: bool,
        saw: tuple[str, ...],
    ) -> None:
        """Nothing is sent yet.

        Args:
            server: where to ask.
            space: what it is taken to compute; its cap is where texts are cut.
            part: rebuilds the encoder.
            fields: of every request, beside the texts.
            cut: counts tokens and cuts.
            batch_size: texts in a request at most.
            concurrency: requests at once.
            matryoshka: see `TextEncoder`.
            saw: see `TextEncoder`.
        """
        self.space, self.part, self.saw = space, part, saw
        self.device = "server"
        self.matryoshka, self.probes = matryoshka, PROBES
        self.counts = server.counts
        self._server, self._fields, self._cut = server, fields, cut
        self._batch_size, self._concurrency = batch_size, concurrency

    def encode(
        self,
        texts: Sequence[str],
        *,
        precision: Precision = "float32",
        token_budget: int | None = None,
    ) -> EncodedTexts:
        """Return one row of unit length a text; the server chooses the precision.

        Raises:
            ConfigError: the server refuses, takes no single text of this length, or answers with
                rows of another length.
            ServerError: it can't be reached or gives no usable answer, in every try.
            NotFinite: a row holds NaN, null or infinity.
        """
        cap = self.space.max_tokens
        cuts = [self._cut(self.space.prompt + clean(text), cap) for text in texts]
        tokens = np.array([count for _, count in cuts], np.int32)
        rows = np.empty((len(cuts), self.space.dimensions), np.float32)
        budget = token_budget or default_token_budget(self.device)
        jobs = requests(np.minimum(tokens, cap), budget, self._batch_size)
        stop = threading.Event()

        def fill(job: np.ndarray) -> None:
            each = np.maximum(1, np.minimum(tokens[job], cap))
            rows[job] = self._rows([cuts[i][0] for i in job], each.tolist(), stop)

        self._at_once(fill, jobs, stop)
        return EncodedTexts(rows, tokens, tokens > cap)

    def _at_once(
        self, fill: Callable[[np.ndarray], None], jobs: list[np.ndarray], stop: threading.Event
    ) -> None:
        """Fill all jobs, some at once; the first failure, or Ctrl-C, ends them all at once."""
        waiting: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
        ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        for job in jobs:
            waiting.put(job)

        def work() -> None:
            while not stop.is_set():
                try:
                    fill(waiting.get_nowait())
                except queue.Empty:
                    return
                except Exception as error:  # noqa: BLE001 (it is raised where `encode` was called)
                    ended.put(error)
                    return
                ended.put(None)

        try:
            for number in range(min(self._concurrency, len(jobs))):
                # Daemons: a program that ends does not wait for a name server or a handshake.
                threading.Thread(target=work, name=f"lift-api-{number}", daemon=True).start()
            for _ in jobs:
                if (failed := ended.get()) is not None:
                    raise failed
        finally:
            # After a failure nobody waits for answers that nobody reads.
            self._server.give_up(stop)

    def _rows(
        self, texts: list[str], tokens: list[int], stop: threading.Event
    ) -> Float32[np.ndarray, "n d"]:
        """Return the rows of one request, or of its halves where the server wants less at once."""
        try:
            width = self.space.dimensions
            found = _ask(self._server, self._fields, texts, sum(tokens), width, stop)
        except TooLarge as error:
            if len(texts) == 1:
                raise ConfigError(
                    f"The server {self._server.url} does not take the text {_shown(texts[0])} "
                    f"of about {tokens[0]} tokens alone ({error}); give a smaller max_tokens, "
                    "where texts are cut, and the model's tokenizer= to count exactly."
                ) from None
            half = len(texts) // 2
            parts = [(texts[:half], tokens[:half]), (texts[half:], tokens[half:])]
            return np.concatenate([self._rows(*part, stop) for part in parts])
        return self._checked(found, texts)

    def _checked(
        self, found: list[Float32[np.ndarray, " d"]], texts: list[str]
    ) -> Float32[np.ndarray, "n d"]:
        """Return the vectors as rows of unit length; refuse what is none."""
        url, width = self._server.url, self.space.dimensions
        for row, text in zip(found, texts, strict=True):
            if len(row) != width:
                asked = " (or does it not obey ask_dimensions?)" * ("dimensions" in self._fields)
                raise ConfigError(
                    f"The server {url} answered with {len(row)} values for {_shown(text)} where "
                    f"rows have {width}{asked}; it serves another model now, or give dimensions="
                    f"{len(row)} and another folder."
                )
            if not np.isfinite(row).all():
                raise NotFinite(
                    f"The server {url} answered with NaN, null or infinity for {_shown(text)}; "
                    "serve the model in float32 or bfloat16, or mend or remove the text."
                )
            if not row.any():
                raise ServerError(
                    f"The server {url} answered with nothing but zeros for {_shown(text)}, "
                    "which is no direction; see to the server, or give a smaller max_tokens."
                )
        wide = np.stack(found).astype(np.float64)
        return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)


def requests(
    tokens: Int32[np.ndarray, " n"], token_budget: int, batch_size: int
) -> list[np.ndarray]:
    """Return positions in as few requests as the limits allow, longest texts first.

    A request costs more than what a server pads, if it pads at all, so unlike the batches that are
    computed here these are full. The result depends on nothing but the arguments.

    Args:
        tokens: of each text.
        token_budget: tokens that a request may have where all its texts are as long as its longest;
            a single text may have more.
        batch_size: texts of a request.
    """
    order = np.argsort(-tokens, kind="stable")
    found: list[np.ndarray] = []
    start = 0
    while start < len(order):
        longest = max(1, int(tokens[order[start]]))
        end = start + min(batch_size, max(1, token_budget // longest))
        found.append(order[start:end])
        start = end
    return found


def width_of(server: Server, fields: Mapping[str, Any]) -> int:
    """Return the length of a row, by asking for one.

    Raises:
        ConfigError: the server refuses.
        ServerError: it gives no usable answer.
    """
    try:
        return len(_ask(server, fields, ["a dog"], 2, _WIDEST, threading.Event())[0])
    except TooLarge as error:
        raise ConfigError(
            f"The server {server.url} refuses a text of two words ({error}); check the model."
        ) from None


def _ask(
    server: Server,
    fields: Mapping[str, Any],
    texts: list[str],
    tokens: int,
    width: int,
    stop: threading.Event,
) -> list[Float32[np.ndarray, " d"]]:
    """Return the vectors that the server answers for a batch, in the order of the texts."""
    return server.post(
        {**fields, "input": texts},
        lambda answer: rows_of(answer, len(texts)),
        tokens=tokens,
        limit=len(texts) * max(width, _AMPLE) * BYTES_A_VALUE + BYTES_AROUND,
        stop=stop,
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")
