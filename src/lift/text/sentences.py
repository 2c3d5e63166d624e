"""Where a sentence ends: a long caption as its sentences."""

from __future__ import annotations

import re
from itertools import islice

MIN_WORDS = 3
"""Shorter sentences ("Sunny day.") are headlines and interjections, and show too little."""

_END = re.compile(
    r"""(?P<mark>[.!?…]+)(?P<close>["'”’)\]]*)(?=\s|$)|(?P<wide>[。！？]+[」』”）]*)|\n\s*\n""",
)
_QUOTED = re.compile(r"\"[^\"\n]{1,300}\"|“[^”\n]{1,300}”|\([^()\n]{1,300}\)")
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+(?:['’-][^\W_]+)*"
)
_LAST_WORD = re.compile(r"[^\W_](?:[^\s.]|\.(?=[^\W_]))*$")
_STARTERS = frozenset(
    "a an the this that these those it its there he she they his her their in on at behind next to "
    "above below two three several some many one another both each with from as and but".split()
)
_TITLES = frozenset(
    "mr mrs ms dr prof mt gen capt col lt sgt rev hon gov sen rep pres fig vs approx ca cf viz eg "
    "ie e.g i.e al est".split()
)
"""Abbreviations that another word follows: a full stop behind them ends nothing."""

_BEFORE_NAMES = frozenset("st ave blvd rd jr sr dept inc ltd co corp u.s u.k u.s.a".split())
"""They may end a sentence or stand before a name: a word that often begins sentences decides."""

_MAY_END = frozenset("etc a.m p.m".split())
_UNITS = frozenset("oz lb lbs in cm mm km ft".split())
_NUMBERED = frozenset("no nos nr p pp vol ch sec".split())


def sub_captions(text: str) -> list[str]:
    """Return the sentences of a caption that have three words or more, each once, in order.

    Empty where the caption is one sentence. Full stops behind abbreviations ("Dr. Smith", "No. 5",
    "e.g."), initials and decimals end nothing, nor does an ellipsis that goes on in lower case, nor
    anything inside quotation marks or brackets (of up to 300 characters); an empty line ends a
    sentence without a mark. Sentences are not joined or mended: "It is red." stays, though it
    doesn't say what is red. Time is linear in the length.
    """
    found = sentences(text)
    if len(found) < 2:
        return []
    return list(dict.fromkeys(s for s in found if count_words(s) >= MIN_WORDS))


def sentences(text: str) -> list[str]:
    """Return all sentences of a text that hold a word, in order; see `sub_captions`."""
    quoted = [match.span() for match in _QUOTED.finditer(text)]
    found: list[str] = []
    start, at = 0, 0
    for match in _END.finditer(text):
        while at < len(quoted) and quoted[at][1] < match.end():
            at += 1
        inside = at < len(quoted) and quoted[at][0] < match.start() and match.end() < quoted[at][1]
        if not inside and _ends(text, start, match):
            found.append(text[start : match.end()].strip())
            start = match.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if _WORD.search(sentence)]


def count_words(text: str) -> int:
    """Return the number of words; every Chinese or Japanese character counts as one."""
    return sum(1 for _ in _WORD.finditer(text))


def first_words(text: str, count: int) -> str:
    """Return a text up to the end of its word number `count`; all of it where it has fewer."""
    last = next(islice(_WORD.finditer(text), count - 1, None), None)
    return text if last is None else text[: last.end()]


def _ends(text: str, start: int, match: re.Match[str]) -> bool:
    """Return whether a mark (or an empty line) ends the sentence that began at `start`."""
    mark = match.group("mark")
    if mark is None:
        return True
    behind = text[match.end() : match.end() + 40].lstrip()
    if not behind:
        return True
    lower = behind[0].islower()
    if mark != "." or match.group("close"):
        return not (lower and (match.group("close") or mark not in ("!", "?")))
    found = _LAST_WORD.search(text, max(start, match.start() - 40), match.start())
    word = found.group() if found else ""
    known = word.lower()
    if known in _NUMBERED and behind[0].isdigit():
        return False
    if known in _MAY_END or (known in _UNITS and _follows_number(text, match, word)):
        return not lower
    if known in _TITLES:
        return False
    initial = len(word) == 1 and word.isalpha() and word.isupper()
    if initial or known in _BEFORE_NAMES:  # "J. Smith", but "the letter A. It is red."
        following = _WORD.match(behind)
        return following is not None and not lower and following.group().lower() in _STARTERS
    return True


def _follows_number(text: str, match: re.Match[str], word: str) -> bool:
    """Return whether the unit before a full stop follows a number; else it is a plain word."""
    before = text[max(0, match.start() - len(word) - 3) : match.start() - len(word)]
    return before.rstrip()[-1:].isdigit()
