"""English words by class, for the rules that take captions apart (`phrases`, `negatives`).

Closed classes (determiners, prepositions, ...) are meant to be complete; verbs, adjectives and
nouns are those common in captions.
"""

from __future__ import annotations


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


ARTICLES = _set("a an")
DETERMINERS = _set(
    "a an the this these those some any each every another both several many few all no various "
    "numerous multiple my your his her its our their whose half"
)
NUMBERS = _set(
    "one two three four five six seven eight nine ten eleven twelve thirteen fifteen twenty "
    "thirty fifty hundred thousand dozen"
)
PREPOSITIONS = _set(
    "about above across after against along alongside amid among amongst around as at atop away "
    "before behind below beneath beside besides between beyond by despite down during except for "
    "from in inside into like near nearby of off on onto opposite out outside over past per since "
    "than through throughout to toward towards under underneath until up upon upside via while "
    "with within without"
)
CONJUNCTIONS = _set("and or but nor yet so because although though if unless whereas plus")
PRONOUNS = _set(
    "i you he she it we they me him us them himself herself itself themselves ourselves myself "
    "something someone somebody anything anyone everything everyone nothing nobody others none "
    "mine yours hers ours theirs that what which who whom where when why how there here it's he's "
    "she's that's there's they're who's what's let's another's"
)
AUXILIARIES = _set(
    "is are was were be been being am has have had having does do did done doing can could will "
    "would shall should may might must isn't aren't wasn't weren't don't doesn't didn't can't "
    "cannot won't couldn't wouldn't seems seem appears appear looks becomes become remains gets "
    "get getting got keeps keep"
)
ADVERBS = _set(
    "very too quite rather really almost just only also even still already again always never "
    "often sometimes soon now then not together apart alone away forward backwards forwards "
    "sideways upwards downwards ahead aside somewhat extremely about nearly perhaps maybe well "
    "far outdoors indoors upstairs downstairs overhead somewhere while who's ago later next once "
    "twice else much more most less least such instead"
)
VERB_STEMS = _set(
    "sit hold wear eat carry lean ride jump wait stare smile sleep laugh talk speak read write "
    "sing throw catch hit kick swing pull push pose perform prepare enjoy look watch walk run go "
    "come take make give put let see say tell try use want need contain include consist feature "
    "show stand lie lay hang graze chew bite lick sniff swim climb cross pass drive pour serve "
    "cook bake grill chop slice reach touch feed gather surround cover fill stretch relax rest "
    "play pet kneel crouch squat bend lead follow chase approach enter leave arrive turn move "
    "travel fly soar glide float sail row paddle ski surf skate bat dribble compete attempt "
    "appear open close point face gaze peek peer stop begin start continue land grind balance "
    "bring buy sell pick attach dress decorate depict display drink roam wander munch snuggle "
    "cuddle hug kiss celebrate tend groom brush wash clean dry cut fix build work type listen "
    "wave yawn scratch crawl slide roll spin twirl concentrate seem remain"
)
"""Stems; `VERBS` has the forms. A stem that is as often a noun ("park", "train") is not here."""

NOUN_LIKE_STEMS = _set(
    "ski surf skate bat row pet cook face drink play ride walk run land point show display "
    "feature hit kick throw catch swing turn rest look watch stand work cut wave slide roll bend "
    "cover fly float sail brush wash type clean dry open close dress try slice start stop travel "
    "move need use pass cross drive lead reach touch bite chop bake lie pose laugh talk smile "
    "balance buy stretch hold jump climb"
)
"""Verb stems whose bare form may be a noun or an adjective: verbs only after a plural noun."""

NOUN_LIKE_FORMS = _set(
    "skis bats rows pets cooks faces drinks plays dresses slices waves slides rolls brushes "
    "points covers flies dries types works cuts rides bites chops hits rests watches "
    "crosses sails cleaning building drying"
)
"""Forms in -s that are often plural nouns: verbs only after "a ..." or where a determiner follows.
"""

IRREGULAR_VERBS = _set(
    "sat held wore ate rode slept spoke threw caught swung took gave saw said told stood lay hung "
    "swam drove fed led left flew began brought bought sold bent knelt ran came went shown"
)
PARTICIPLES = _set(
    "eaten broken worn cut made seen taken shown built hung grown torn frozen written drawn "
    "thrown driven hidden blown mown held left set lit spread caught bitten chosen woven sewn "
    "sliced laid kept put fed shot stuck"
)
COMPOUND_PARTICIPLES = _set(
    "covered lined topped filled shaped colored coloured sized paneled panelled flavored styled "
    "themed trimmed mounted powered drawn framed tiled stuffed roasted"
)
"""Participles that follow a noun inside a noun phrase ("a snow covered hill")."""

ED_WORDS = _set(
    "red bed shed sled seed weed bread speed feed need breed steed reed creed hundred moped"
)
ING_NOUNS = _set(
    "building buildings ceiling ceilings clothing wedding ring rings king evening morning "
    "painting paintings railing railings string strings thing things wing wings spring sibling "
    "siblings dumpling dumplings pudding frosting icing topping toppings stuffing dressing "
    "crossing parking drawing awning awnings bedding lighting seating sling earring earrings "
    "duckling gosling herring lightning setting settings viking wring bling siding flooring "
    "housing shelving furnishing furnishings marking markings carving outing swing clearing"
)
ING_COMPOUNDS = {
    "dining": _set("room rooms table tables area hall set chairs chair"),
    "living": _set("room rooms area space quarters"),
    "parking": _set("lot lots meter meters garage space spot area sign deck"),
    "swimming": _set("pool pools trunks suit"),
    "cutting": _set("board boards"),
    "washing": _set("machine machines"),
    "baking": _set("sheet sheets pan pans dish"),
    "cooking": _set("utensils pot pots pan area"),
    "frying": _set("pan pans"),
    "sleeping": _set("bag bags"),
    "shopping": _set("cart carts bag bags mall center centre"),
    "running": _set("shoes shorts track water"),
    "walking": _set("path stick trail"),
    "hiking": _set("trail boots"),
    "landing": _set("strip gear"),
    "drinking": _set("fountain glass glasses"),
    "sewing": _set("machine"),
    "rocking": _set("chair chairs horse"),
    "boxing": _set("gloves ring"),
    "wading": _set("pool"),
    "skiing": _set("gear equipment slope poles outfit"),
    "mixing": _set("bowl bowls"),
    "serving": _set("dish tray plate"),
    "waiting": _set("room area"),
    "racing": _set("car cars bike bikes"),
    "training": _set("wheels"),
    "loading": _set("dock"),
    "floating": _set("dock"),
}
LY_WORDS = _set(
    "family butterfly lily belly jelly fly july ugly curly friendly lovely silly hilly lonely "
    "elderly woolly wooly holly bubbly prickly wobbly oily smelly chilly grizzly daily early "
    "assembly supply dolly italy gnarly cuddly"
)
"""Words in -ly that are no adverbs."""

S_SINGULARS = _set(
    "tennis bus grass glass dress cross class pass mess chess canvas gas lens cactus hibiscus "
    "octopus walrus hippopotamus campus christmas swiss texas business harness mattress waitress "
    "actress compass process canvass sports goods plus asparagus hummus citrus circus platypus "
    "lotus bliss wilderness kids ladies mens womens his ski's overpass underpass skis sunglasses "
    "clothes mass brass"
)
IRREGULAR_PLURALS = _set("people men women children sheep cattle geese mice feet teeth police fish")
QUANTITIES = _set(
    "group groups bunch couple number pair pairs lot lots variety herd flock crowd row rows set "
    "series dozen dozens piece pieces slice slices stack stacks pile piles bundle cluster "
    "collection line array assortment pack swarm team handful arrangement kinds types kind type "
    "sort"
)
"""Nouns that measure what follows "of"; the phrase goes on behind it."""

DEPICTIONS = _set(
    "picture pictures photo photos photograph image images view shot close-up closeup up portrait "
    "scene"
)
EMPTY_HEADS = _set(
    "front top middle side sides back background foreground distance end ends edge bottom left "
    "right one ones lot bunch couple number bit way variety while order time times kind type sort "
    "sorts center centre rest part close place other same mid midst case example"
)
"""Nouns that say where or how many, and show nothing by themselves."""

COLOURS = _set(
    "red blue green yellow black white brown pink purple orange grey gray tan beige violet gold "
    "golden silver teal turquoise maroon navy cream crimson scarlet lavender"
)
ADJECTIVES = COLOURS | _set(
    "big large huge giant enormous massive small tiny little tall short long wide narrow thick "
    "thin old young new modern antique vintage ancient elderly wooden metal plastic glass stone "
    "brick leather paper concrete ceramic striped checkered plaid floral spotted empty full wet "
    "dry clean dirty open closed hot cold warm sunny cloudy rainy snowy dark bright light lit "
    "happy sad cute pretty beautiful nice good bad great fresh raw ripe rusty messy neat busy "
    "crowded quiet colorful colourful fancy plain simple soft hard heavy shiny fluffy furry hairy "
    "grassy sandy rocky muddy dusty steep flat round square rectangular circular deep shallow "
    "high low fast slow different other same several various own entire whole single double male "
    "female adult tired hungry ready able available similar stuffed fried baked parked asleep "
    "awake alone visible next first second third last top back front left right upper lower main "
    "public calm blurry clear strange odd funny weird interesting delicious tasty healthy foggy "
    "hazy overcast stormy windy oriental asian american european indoor outdoor bare naked "
    "shirtless straight tropical urban rural distant nearby"
)
ADJECTIVE_LIKE_NOUNS = _set(
    "table vegetable cable stable constable radish fish dish rubbish polish jellyfish starfish "
    "goldfish catfish swordfish mouthful handful spoonful timetable turntable walrus rhinoceros"
)
ADJECTIVE_ENDINGS = ("ful", "ous", "less", "ish", "able", "ible")


def _forms(stem: str) -> set[str]:
    """Return a regular verb's forms in -s, -ing and -ed; one form too many does no harm."""
    if stem.endswith("e"):
        root = stem[:-1]
        ing = {root + "ing"} if not stem.endswith("ie") else {stem[:-2] + "ying"}
        return {stem, stem + "s", stem + "d"} | ing
    if stem.endswith("y") and stem[-2] not in "aeiou":
        return {stem, stem[:-1] + "ies", stem[:-1] + "ied", stem + "ing"}
    plural = "es" if stem.endswith(("s", "x", "ch", "sh", "o")) else "s"
    doubled = stem + stem[-1]
    return {stem, stem + plural, stem + "ing", stem + "ed", doubled + "ing", doubled + "ed"}


VERBS = frozenset(form for stem in VERB_STEMS for form in _forms(stem)) | IRREGULAR_VERBS
