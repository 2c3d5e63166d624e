// The results as cards in a grid: one stop of the Tab key, arrows within.

import { showPicture } from "./api.js";
import { make, readable, shortened } from "./dom.js";

const LONGEST_TITLE = 120;
const LONGEST_QUOTE = 280;
const MOST_FACTS = 4;

const FIELDS = { image: "picture" };

// What a hit says of itself: what was found, and how near it was.
function why(hit) {
  if (typeof hit.cosine !== "number") return "";
  const field = hit.kind === "image" ? FIELDS.image : hit.field || "text";
  return `${shortened(field, 24)} ${hit.cosine.toFixed(2)}`;
}

function created(item) {
  const picture = make("span", { class: "picture" });
  const quote = make("q", { class: "quote", dir: "auto" });
  const title = make("span", { class: "title", dir: "auto" });
  const score = make("span", { class: "why" });
  const facts = make("span", { class: "facts", dir: "auto" });
  const link = make(
    "a",
    { class: "card", draggable: "false", tabindex: "-1" },
    picture,
    make("span", { class: "words" }, title, quote, make("span", { class: "meta" }, score, facts)),
  );
  link.dataset.key = item.key;
  return { li: make("li", {}, link), link, picture, quote, title, score, facts, shown: "" };
}

function fill(card, hit, href) {
  card.link.href = href;
  const isText = hit.kind === "text";
  const number = hit.kind === "image" ? (hit.number ?? 0) : 0;
  const picture = hit.images > 0 ? `${number}` : "";
  if (picture !== card.shown) {
    card.shown = picture;
    const img = make("img", { alt: "", loading: "lazy", decoding: "async", draggable: "false" });
    img.addEventListener("error", () => img.remove()); // the title is there
    card.picture.replaceChildren(...(picture ? [img] : []));
    if (picture) showPicture(img, hit.key, number);
  }
  card.picture.hidden = !picture;
  const title = hit.title || (isText ? "" : hit.key);
  const text = isText && hit.text !== hit.title ? hit.text : "";
  card.link.classList.toggle("no-picture", !picture);
  card.title.textContent = shortened(title, picture ? LONGEST_TITLE : LONGEST_QUOTE);
  card.title.hidden = !title;
  card.quote.textContent = shortened(text, LONGEST_QUOTE);
  card.quote.hidden = !text;
  card.score.textContent = why(hit);
  card.score.hidden = !why(hit);
  const facts = Object.entries(hit.facts ?? {}).slice(0, MOST_FACTS);
  card.facts.textContent = facts
    .map(([name, value]) => `${shortened(name, 24)} ${shortened(readable(value), 32)}`)
    .join(" · ");
}

export class Results {
  #list;
  #href;
  #cards = new Map(); // by key, in the order shown

  // href(key): the address of an item; opened(key): it was clicked; left(): the keyboard goes up
  // and out of the grid.
  constructor(list, { href, opened, left }) {
    this.#list = list;
    this.#href = href;
    list.addEventListener("click", (event) => {
      const link = event.target.closest("a.card");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab
      event.preventDefault();
      opened(link.dataset.key);
    });
    list.addEventListener("focusin", (event) => this.#stopAt(event.target));
    list.addEventListener("keydown", (event) => this.#move(event, left));
  }

  get count() {
    return this.#cards.size;
  }

  // Show these; cards that stay keep their pictures, and the keyboard. With `add` after what is
  // there already.
  show(items, { add = false } = {}) {
    const had = document.activeElement?.dataset?.key;
    const before = this.#cards;
    const next = add ? new Map(before) : new Map();
    for (const item of items) {
      if (next.has(item.key)) continue;
      const card = before.get(item.key) ?? created(item);
      fill(card, item, this.#href(item.key));
      next.set(item.key, card);
    }
    this.#cards = next;
    const all = Array.from(next.values(), (card) => card.li);
    if (add) this.#list.append(...all.slice(before.size));
    else this.#list.replaceChildren(...all);
    this.#stopAt(next.get(had)?.link ?? this.#links.find((one) => one.tabIndex === 0));
    if (had && next.has(had)) next.get(had).link.focus({ preventScroll: true });
  }

  focus(at = 0) {
    const link = this.#links[at];
    link?.focus();
    return Boolean(link);
  }

  has(key) {
    return this.#cards.has(key);
  }

  focusOn(key) {
    this.#cards.get(key)?.link.focus();
  }

  get #links() {
    return Array.from(this.#cards.values(), (card) => card.link);
  }

  // Of all cards Tab reaches one: where the keyboard was last, else the first.
  #stopAt(link) {
    const links = this.#links;
    const stop = links.includes(link) ? link : links[0];
    for (const one of links) one.tabIndex = one === stop ? 0 : -1;
  }

  #move(event, left) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const links = this.#links;
    const at = links.indexOf(document.activeElement);
    if (at < 0) return;
    const top = links[0].offsetParent ? links[0].getBoundingClientRect().top : 0;
    const columns = links.filter((one) => one.getBoundingClientRect().top === top).length || 1;
    const rtl = getComputedStyle(this.#list).direction === "rtl" ? -1 : 1;
    const to = {
      ArrowRight: at + rtl,
      ArrowLeft: at - rtl,
      ArrowDown: at + columns < links.length ? at + columns : links.length - 1,
      ArrowUp: at - columns,
      Home: 0,
      End: links.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (to < 0 && event.key === "ArrowUp") left();
    else links[Math.min(Math.max(to, 0), links.length - 1)].focus();
  }
}
