"""Word lists of the studies, written before any of their runs: wordings that no caption has.

Scenes are captioned by rules, so what their captions can say is known, and none of the words below
is among it. Product titles are a shop's; `require_unseen` refuses a list of which a word occurs in
the captions that are trained on. Emoji have keywords beside their name: those that share no word
with it are the other wording.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

SCENES: Mapping[str, str] = {
    "a picture of": "an illustration of",
    "a drawing of": "a sketch of",
    "an image with": "a graphic showing",
    "background": "backdrop",
    "circle": "disc",
    "square": "box",
    "triangle": "pyramid shape",
    "diamond": "rhombus",
    "star": "pentagram",
    "cross": "plus sign",
    "ring": "hoop",
    "heart": "valentine symbol",
    "red": "crimson",
    "orange": "tangerine",
    "yellow": "lemon",
    "green": "emerald",
    "cyan": "turquoise",
    "blue": "azure",
    "purple": "violet",
    "pink": "rose",
    "brown": "chocolate",
    "small": "tiny",
    "large": "huge",
    "striped": "banded",
    "dotted": "spotted",
    "hatched": "crisscrossed",
    "two": "a couple of",
    "three": "a trio of",
    "four": "a quartet of",
    "on the left of": "on the left-hand side of",
    "to the left of": "on the left-hand side of",
    "left of": "on the left-hand side of",
    "on the right of": "on the right-hand side of",
    "to the right of": "on the right-hand side of",
    "right of": "on the right-hand side of",
    "higher than": "at the upper side of",
    "above": "at the upper side of",
    "over": "at the upper side of",
    "lower than": "beneath",
    "below": "beneath",
    "under": "beneath",
}
"""What a scene's captions say, and what the same is called where wording is new."""

PRODUCTS: Mapping[str, str] = {
    "t-shirt": "tee",
    "tshirts": "tees",
    "shirt": "button-down",
    "shoes": "footwear",
    "shoe": "footgear",
    "watch": "timepiece",
    "handbag": "purse",
    "sunglasses": "shades",
    "sandals": "open footwear",
    "wallet": "billfold",
    "backpack": "rucksack",
    "trousers": "slacks",
    "jeans": "dungarees",
    "dress": "gown",
    "sari": "draped garment",
    "perfume": "fragrance",
    "earrings": "ear jewellery",
    "belt": "waist strap",
    "socks": "hosiery",
    "cap": "headgear",
    "men": "gentlemen",
    "women": "ladies",
    "red": "scarlet",
    "blue": "azure",
    "green": "emerald",
    "grey": "ashen",
    "brown": "chestnut",
    "black": "ebony",
    "white": "snowy",
    "pink": "blush",
    "purple": "violet",
    "yellow": "lemon",
}
"""What titles of products say, and another word for it; titles without any are not asked."""

COLOURS = (
    *("black", "blue", "white", "brown", "red", "grey", "green", "pink", "purple", "yellow"),
    *("orange", "beige", "maroon", "olive", "silver", "gold"),
)
TYPES = (
    *("t-shirt", "shirt", "shoes", "watch", "handbag", "sandals", "sunglasses", "wallet", "belt"),
    *("socks", "jeans", "backpack", "trousers", "dress", "kurta", "top", "shorts", "earrings"),
)
WEARERS = ("men", "women", "boys", "girls")
REPLACED: Mapping[str, tuple[str, ...]] = {
    "replace_colour": COLOURS,
    "replace_type": TYPES,
    "replace_wearer": WEARERS,
}
"""Foils of products: the only word of a list that a title has becomes another one of the list."""


def reworded(text: str, words: Mapping[str, str]) -> str:
    """Return the text with every word of the list exchanged, the longest first; plurals too."""
    longest = sorted(words, key=len, reverse=True)
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, longest))})(s|es)?\b", re.IGNORECASE)

    def other(found: re.Match[str]) -> str:
        word = words[found[1].lower()]
        plural = "es" if word.endswith(("s", "x", "ch", "sh")) else "s"
        word = word[0].upper() + word[1:] if found[1][0].isupper() else word
        return word + plural if found[2] else word

    swapped = pattern.sub(other, text)
    return re.sub(r"\ban (?=[^aeiou])", "a ", re.sub(r"\ba (?=[aeiou])", "an ", swapped))


def require_unseen(words: Mapping[str, str], captions: Iterable[str]) -> None:
    """Raise ValueError where a new wording is in a caption that is trained on."""
    found = set(re.findall(r"[a-z][a-z'-]*", " ".join(captions).lower()))
    known = {word for text in words.values() for word in text.split()}
    known -= {word for text in words for word in text.split()} | COMMON
    if known & found:
        raise ValueError(f"These new wordings occur in training: {sorted(known & found)}.")


COMMON = frozenset(
    {"a", "an", "of", "on", "the", "at", "side", "symbol", "shape", "sign", "plus", "showing"}
    | {"open", "jewellery", "strap", "ear", "waist", "draped", "garment", "down"}
)
"""Words within new wordings that may stand in captions: alone they name nothing."""


def only_word(text: str, words: tuple[str, ...]) -> str | None:
    """Return the one word of the list that a text has, None where it has several or none."""
    has = [word for word in words if re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE)]
    longest = [w for w in has if not any(w != other and w in other for other in has)]
    return longest[0] if len(longest) == 1 else None
