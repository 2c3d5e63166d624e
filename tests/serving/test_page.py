"""The search page in a real browser, before a real server over a real index."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from browser import Page, chromium
from lift.search.combiner import Combiner, Network
from lift.search.filters import Filter
from lift.search.index import Index
from lift.search.terms import Item
from made_model import made
from serving.in_memory import InMemory, drawn, items
from serving.page_site import Site, photo, site

STATUS = "document.querySelector('#status').textContent"
CARDS = "Array.from(document.querySelectorAll('.card'))"
KEYS = f"{CARDS}.map(e => e.dataset.key)"
ACTIVE = "document.activeElement"
PROBLEM = "document.querySelector('#problem').textContent"
OPEN = "document.querySelector('#panel').open"
IDLE = "!document.querySelector('#results').hasAttribute('aria-busy')"

WORD = "Pneumonoultramicroscopicsilicovolcanoconiosis" * 12
HOSTILE = [
    Item(
        key="<img src=x onerror=alert(1)>",
        texts={"title": ("<script>window.hit=1</script><b>bold</b>",), "<i>f</i>": ("&lt;x",)},
        images=(drawn("red", "bar"),),
        facts={"colour": "<u>red</u> | 'x'\"y"},
    ),
    Item(key="long", texts={"title": (WORD,)}, facts={"colour": WORD}),
    Item(key="rtl", texts={"title": ("כלב שמח רץ בחוף " * 20,)}, facts={"colour": "أحمر"}),
    Item(key="emoji", texts={"title": ("👩‍👩‍👧‍👦🏳️‍🌈" * 60,)}, images=(drawn("blue", "bar"),)),
    Item(key="caption", texts={"body": ("many words and " * 667,)}, images=(drawn("red", "bar"),)),
    Item(key="../../etc/passwd?a=b&c=d#e", texts={}, images=(drawn("green", "bar"),)),
]


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Iterator[Index]:
    with Index.create(tmp_path_factory.mktemp("page") / "shapes", made()) as found:
        found.add(items(120))
        yield found


@pytest.fixture(scope="module")
def served(index: Index) -> Iterator[Site]:
    with site(index) as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def tab(browser: Page, served: Site) -> Iterator[Page]:
    """A tab with the page open; nothing may have gone wrong in it in the end."""
    served.delays, served.failing = {}, set()
    opened(browser, served.url)
    served.asked = []
    yield browser
    assert not browser.errors
    assert_own(browser, served)


def opened(tab: Page, url: str, width: int = 1280, height: int = 900) -> None:
    """Open the page anew, and wait for its first answer."""
    tab.open("about:blank")
    tab.open(url, width=width, height=height)
    tab.wait(f"{STATUS} && !document.querySelector('#filter').hidden")


def assert_own(tab: Page, served: Site) -> None:
    """Nothing was asked of anybody but the server."""
    others = [url for url in tab.requests if not url.startswith((served.url, "blob:"))]
    assert not others


def asked_for(tab: Page, served: Site, words: str) -> Any:
    """Type words into the box, and return the body of the search once its answer is shown."""
    tab.focus("#words")
    tab.type(words)
    tab.wait(f"{STATUS}.includes('{words}') && {IDLE}")
    return served.bodies("/search")[-1]


def click_on(tab: Page, selector: str, words: str) -> None:
    """Click the element of these words."""
    tab.run(
        f"Array.from(document.querySelectorAll({json.dumps(selector)}))"
        f".find(e => e.textContent.trim().startsWith({json.dumps(words)})).dataset.wanted = ''"
    )
    tab.click("[data-wanted]")
    tab.run("document.querySelector('[data-wanted]')?.removeAttribute('data-wanted')")


# --- searching -----------------------------------------------------------------------------------


def test_words_are_searched_for_as_they_are_typed(tab, served, index):
    assert tab.run("document.title") == index.name == "shapes"
    assert tab.run(STATUS) == "48 items of 120 items"
    assert tab.run("document.querySelector('#kinds').disabled")  # browsing shows all
    body = asked_for(tab, served, "a red circle")
    assert body == {
        "query": [{"text": "a red circle", "weight": 1}],
        "combine": "sum",
        "top": 48,
    }
    expected = [hit.key for hit in index.search("a red circle", top=48)]
    assert tab.run(KEYS) == expected
    first = f"{CARDS}[0]"
    assert tab.run(f"{first}.querySelector('.title').textContent") == "a red circle"
    assert tab.run(f"{first}.querySelector('.why').textContent") == "title 1.00"
    assert "colour red" in tab.run(f"{first}.querySelector('.facts').textContent")
    tab.wait(f"{first}.querySelector('img').naturalWidth > 0")
    assert tab.run("document.querySelector('#status').getAttribute('aria-live')") == "polite"
    assert "q=a+red+circle" in tab.run("location.search")
    assert tab.run(STATUS).startswith("The best 48 results for “a red circle” in 0.")
    tab.click("#kinds label:nth-of-type(2)")
    tab.wait(f"{CARDS}[0].textContent.includes('picture')")
    assert served.bodies("/search")[-1]["kinds"] == ["image"]


def test_the_answer_to_what_was_typed_last_is_what_stays(tab, served):
    served.delays = {"slow": 0.7}
    tab.focus("#words")
    tab.type("slow red")
    tab.wait("location.search.includes('slow')")
    served.wait("/search")  # on its way already
    tab.run("document.querySelector('#words').select()")
    tab.type("blue bar")
    tab.wait(f"{STATUS}.includes('blue bar')")
    tab.run("new Promise(done => setTimeout(done, 900))")
    assert "blue bar" in tab.run(STATUS) and tab.run(f"{CARDS}[0].textContent.includes('blue bar')")


def test_browsing_goes_on_to_the_end_and_search_when_told_to(tab, served):
    tab.wait(f"(scrollTo(0, document.body.scrollHeight), {CARDS}.length === 120)")
    assert len(set(tab.run(KEYS))) == 120 and tab.run(STATUS) == "120 items"
    assert tab.run("document.querySelector('#more').hidden")
    asked_for(tab, served, "green")
    tab.focus("#more")
    tab.press("Enter")
    tab.wait(f"{CARDS}.length === 96")
    assert tab.run(f"{CARDS}.indexOf({ACTIVE})") == 48  # the first of the new ones


def test_a_link_is_shared_and_back_goes_back(tab, served):
    asked_for(tab, served, "red")
    tab.press("Enter")
    tab.focus("#words")
    tab.press("End")
    tab.type(" bar")
    tab.wait(f"{STATUS}.includes('red bar')")
    tab.click("#kinds label:nth-of-type(3)")
    tab.wait("location.search.includes('kinds=text')")
    link = tab.run("location.href")
    tab.run("history.back()")
    tab.wait("document.querySelector('#kinds [value=both]').checked")
    tab.run("history.back()")
    tab.wait(f"{STATUS}.includes('“red”')")
    assert tab.run("document.querySelector('#words').value") == "red"
    opened(tab, link + "&where=price%3C%3D20&part=text:-0.5:blue&part=item:1:item-0&part=text:7:x")
    assert tab.run("document.querySelector('#words').value") == "red bar"
    assert tab.run("document.querySelectorAll('.chip').length") == 2  # 7 is no weight
    assert served.bodies("/search")[-1] == {
        "query": [
            {"text": "blue", "weight": -0.25},
            {"item": "item-0", "weight": 1},
            {"text": "red bar", "weight": 2},  # beside a picture
        ],
        **{"combine": "sum", "top": 48, "where": "price<=20", "kinds": ["text"]},
    }


# --- pictures and several parts ------------------------------------------------------------------

TRANSFER = """(() => {{
    const bytes = Uint8Array.from(atob({content}), c => c.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], {name}, {{type: 'image/png'}}));
    const about = {{bubbles: true, cancelable: true}};
    if ({kind} === 'paste')
        return document.querySelector('#words').dispatchEvent(
            new ClipboardEvent('paste', {{...about, clipboardData: data}}));
    const over = new DragEvent('dragenter', {{...about, dataTransfer: data}});
    document.body.dispatchEvent(over);
    window.shown = !document.querySelector('#drop').hidden;
    document.body.dispatchEvent(new DragEvent('dragover', {{...about, dataTransfer: data}}));
    return document.body.dispatchEvent(new DragEvent('drop', {{...about, dataTransfer: data}}));
}})()"""


def hand(tab: Page, kind: str, content: bytes, name: str = "a.png") -> None:
    """Paste or drop a file."""
    encoded = json.dumps(base64.b64encode(content).decode())
    script = TRANSFER.format(content=encoded, name=json.dumps(name), kind=json.dumps(kind))
    assert tab.run(script) is False  # the browser doesn't open it


def sent(body: Any, at: int = 0) -> Image.Image:
    """Return the picture that a query holds."""
    head, _, data = body["query"][at]["image"].partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_picture_is_made_small_and_searched_with(tab, served, tmp_path):
    phone = tmp_path / "from my phone.jpg"
    upright = Image.open(io.BytesIO(photo(3000, 2000)))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    upright.save(phone, exif=exif)
    tab.choose("#file", phone)
    tab.wait(f"{STATUS}.includes('from my phone.jpg')")
    body = served.bodies("/search")[-1]
    assert sent(body).size == (683, 1024) and len(body["query"][0]["image"]) < 100_000
    red = sent(body).convert("RGB").getpixel((5, 5))
    assert red[0] > 240 and max(red[1:]) < 20
    hand(tab, "paste", photo(20, 10, "#00000000", "PNG"))
    tab.wait("document.querySelectorAll('.chip').length === 2")
    tab.wait(f"{IDLE} && {STATUS}.includes('a.png')")
    assert sent(served.bodies("/search")[-1], 1).size == (20, 10)
    hand(tab, "drop", b"no picture", "notes.txt")
    tab.wait(PROBLEM)
    assert tab.run("window.shown") and tab.run("document.querySelector('#drop').hidden")
    assert tab.run(PROBLEM) == "notes.txt is no picture that this browser can read."
    assert tab.run("document.querySelectorAll('.chip').length") == 2


def test_a_dropped_picture_finds_itself(tab, served, index):
    hand(tab, "drop", drawn("blue", "square"), "x.png")
    tab.wait(f"{STATUS}.includes('x.png')")
    top = tab.run(f"{CARDS}.slice(0, 3).map(e => e.querySelector('.why').textContent)")
    assert all(float(why.split()[-1]) > 0.9 for why in top), top  # a JPEG of it is nearly it
    tab.click(".card")
    tab.wait(f"{OPEN} && document.querySelector('.told')")
    tab.press("Escape")
    tab.wait(f"!{OPEN} && !location.search.includes('open')")
    assert tab.run("document.querySelectorAll('.chip').length") == 1  # still in the query
    tab.run("history.back()")
    tab.wait("document.querySelectorAll('.chip').length === 0")
    tab.run("history.forward()")
    tab.wait("document.querySelectorAll('.chip').length === 1")
    tab.wait(f"{STATUS}.includes('x.png') && {IDLE}")


def test_text_picture_and_what_is_not_wanted_are_combined(tab, served):
    asked_for(tab, served, "red")
    tab.click("#keep")
    tab.type("bar")
    tab.wait(f"{STATUS}.includes('“bar, red”')")
    tab.click("#keep")
    hand(tab, "paste", drawn("green", "bar"))
    tab.wait("document.querySelectorAll('.chip').length === 3")
    tab.click(".chip:nth-child(2) .head")
    click_on(tab, ".chip:nth-child(2) .menu button", "Not")
    click_on(tab, ".chip:nth-child(2) .menu button", "More")
    tab.wait("document.querySelector('.chip.unwanted .amount').textContent.trim() === '×1.5'")
    tab.click(".chip:nth-child(1) .head")
    click_on(tab, ".chip:nth-child(1) .menu button", "Less")
    tab.wait(f"document.querySelector('.amount').textContent.trim() === '×0.5' && {IDLE}")
    tab.run("new Promise(done => setTimeout(done, 50))")
    query = served.bodies("/search")[-1]["query"]
    assert query[:2] == [{"text": "red", "weight": 1}, {"text": "bar", "weight": -0.75}]
    assert "“red, not bar, a.png”" in tab.run(STATUS)
    assert query[2]["weight"] == 1 and sent({"query": query}, 2).size == (96, 96)
    for _ in range(2):
        tab.click(".chip:last-child .head")
        tab.click(".chip:last-child .remove")
    tab.wait("document.querySelectorAll('.chip').length === 1")
    assert tab.run(f"{ACTIVE}.id") == "words"
    click_on(tab, ".chip .menu button", "Not") if tab.run(
        "!document.querySelector('.menu').hidden"
    ) else (tab.click(".head"), click_on(tab, ".chip .menu button", "Not"))
    tab.wait("!document.querySelector('#hint').hidden")
    assert "only what is not" in tab.run("document.querySelector('#hint').textContent")
    tab.wait(f"{STATUS}.includes('items')")
    tab.press("Tab")
    tab.focus("#words")
    tab.press("Backspace")
    tab.wait("document.querySelectorAll('.chip').length === 0")


def test_an_index_without_a_combiner_offers_no_edit(tab, served):
    hidden = "document.querySelector('#edit').hidden"
    opened(tab, f"{served.url}?edit=1&q=but+blue&part=item:1:item-0")
    tab.wait(IDLE)
    assert tab.run(hidden)
    served.asked = []
    tab.focus("#words")
    tab.type(" all over")
    served.wait("/search")
    tab.wait(f"{STATUS}.includes('all over') && {IDLE}")
    assert served.bodies("/search")[-1]["query"] == [
        {"item": "item-0", "weight": 1},
        {"text": "but blue all over", "weight": 2},  # beside a picture a text counts twice
    ]
    assert served.bodies("/search")[-1]["combine"] == "sum"
    assert not tab.run(PROBLEM)
    tab.errors.clear()  # the first request of such a link may come before the answer that says no


def test_a_picture_is_edited_where_the_query_is_one_and_a_text(tab, served, index):
    hidden = "document.querySelector('#edit').hidden"
    folder = Combiner(Network(index.space.dimensions, 8), index.space, {}).save(
        index.folder / "combiner"
    )
    try:
        opened(tab, served.url)
        hand(tab, "drop", drawn("green", "bar"))
        tab.wait("document.querySelectorAll('.chip').length === 1")
        assert tab.run(hidden)
        tab.focus("#words")
        tab.type("but blue")
        tab.wait(f"!{hidden} && {STATUS}.includes('but blue') && {IDLE}")
        served.asked = []
        tab.click("#editing")
        served.wait("/search")
        tab.wait(IDLE)
        body = served.bodies("/search")[-1]
        assert body["combine"] == "edit" and [part["weight"] for part in body["query"]] == [1, 1]
        assert not tab.run(PROBLEM) and tab.run(f"{CARDS}.length")
    finally:
        shutil.rmtree(folder)


def test_a_query_has_so_many_parts_and_no_more(tab, served):
    parts = "&".join(f"part=text:1:word{n}" for n in range(20))
    opened(tab, f"{served.url}?{parts}&q=last")
    assert tab.run("document.querySelectorAll('.chip').length") == 15
    tab.wait(IDLE)
    assert len(served.bodies("/search")[-1]["query"]) == 16
    tab.click("#keep")
    assert tab.run(PROBLEM) == "A query has at most 16 parts."
    assert tab.run("document.querySelector('#words').value") == "last"
    tab.click(".card")
    tab.wait(f"{OPEN} && document.querySelector('.told')")
    click_on(tab, ".acts button", "Add to")
    tab.wait(f"!{OPEN} && {PROBLEM} === 'A query has at most 16 parts.'")


# --- filters -------------------------------------------------------------------------------------


def test_filters_are_made_of_facts_and_of_words(tab, served):
    tab.click("#filter")
    assert tab.run("document.querySelector('#filter').ariaExpanded") == "true"
    names = tab.run(
        "Array.from(document.querySelectorAll('#filters legend')).map(e => e.textContent)"
    )
    assert sorted(names) == ["colour", "in_stock", "price"]
    click_on(tab, ".value", "red")
    tab.wait(f"{STATUS} === '40 items'")
    click_on(tab, ".value", "blue")
    tab.wait(f"{STATUS} === '48 items of 80 items'")
    tab.focus("[aria-label='price, at most']")
    tab.type("20")
    tab.press("Enter")
    tab.wait(f"{STATUS} === '7 items'")
    assert tab.run("document.querySelector('#where').value") == "colour=red|blue price<=20"
    assert tab.run("document.querySelector('#filter').textContent") == "Filter (2)"
    asked_for(tab, served, "bar")
    assert served.bodies("/search")[-1]["where"] == "colour=red|blue price<=20"
    assert tab.run(f"{CARDS}.length") == 7
    tab.run("document.querySelector('#where').value = ''")
    tab.focus("#where")
    tab.type("in_stock=true colour!=red")
    tab.press("Enter")
    tab.wait("document.querySelector('.value[aria-pressed=true]')")
    pressed = "Array.from(document.querySelectorAll('.value[aria-pressed=true]'))"
    tab.wait(f"{pressed}.map(e => e.textContent.trim()).join() === 'yes 60'")
    assert tab.run("document.querySelector(\"[aria-label='price, at most']\").value") == ""
    click_on(tab, ".value", "yes")
    tab.wait("document.querySelector('#where').value === 'colour!=red'")
    tab.run("document.querySelector('#where').value = 'price<'")
    tab.focus("#where")
    tab.press("Enter")
    tab.wait(PROBLEM)
    assert "price" in tab.run(PROBLEM)
    tab.errors.clear()


VALUES = [
    *(
        "red",
        "night sky",
        "20",
        "true",
        '"20"',
        "it's",
        'a"b',
        "\\",
        "a\\b c",
        "é=ß",
        "",
        " ",
        "#x",
    ),
    *(
        "-",
        "$(x)",
        "<b>",
        "日本 語",
        "tab\tx",
        "line\nx",
        "1e5",
        ".5",
        '"',
        "'\"'",
        20,
        0.25,
        -3,
        True,
    ),
]


def test_words_made_here_are_words_understood_there(tab):
    made = tab.run(
        "import(document.querySelector('script').src.replace('app.js', 'where.js')).then(where =>"
        f"{json.dumps(VALUES)}.map(value => where.ask('a<3 b=\"x y\"', 'fact', '=', [value, 'z'])))"
    )
    for words, value in zip(made, VALUES, strict=True):
        conditions = {
            condition.fact: condition.values for condition in Filter.parse(words).conditions
        }
        assert conditions == {"a": (3.0,), "b": ("x y",), "fact": (value, "z")}, words
        assert type(conditions["fact"][0]) is (float if type(value) is int else type(value))
    back = tab.run(
        "import(document.querySelector('script').src.replace('app.js', 'where.js')).then(where =>"
        f"{json.dumps(made)}.map(words => where.asked(words, 'fact', '=')[0]))"
    )
    assert back == VALUES
    assert tab.run(
        "import(document.querySelector('script').src.replace('app.js', 'where.js')).then(where =>"
        "[where.wordOf('a|b'), where.asked('\"x', 'x', '='), where.ask('c=1 d=2', 'c', '=', [])])"
    ) == [None, None, "d=2"]


# --- an item -------------------------------------------------------------------------------------


def test_an_item_opens_and_leads_to_others_like_it(tab, served, index):
    tab.click(".card")
    tab.wait(f"{OPEN} && document.querySelector('.told')")
    assert tab.run("location.search") == "?open=item-0"
    told = tab.run("document.querySelector('#panel').textContent")
    for words in ("a red circle", "This is thing 0", "colour", "in_stock", "item-0"):
        assert words in told
    tab.wait("document.querySelector('.frame img').naturalWidth > 0")
    tab.click(".strip button:nth-child(2)")
    tab.wait("document.querySelector('.frame img').src.endsWith('number=1')")
    assert not tab.run("document.querySelector('.where-in').offsetHeight")  # of the first alone
    click_on(tab, ".acts button", "Similar")
    tab.wait(f"!{OPEN} && {STATUS}.includes('results for')")
    assert served.bodies("/similar") == [{"key": "item-0", "top": 48}]
    assert "item-0" not in tab.run(KEYS) and len(tab.run(KEYS)) == 48
    assert tab.run("document.querySelector('.chip .name').textContent") == "a red circle"
    tab.click(".card")
    tab.wait(f"{OPEN} && document.querySelector('.told')")
    key = tab.run("new URLSearchParams(location.search).get('open')")
    click_on(tab, ".acts button", "Not like this")
    tab.wait("document.querySelectorAll('.chip').length === 2 && location.search.includes('-1')")
    tab.wait(IDLE)
    query = served.bodies("/search")[-1]["query"]
    assert query == [{"item": "item-0", "weight": 1}, {"item": key, "weight": -0.5}]
    tab.run("history.back()")  # to the panel from which that was asked
    tab.wait(f"{OPEN} && document.querySelectorAll('.chip').length === 1")
    assert tab.run("document.querySelector('.chip .name').textContent") == "a red circle"
    tab.run("history.back()")
    tab.wait(f"!{OPEN}")


def test_heat_is_drawn_over_the_picture(tab, served):
    asked_for(tab, served, "a red circle")
    tab.click(".card")
    tab.wait("document.querySelector('.where-in')")
    assert tab.run("document.querySelector('#heat-text').value") == "a red circle"
    tab.focus("#heat-text")
    tab.press("Enter")
    tab.wait("document.querySelector('.where-in p').textContent.includes('from')")
    assert served.bodies("/heatmap")[-1] == {"key": "item-0", "text": "a red circle"}
    heat = "document.querySelector('canvas.heat')"
    assert not tab.run(f"{heat}.hidden") and tab.run(f"[{heat}.width, {heat}.height]") == [4, 4]
    drawn = tab.run(f"Array.from({heat}.getContext('2d').getImageData(0, 0, 4, 4).data)")
    opacities = drawn[3::4]
    assert max(opacities) == 200 and len(set(opacities)) > 4
    over = f"{heat}.getBoundingClientRect()"
    box = "document.querySelector('.frame img').getBoundingClientRect()"
    for side in ("left", "top", "width", "height"):  # the picture is a square, seen as a whole
        assert tab.run(f"Math.abs({over}.{side} - {box}.{side})") < 1
    click_on(tab, ".where-in button", "Hide")
    assert tab.run(f"{heat}.hidden") and tab.run(f"{ACTIVE}.id") == "heat-text"


def test_a_picture_is_told_of_in_words_that_were_found(tab, served):
    tab.click(".card")
    tab.wait("document.querySelector('.told')")
    for route in ("labels", "explain", "describe"):
        tab.click(f"[data-route={route}] summary")
        tab.wait(f"document.querySelector('[data-route={route}] .lines li')")
        assert len(served.bodies(f"/{route}")) == 1
    quotes = tab.run("document.querySelector('[data-route=describe] .lines').textContent")
    assert "circle" in quotes or "bar" in quotes or "square" in quotes


# --- keyboard, phone, eyes -----------------------------------------------------------------------


def tabbed(tab: Page, most: int = 40, **held: bool) -> list[str]:
    """Press Tab until the keyboard is back at the start, and return where it has been."""
    name = f"({ACTIVE}.id || {ACTIVE}.className || {ACTIVE}.textContent || {ACTIVE}.tagName)"
    ring = "getComputedStyle(document.activeElement).outlineStyle"
    inner = "document.activeElement.matches('.segments input')"  # its label shows the ring
    seen: list[str] = []
    for _ in range(most):
        tab.press("Tab", **held)
        at = tab.run(name)
        if at in seen[:1] or tab.run(f"{ACTIVE} === document.body"):
            return seen
        assert tab.run(inner) or tab.run(ring) != "none", at
        seen.append(at)
    raise AssertionError(f"the Tab key never comes round: {seen}")


def test_the_whole_journey_without_a_mouse(tab, served):
    tab.press("Tab")
    tab.press("Enter")  # the link that skips what is above
    assert tab.run(f"{CARDS}.indexOf({ACTIVE})") == 0 and tab.run("location.hash") == ""
    tab.press("/")
    assert tab.run(f"{ACTIVE}.id") == "words"
    tab.type("a red circle")
    tab.wait(f"{STATUS}.includes('red circle') && {IDLE}")
    tab.press("/")  # is a letter in here
    tab.wait("document.querySelector('#words').value.endsWith('/')")
    tab.press("Backspace")
    tab.wait(f"{STATUS}.includes('circle”') && {IDLE}")
    tab.press("ArrowDown")
    at = f"{CARDS}.indexOf({ACTIVE})"
    columns = tab.run(f"{CARDS}.filter(e => e.offsetTop === {CARDS}[0].offsetTop).length")
    assert tab.run(at) == 0 and columns > 3
    places = []
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "End", "ArrowDown", "Home"):
        tab.press(key)
        places.append(tab.run(at))
    assert places == [1, 1 + columns, columns, 0, 47, 47, 0]
    tab.click("#filter")  # what stays in sight above grows, and hides no card that has the keyboard
    tab.focus(".card:last-child")
    tab.press("End")
    below = f"{ACTIVE}.getBoundingClientRect().top - find('header').getBoundingClientRect().bottom"
    for _ in range(47 // columns):
        tab.press("ArrowUp")
        assert tab.run(below.replace("find", "document.querySelector")) >= 0
    tab.click("#filter")
    tab.focus(".card")
    assert tab.run(f"{CARDS}.filter(e => e.tabIndex === 0).length") == 1
    tab.press("ArrowRight")
    tab.press("Enter")
    tab.wait(f"{OPEN} && document.querySelector('.told')")
    assert tab.run(f"{ACTIVE}.id") == "panel-title"
    inside = tabbed(tab)  # comes round within the panel
    assert len(inside) > 6 and tab.run(f"Boolean({ACTIVE}.closest('#panel'))")
    tab.press("/")
    assert tab.run(f"Boolean({ACTIVE}.closest('#panel'))")
    tab.press("Escape")
    tab.wait(f"!{OPEN} && !location.search.includes('open')")
    assert tab.run(at) == 1  # where it was
    tab.press("ArrowUp")
    assert tab.run(f"{ACTIVE}.id") == "words"
    tab.press("Tab")
    assert tab.run(f"{ACTIVE}.id") == "keep"
    tab.press("Enter")
    tab.wait("document.querySelector('.chip')")
    tab.press("Tab", shift=True)
    assert tab.run(f"{ACTIVE}.className") == "head"
    tab.press("Enter")
    tab.press("Tab")
    tab.press("Space")  # less
    tab.wait("document.querySelector('.amount').textContent.includes('×0.5')")
    assert tab.run(f"{ACTIVE}.textContent") == "Less"
    tab.press("Escape")
    assert tab.run(f"{ACTIVE}.className") == "head"
    assert tab.run("document.querySelector('.menu').hidden")
    tab.press("/")
    reached = tabbed(tab)
    for name in ("choose", "filter", "clear", "card", "more"):
        assert name in reached, reached


SMALL = """Array.from(document.querySelectorAll(
    'button, input:not([type=radio], [type=checkbox]), select, label.check, summary, .card'))
    .filter(e => e.offsetParent).map(e => [e.className || e.id || e.textContent,
        e.getBoundingClientRect().width, e.getBoundingClientRect().height])
    .filter(([name, width, height]) => width < 44 || height < 44)"""


def test_a_phone_shows_one_column_and_all_of_it(tab, served):
    tab.touch(True)
    try:
        address = "?q=red&part=text:1.5:a+bar+of+some+length&where=price%3C90"
        opened(tab, served.url + address, width=360, height=740)
        assert tab.overflow() == 0
        left = tab.run(f"new Set({CARDS}.map(e => e.getBoundingClientRect().left)).size")
        assert left == 1 and tab.run(f"{CARDS}[0].offsetWidth") > 300
        tab.tap(".chip .head")
        tab.wait("!document.querySelector('.menu').hidden")
        assert tab.overflow() == 0 and tab.run(SMALL) == []
        assert tab.run("document.querySelector('#photo').offsetWidth") > 44  # its camera
        assert tab.run("document.querySelector('#camera').getAttribute('capture')") == "environment"
        tab.tap(".card")
        tab.wait(f"{OPEN} && document.querySelector('.told')")
        assert tab.overflow() == 0 and tab.run(SMALL) == []
        panel = "document.querySelector('#panel')"
        assert tab.run(f"{panel}.scrollWidth <= {panel}.clientWidth && {panel}.clientWidth") == 360
        tab.tap("#panel .close")
        tab.wait(f"!{OPEN}")
    finally:
        tab.touch(False)


CONTRAST = """(() => {
    const parse = c => c.match(/[\\d.]+/g).map(Number);
    const over = ([r, g, b, a = 1], [R, G, B]) =>
        [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)];
    const light = rgb => {
        const [r, g, b] = rgb.map(v => v / 255).map(
            v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b;
    };
    const behind = e => {
        if (!e) return parse(getComputedStyle(document.body).backgroundColor);
        const own = parse(getComputedStyle(e).backgroundColor);
        return own[3] === 0 ? behind(e.parentElement) : over(own, behind(e.parentElement));
    };
    const found = [];
    for (const e of document.querySelectorAll('body *')) {
        const own = Array.from(e.childNodes).some(n => n.nodeType === 3 && n.data.trim());
        const field = e.matches('input[type=search], input[type=text], input[type=number]');
        if (!(own || field) || !e.offsetParent) continue;
        const inks = [getComputedStyle(e).color];
        if (field) inks.push(getComputedStyle(e, '::placeholder').color);
        for (const ink of inks) {
            const ground = behind(e);
            const [a, b] = [light(over(parse(ink), ground)), light(ground)];
            const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
            found.push([ratio, e.textContent.slice(0, 40)]);
        }
    }
    return found.sort((a, b) => a[0] - b[0]);
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_words_can_be_read_by_day_and_by_night(tab, served, scheme):
    tab.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    try:
        opened(tab, served.url + "?q=red&part=text:-1:bar&part=text:1:circle&where=colour%3Dred")
        tab.run("document.querySelector('.head').click()")
        paper = tab.run("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(16, 19, 24)"}[scheme]
        found = tab.run(CONTRAST)
        assert len(found) > 60 and found[0][0] >= 4.5, found[:5]
        tab.click(".card")
        tab.wait("document.querySelector('.told')")
        found = tab.run(CONTRAST)
        assert len(found) > 60 and found[0][0] >= 4.5, found[:5]
        moving = "getComputedStyle(document.querySelector('#results')).transitionProperty"
        assert tab.run(moving) == "none"
    finally:
        tab.prefer()


# --- what goes wrong -----------------------------------------------------------------------------


def test_nothing_in_an_index_becomes_code_or_breaks_the_page(browser):
    with site(InMemory(HOSTILE, name="<b>" + WORD)) as served:
        opened(browser, served.url, width=360)
        assert browser.run(f"{CARDS}.length") == len(HOSTILE)
        assert browser.overflow() == 0
        browser.click("#filter")
        assert browser.overflow() == 0
        click_on(browser, ".value", "أحمر")
        browser.wait(f"{STATUS} === '1 item'")
        browser.click("#clear")
        browser.wait(f"{STATUS} === '{len(HOSTILE)} items'")
        for item in HOSTILE:
            place = [one.key for one in HOSTILE].index(item.key) + 1
            browser.click(f"#results li:nth-child({place}) .card")
            browser.wait(f"{OPEN} && document.querySelector('.told')")
            told = browser.run("document.querySelector('#panel').textContent")
            assert item.key in told
            assert all(text in told for texts in item.texts.values() for text in texts)
            assert browser.overflow() == 0
            panel = "document.querySelector('#panel')"
            assert browser.run(f"{panel}.scrollWidth <= {panel}.clientWidth"), item.key
            browser.press("Escape")
            browser.wait(f"!{OPEN} && !location.search.includes('open')")
        browser.focus("#words")
        browser.type("<script>hit=1</script>" + WORD + "\u202e")
        browser.wait(f"{STATUS}.includes('<script>')")
        browser.click("#keep")
        browser.wait("document.querySelector('.chip')")
        assert browser.overflow() == 0
        foreign = "document.querySelectorAll('main script, main b, main u, .panel script').length"
        assert browser.run(foreign) == 0 and browser.run("window.hit") is None
        cut = browser.run("document.querySelector('.card[data-key=caption]').textContent.length")
        assert cut < 600
        assert not browser.errors
        assert_own(browser, served)


def test_an_empty_index_says_so(browser, tmp_path):
    with Index.create(tmp_path / "nothing", made()) as index, site(index) as served:
        opened(browser, served.url)
        assert browser.run(STATUS) == "This index is empty so far"
        browser.focus("#words")
        browser.type("dog")
        browser.wait(f"{STATUS}.includes('Nothing was found for “dog”')")
        assert browser.run("document.querySelector('#more').hidden") and not browser.errors


def test_what_goes_wrong_is_told_in_a_sentence(browser, index):
    with site(index) as served:
        opened(browser, served.url)
        served.failing = {"/search", "/item"}
        browser.focus("#words")
        browser.type("red")
        browser.wait(PROBLEM)
        assert browser.run(PROBLEM) == "The server could not answer (status 500)."
        assert browser.run("document.querySelector('#problem').getAttribute('role')") == "alert"
        served.failing = {"/item"}
        browser.type("s")
        browser.wait(f"!{PROBLEM} && {CARDS}.length")  # a problem goes with its cause
        browser.click(".card")
        browser.wait("document.querySelector('#panel .problem')")
        assert browser.run(f"{ACTIVE}.id") == "panel-title"
        browser.press("Escape")
        browser.wait(f"!{OPEN}")
        opened(browser, served.url + "?open=nobody")
        served.failing = set()
        browser.wait("document.querySelector('#panel .problem')")
        browser.press("Escape")
        browser.wait(f"!{OPEN} && location.search === ''")
    browser.focus("#words")
    browser.type("x")
    browser.wait(PROBLEM)  # nobody is there any more
    assert browser.run(PROBLEM) == "The server can't be reached. Is it still running?"
    assert not any("exception" in error for error in browser.errors)


def test_a_token_comes_with_the_address_or_is_asked_for(browser, index):
    token = "a token of some length".replace(" ", "-")
    with site(index, token=token) as served:
        opened(browser, f"{served.url}#token={token}")
        assert browser.run("location.hash") == ""  # in no history and no shared link
        browser.wait(f"{CARDS}[0].querySelector('img').naturalWidth > 0")
        assert browser.run(f"{CARDS}[0].querySelector('img').src").startswith("blob:")
        browser.wait("document.querySelectorAll('.card img[src]').length > 3")
        assert len(served.bodies("/image")) < 48  # those that are about to be seen
        assert not browser.errors and token not in "".join(browser.requests)
        browser.run("sessionStorage.clear()")
        browser.open("about:blank")
        browser.open(served.url)
        browser.wait("!document.querySelector('#login').hidden")
        assert browser.run(f"{ACTIVE}.id") == "token" and "token" in browser.run(PROBLEM)
        for words, works in (("wrong", False), (token, True)):
            served.asked = []
            browser.wait(f"{ACTIVE}.id === 'token'")
            browser.type(words)
            browser.press("Enter")
            browser.wait(f"{CARDS}.length" if works else f"{ACTIVE}.id === 'token' && {PROBLEM}")
            served.wait("/about")
        browser.wait("document.querySelector('#login').hidden && document.title === 'shapes'")
        assert browser.run(PROBLEM) == ""
        browser.run("sessionStorage.clear()")
        browser.run(f"location.hash = 'token={token}'")  # pasted into a tab that is open
        browser.wait("location.hash === '' && sessionStorage.length === 1")
        assert not any("exception" in error for error in browser.errors)
