"""Rows from any server that speaks OpenAI's `/v1/embeddings`: vLLM, TEI, Ollama, OpenAI, ...

What leaves this machine: prompt and texts, to `url` and nowhere else (redirects are not followed).
A key goes out only over https or to this machine itself, is read from the environment, and is in
no part, space, message or file. Plain http without a key is allowed: that is Ollama in one's LAN.

A server names no version of its model and may change it silently: `revision` is what the user
declares, and the probe rows of a cache are what proves it.

Servers differ in what they do with a text that is too long (OpenAI, vLLM and TEI refuse it, others
cut it and say nothing), so texts are cut here, at `max_tokens`, before they are sent. Tokens are
counted with `tokenizer` where it is given, which is exact for the model's own tokenizer; else by a
defined estimate (`lift.text.encoders._cuts`), and then `tokens` and `truncated` are estimates too:
leave room below the model's true cap. What the server cuts below a declared cap nobody can count.

Where texts go, which key pays for them and which tokenizer is read is taken from the user's own
words alone: a part that was read from a cache, a bundle or a run asks nobody and opens nothing.

Batches are planned from the texts alone, so a server whose row of a text does not depend on the
batch gives the same bits however often a run was stopped, repeated or sent back.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lift.config import Part, to_dict
from lift.errors import ConfigError
from lift.text.encoders._address import OPENAI, check_url, endpoint, host_of
from lift.text.encoders._cuts import Counted, Cut, Estimate, rule_of, tokenizer_file
from lift.text.space import TextSpace

if TYPE_CHECKING:
    from lift.text.encoders._served import ServedEncoder

NEEDS = {"httpcore2": "api"}

SAME_VECTORS = frozenset(
    {
        *("url", "key_variable", "saw", "matryoshka", "ask_base64"),
        *("batch_size", "concurrency", "requests_per_minute", "tokens_per_minute"),
        *("timeout", "retries", "backoff"),
    }
)
"""Options that say where and how to ask: the same model behind another url is the same space."""

_NAME = "text/encoders/api"
_WIDTHS = {
    "text-embedding-3-small": 1_536,
    "text-embedding-3-large": 3_072,
    "text-embedding-ada-002": 1_536,
}
"""OpenAI's own models. All read 8,192 tokens; one is left as room for the estimate's errors."""

_OPENAI_TOKENS = 8_191
_OWN_WORDS = (
    "if it is what you want, say it in your own words: --encoder api:model=...,url=... on the "
    "console, or in Python text_encoder=build_encoder(part, trusted=True)"
)
_MATRYOSHKA = "text-embedding-3-"
_POSITIVE = (
    *("dimensions", "ask_dimensions", "max_tokens", "batch_size", "concurrency"),
    *("requests_per_minute", "tokens_per_minute"),
)
_LONGEST_TIMEOUT = 86_400.0
_SECRET_LENGTH = 20


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        model: its name at the server.
        url: where `/embeddings` is, most often ending in /v1.
        key_variable: NAME of the environment variable that holds the key, "" for no key. None
            takes OPENAI_API_KEY at OpenAI itself and no key elsewhere: that key is not for others.
        dimensions: length of the server's rows, checked on every answer and never sent. None is
            known for OpenAI's models; of others `build` asks once.
        ask_dimensions: length to ask the server for (the field `dimensions` of a request): only
            for models that were trained for it (Matryoshka); the rows then have this length.
        max_tokens: texts are cut here before they are sent, prompt included; see the module. Give
            what the server's model reads; None is known for OpenAI's models only.
        tokenizer: tokenizer.json, a folder with one, or a hub id, to count and cut with; None
            counts by estimate.
        prompt: text put before every caption.
        revision: the version of the model, in your own words: the server won't say.
        matryoshka: whether the first values of a row are a usable row; None takes what is known.
        saw: benchmarks whose captions the model was trained on.
        batch_size: texts in a request; 32 is what every server takes, OpenAI takes 2,048.
        concurrency: requests at once.
        requests_per_minute: of all threads together, None for no limit.
        tokens_per_minute: the same for tokens, as counted here.
        timeout: seconds for one request with its whole answer; a day at most.
        retries: how often a request is repeated after 429, 5xx, a lost connection, no answer in
            time, or an answer that can't be read.
        backoff: seconds before the first repeat; pauses double up to 30 seconds, and a server's
            Retry-After counts.
        ask_base64: ask for rows as base64: a quarter of the bytes, exact, and at 4,096 dimensions
            one core reads ten times as many rows a second; OpenAI and vLLM can, not all can.
    """

    model: str
    url: str = f"https://{OPENAI}/v1"
    key_variable: str | None = None
    dimensions: int | None = None
    ask_dimensions: int | None = None
    max_tokens: int | None = None
    tokenizer: str | None = None
    prompt: str = ""
    revision: str = ""
    matryoshka: bool | None = None
    saw: tuple[str, ...] | None = None
    batch_size: int = 32
    concurrency: int = 8
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    timeout: float = 60.0
    retries: int = 8
    backoff: float = 0.5
    ask_base64: bool = False

    def __post_init__(self) -> None:
        check_url(self.url, _NAME)
        if self.key_variable and not _is_name(self.key_variable):
            # It may be the key itself, so it is not repeated here.
            raise ConfigError(
                f"{_NAME}: key_variable takes the NAME of an environment variable (capitals, "
                "digits and _) that is set, never the key itself; export the key and give the "
                "name."
            )
        for name in ("model", "prompt", "revision"):
            try:
                getattr(self, name).encode("utf-8")
            except UnicodeEncodeError as error:
                raise ConfigError(
                    f"{_NAME}: {name}={getattr(self, name)!r} is not valid Unicode "
                    f"({error.reason} at character {error.start}); write it in UTF-8."
                ) from error
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{_NAME}: {name} must be positive, not {value}.")
        if not 0 < self.timeout <= _LONGEST_TIMEOUT:
            raise ConfigError(
                f"{_NAME}: timeout must be above 0 and at most {_LONGEST_TIMEOUT:,.0f} seconds, "
                f"not {self.timeout}."
            )
        if self.retries < 0 or not 0 <= self.backoff < math.inf:
            raise ConfigError(
                f"{_NAME}: retries and backoff must not be negative or endless, but they are "
                f"{self.retries} and {self.backoff:g}."
            )
        if self.ask_dimensions and self.dimensions and self.ask_dimensions > self.dimensions:
            raise ConfigError(
                f"{_NAME}: ask_dimensions={self.ask_dimensions} is more than the {self.dimensions} "
                "dimensions that the model has; ask for fewer."
            )


def space(config: Config, *, trusted: bool = False) -> TextSpace:
    """Return the space of these options; no server is asked.

    Args:
        config: the options.
        trusted: whether they are the user's own words; only then is a tokenizer read.

    Raises:
        ConfigError: dimensions or max_tokens are neither given nor known, no such tokenizer, or
            one that a stored file names.
        MissingPackage: the tokenizer is on the hub and huggingface_hub is not installed.
    """
    if config.tokenizer and not trusted:
        raise ConfigError(
            f"{_NAME}: a stored file names the tokenizer {config.tokenizer!r}, and what is read "
            f"here is not taken from files; {_OWN_WORDS}."
        )
    cap = config.max_tokens or (_OPENAI_TOKENS if _known_name(config) in _WIDTHS else None)
    if cap is None:
        raise ConfigError(
            f"{_NAME}: how much text {config.model!r} reads is not known; give max_tokens= (on its "
            "card; often 512), texts are cut there before they are sent."
        )
    width = _width(config)
    if width is None:
        raise ConfigError(
            f"{_NAME}: the length of the rows of {config.model!r} is not known without asking its "
            "server; give dimensions=."
        )
    rule = rule_of(tokenizer_file(config.tokenizer)) if config.tokenizer else Estimate.rule
    asked = f" > prefix{config.ask_dimensions}" if config.ask_dimensions else ""
    return TextSpace(
        encoder="embeddings-api",
        model=config.model,
        revision=f"declared:{config.revision}" if config.revision else "undeclared",
        prompt=config.prompt,
        pooling=f"cut by {rule} > server{asked}",
        max_tokens=cap,
        normalised=True,
        dimensions=width,
    )


def build(config: Config, device: str = "auto", *, trusted: bool = False) -> ServedEncoder:
    """Return the encoder; where the length of a row is not known, one request asks for it.

    Args:
        config: the options.
        device: counts for nothing here; the server has its own.
        trusted: whether the options are the user's own words. A stranger's would learn every text
            that is encoded, spend the user's key, and could post to what listens on this machine.

    Raises:
        ConfigError: see `space`; also not trusted, no such environment variable, a key that would
            travel in the clear, a prompt that leaves no room for texts, or a server that refuses.
        MissingPackage: the package tokenizers is needed and not installed.
        ServerError: the server that was asked for the length of its rows gave no usable answer.
    """
    if not trusted:
        raise ConfigError(
            f"{_NAME}: a stored file names the server {config.url}, and where texts go and which "
            f"key pays for them is not taken from files; {_OWN_WORDS}."
        )
    from lift.text.encoders._http import Pace, Server
    from lift.text.encoders._served import ServedEncoder, width_of

    variable = config.key_variable
    if variable is None:
        variable = "OPENAI_API_KEY" if host_of(config.url) == OPENAI else ""
    key = os.environ.get(variable, "").strip() if variable else ""
    if variable and not key:
        raise ConfigError(
            f"{_NAME}: the environment variable {variable} is not set; put the key for "
            f"{config.url} there, or give key_variable= for a server without one."
        )
    server = Server(
        endpoint(config.url),
        key,
        key_variable=variable,
        timeout=config.timeout,
        retries=config.retries,
        backoff=config.backoff,
        pace=Pace(config.requests_per_minute, config.tokens_per_minute),
    )
    if _width(config) is None:
        # Whatever else is wrong is told first.
        space(dataclasses.replace(config, dimensions=1), trusted=True)
        config = dataclasses.replace(config, dimensions=width_of(server, _fields(config)))
    found = space(config, trusted=True)
    cut = Counted(tokenizer_file(config.tokenizer)) if config.tokenizer else Estimate()
    _require_room(cut, config.prompt, found.max_tokens)
    width = config.dimensions or (None if config.ask_dimensions else found.dimensions)
    exact: dict[str, Any] = {"dimensions": width, "max_tokens": found.max_tokens}
    if config.tokenizer and Path(config.tokenizer).expanduser().exists():
        exact["tokenizer"] = str(Path(config.tokenizer).expanduser().resolve())
    documented = _known_name(config).startswith(_MATRYOSHKA)
    return ServedEncoder(
        server,
        found,
        Part("text/encoders", "api", {**to_dict(config), **exact}),
        fields=_fields(config),
        cut=cut,
        batch_size=config.batch_size,
        concurrency=config.concurrency,
        matryoshka=documented if config.matryoshka is None else config.matryoshka,
        saw=config.saw or (),
    )


def _is_name(variable: str) -> bool:
    """Return whether a word is the name of an environment variable rather than a key."""
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", variable):
        return False
    # Some keys (of AWS, or in base32) are capitals and digits too; names have words in them.
    secret = len(variable) >= _SECRET_LENGTH and "_" not in variable
    return variable in os.environ or not (secret and any(c.isdigit() for c in variable))


def _require_room(cut: Cut, prompt: str, cap: int) -> None:
    """Raise ConfigError where the cut leaves nothing of any text behind the prompt."""
    if cut(f"{prompt}a dog", cap)[0] == cut(f"{prompt}two cats", cap)[0]:
        raise ConfigError(
            f"{_NAME}: within max_tokens={cap} the prompt leaves no room for a text, and all rows "
            "would be equal; give a larger max_tokens or a shorter prompt."
        )


def _known_name(config: Config) -> str:
    """Return the model's name without what gateways put in front ("openai/...")."""
    return config.model.rsplit("/", 1)[-1]


def _width(config: Config) -> int | None:
    """Return the length of a row as far as it is known without asking."""
    return config.ask_dimensions or config.dimensions or _WIDTHS.get(_known_name(config))


def _fields(config: Config) -> dict[str, Any]:
    """Return what every request holds beside its texts."""
    fields: dict[str, Any] = {"model": config.model}
    # `encoding_format` is float where it is left out, and some gateways refuse to hear of it.
    if config.ask_base64:
        fields["encoding_format"] = "base64"
    if config.ask_dimensions:
        fields["dimensions"] = config.ask_dimensions
    return fields
