"""What replaces what in negatives made by rule: word lists each wrong for the other."""

from __future__ import annotations

from lift.text import lexicon as lex

COLOUR_FAMILIES = (
    "red maroon crimson scarlet",
    "blue navy turquoise teal",
    "green",
    "yellow gold golden cream",
    "black",
    "white silver cream",
    "brown tan beige",
    "pink",
    "purple violet lavender",
    "orange",
    "grey gray silver",
)
"""A colour is never replaced by one of its own family; the first of each is what replaces."""

NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine"}
"""Replaced by a larger number only: where three men are, two men are as well."""

SIZES = {
    "big": "small",
    "large": "small",
    "huge": "tiny",
    "giant": "tiny",
    "enormous": "tiny",
    "massive": "tiny",
    "small": "large",
    "tiny": "huge",
    "little": "big",
    "tall": "short",
    "short": "tall",
    "long": "short",
    "wide": "narrow",
    "narrow": "wide",
    "thick": "thin",
    "thin": "thick",
}
RELATIONS = {
    "on top of": ("underneath", "next to"),
    "in front of": ("behind",),
    "out of": ("into",),
    "far from": ("next to",),
    "next to": ("on top of", "underneath"),
    "behind": ("in front of",),
    "on": ("under", "behind"),
    "atop": ("underneath",),
    "under": ("on top of",),
    "underneath": ("on top of",),
    "beneath": ("on top of",),
    "above": ("below",),
    "below": ("above",),
    "inside": ("outside",),
    "outside": ("inside",),
    "into": ("out of",),
    "beside": ("on top of", "underneath"),
    "near": ("far from",),
    "with": ("without",),
}
"""Put before a noun phrase; what stands in the place can't hold at the same time."""

ACTIONS = {
    "sitting": "standing",
    "standing": "sitting",
    "sits": "stands",
    "stands": "sits",
    "lying": "standing",
    "laying": "standing",
    "sleeping": "running",
    "walking": "sitting",
    "smiling": "crying",
    "pushing": "pulling",
    "pulling": "pushing",
    "catching": "throwing",
    "throwing": "catching",
    "wearing": "holding",
}
ATTRIBUTES = {
    "old": "new",
    "young": "old",
    "new": "old",
    "modern": "antique",
    "antique": "modern",
    "wooden": "metal",
    "metal": "wooden",
    "plastic": "wooden",
    "leather": "plastic",
    "brick": "wooden",
    "stone": "wooden",
    "striped": "plain",
    "checkered": "plain",
    "plaid": "plain",
    "floral": "striped",
    "spotted": "striped",
    "empty": "full",
    "full": "empty",
    "open": "closed",
    "closed": "open",
    "wet": "dry",
    "dry": "wet",
    "clean": "dirty",
    "dirty": "clean",
    "sunny": "rainy",
    "rainy": "sunny",
    "cloudy": "clear",
    "dark": "bright",
    "bright": "dark",
    "hot": "cold",
    "cold": "hot",
    "indoor": "outdoor",
    "outdoor": "indoor",
    "round": "square",
    "square": "round",
    "male": "female",
    "female": "male",
}
COMPOUNDS = {
    "hot": frozenset("dog tub pot plate sauce rod spring chocolate cocoa air".split()),
    "cold": frozenset("cut".split()),
    "wet": frozenset("suit bar nap".split()),
    "dry": frozenset("dock erase cleaner ice".split()),
    "open": frozenset("air house".split()),
    "full": frozenset("moon house".split()),
    "new": frozenset("york zealand orleans england year jersey mexico delhi".split()),
    "old": frozenset("town fashioned".split()),
    "big": frozenset("ben bird top apple wheel".split()),
    "little": frozenset("league".split()),
    "long": frozenset("board island beach horn jump".split()),
    "short": frozenset("stop cake bread".split()),
    "tall": frozenset("ship".split()),
    "large": frozenset("scale".split()),
    "wide": frozenset("angle".split()),
    "dark": frozenset("chocolate".split()),
    "round": frozenset("about".split()),
    "square": frozenset("foot mile".split()),
    "orange": frozenset("juice slice peel tree segment wedge half".split()),
    "green": frozenset("bean onion tea house salad".split()),
    "white": frozenset("board house water".split()),
    "black": frozenset("board berry pepper belt".split()),
    "red": frozenset("sox bull carpet".split()),
    "blue": frozenset("berry cheese jay jean".split()),
}
"""Names of things in two words, by the first: another word there makes no wrong caption but
nonsense ("cold dog" for a hot dog). The second words are singular."""

PICTURES = frozenset(
    "photo photograph picture image shot film tv television movie video portrait print drawing "
    "sketch photography still snapshot footage".split()
)
"""What is black and white by the way it was made: no part of that is a colour of a thing."""

OBJECTS = (
    "man woman",
    "boy girl",
    "dog cat horse cow sheep elephant giraffe zebra bear bird",
    "car bus train truck motorcycle boat airplane",
    "table chair bench bed couch",
    "pizza sandwich cake salad banana apple",
    "plate bowl cup bottle",
    "fork knife spoon",
    "kitchen bathroom bedroom office",
    "beach desert forest street",
    "skateboard surfboard snowboard bicycle",
    "frisbee kite umbrella",
    "shirt hat jacket dress",
    "laptop phone camera television",
    "tree rock",
)
"""Classes of things that are not each other; a head noun is replaced within its class."""

NEAR_OBJECTS = {
    "bike": "bicycle",
    "sofa": "couch",
    "plane": "airplane",
    "jet": "airplane",
    "tv": "television",
    "motorbike": "motorcycle",
    "cellphone": "phone",
    "bull": "cow",
    "lamb": "sheep",
    "dish": "plate",
    "desk": "table",
    "coat": "jacket",
    "puppy": "dog",
    "kitten": "cat",
    "road": "street",
}
"""Words that make the other a wrong replacement: where one is named, the other may be true."""

_PLURALS = {"man": "men", "woman": "women", "sheep": "sheep", "knife": "knives"}
GENDERED = frozenset("he she his her him hers himself herself man's woman's boy's girl's".split())

ASYMMETRIC = frozenset(
    "on in under underneath beneath above below behind atop inside over into onto through at "
    "towards toward from off".split()
)
"""Prepositions that say something else with their ends exchanged. The others (with, near, beside,
by, and, ...) may say the same, so nothing is swapped across them."""

SYMMETRIC_VERBS = frozenset(
    "meet meets meeting face faces facing hug hugs hugging kiss kisses kissing play plays playing "
    "fight fights fighting talk talks talking race races racing match matches matching resemble "
    "resembles touching touch touches battling posing interact interacting wrestling seem seems "
    "look looks appear appears marrying join joins joined between".split()
)
FRAMES = ("in front of", "on top of")
"""Relations of several words that may stand between phrases to be exchanged."""

WEAK = frozenset("in at through from into off".split())
"""Asymmetric, but the exchange is seldom plausible: used where a caption has nothing better."""

SCENERY = frozenset(
    "air snow rain water grass sun sunlight sunset shade dusk dawn night background distance zoo "
    "city park field ocean sky street road".split()
)
"""What fills a picture and is no thing that could change places with another."""

PEOPLE = frozenset(
    "man men woman women person people boy boys girl girls child children kid kids lady ladies guy "
    "guys baby skier skateboarder surfer player players couple".split()
)
ALIVE = PEOPLE | frozenset(OBJECTS[2].split()) | frozenset(f"{a}s" for a in OBJECTS[2].split())
"""Whom an action may be denied: a pizza that sits on a plank stands on it as well."""

YOUNG = frozenset("boy boys girl girls child children kid kids baby babies lad calf".split())
NO_PLACE = frozenset(
    "day night morning evening afternoon phone cell cellphone tv television fire sale vacation way "
    "display left right side sides end edge top other another something someone it time".split()
)
"""Nouns behind "on" or "with" that make no place ("on the phone", "on a sunny day")."""


def plural(noun: str) -> str:
    """Return the plural of a noun."""
    if noun in _PLURALS:
        return _PLURALS[noun]
    if noun.endswith(("s", "ch", "sh", "x")):
        return noun + "es"
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"


def singular(noun: str) -> str:
    """Return the singular of a noun, by its ending."""
    if noun in _SINGULARS:
        return _SINGULARS[noun]
    if not noun.endswith("s") or noun.endswith(("ss", "us", "is")):
        return noun
    return noun[:-2] if noun.endswith(("ches", "shes", "sses", "xes")) else noun[:-1]


_SINGULARS = {many: one for one, many in _PLURALS.items()}

OTHERS = {
    word: tuple(form(other) for other in line.split() if other != member)
    for line in OBJECTS
    for member in line.split()
    for word, form in ((plural(member), plural), (member, str))
}
"""For each thing, in singular or plural: the others of its class, in the same number."""

FAMILIES = {word: family.split() for family in COLOUR_FAMILIES for word in family.split()}
ATTRIBUTE_CLASSES = (
    lex.COLOURS,
    frozenset(SIZES),
    frozenset("old young new modern antique vintage".split()),
    frozenset("wooden metal plastic glass stone brick leather".split()),
    frozenset("striped checkered plaid floral spotted plain".split()),
)
"""Attributes that may be exchanged between two nouns."""
