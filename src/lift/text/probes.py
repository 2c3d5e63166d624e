"""Sentences whose rows are stored with every cache: a drifted encoder can't hide from them."""

from __future__ import annotations

PROBES: tuple[str, ...] = (
    "a dog",
    "A brown dog runs along the beach with a ball in its mouth.",
    "A brown ball lies on the beach and a dog runs away from it.",
    "two cats asleep on a red sofa",
    "two red cats asleep on a sofa",
    "There is no one in the kitchen.",
    "Five children in yellow coats wait for a bus in the rain.",
    "IMG_20190714_173205.jpg",
    "Buy women's running shoes online - free shipping over $50!",
    "the same photo in black and white, seen from above",
    "An old man, who wears glasses, reads a newspaper to the left of a window.",
    "A woman is throwing a frisbee while a boy behind her is catching one.",
    "blue square above a green circle",
    "green square above a blue circle",
    "stop sign",
    "a close-up of a plate with rice, beans and half a lemon",
    "The stadium is full, but the match has not begun yet.",
    "snow-covered mountains at dusk, reflected in a lake",
    "x-ray of a left hand",
    "scatter plot with a rising trend, n = 240",
    "Ein kleiner Hund schläft auf dem Sofa.",
    "Un homme vend des légumes au marché.",
    "一只狗在海滩上奔跑",
    "Кошка сидит у окна",
    "كلب يجري على الشاطئ",
    "🐕 🏖️",
    "A DOG ON THE BEACH",
    "graffiti that says 'be kind' on a brick wall",
    "a photo of a Boeing 737-800, a type of aircraft",
    "antique brass door handle, 12 cm, slightly scratched",
    "In the foreground a bicycle with a basket full of flowers leans against a stone wall; behind "
    "it a narrow street leads down to the harbour, where three fishing boats are tied up and a man "
    "in a blue jacket mends a net. The light is low and warm, and the shadows of the houses reach "
    "across the water to the boats.",
    "nothing",
)
"""Short and long, several languages, and pairs that differ in one word or in word order alone."""
