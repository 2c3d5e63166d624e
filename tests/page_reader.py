"""What tests of pages share: a hostile text, and a reader that sees tags out of order."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = '<script>alert("x")</script> & "quoted" \u202e'
VOID = {"meta", "br", "img", "hr", "link", "input", "path", "use", "rect", "line", "circle"}


class Balance(HTMLParser):
    """Collects what a page refers to and checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.images_without_words = 0

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self._note(tag, attrs)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self._note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open[-1] == tag, (tag, self.open[-5:])
            self.open.pop()

    def _note(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.references += [str(values[n]) for n in ("src", "href", "xlink:href") if n in values]
        if tag == "img" and "alt" not in values:
            self.images_without_words += 1


class Tables(Balance):
    """Collects ids, what is said, and the texts of the cells of tables, too."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.rows: list[list[str]] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        super().handle_starttag(tag, attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.said.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def _note(self, tag: str, attrs: list) -> None:
        super()._note(tag, attrs)
        self.ids += [value for name, value in attrs if name == "id"]
