// The page as a whole: what is asked, when it is sent, and what is shown of the answer.

import { address, empty, keep, read, signature } from "./address.js";
import { get, post, takeToken } from "./api.js";
import { counted, find, isTyping, shortened } from "./dom.js";
import { showFilters } from "./filters.js";
import { Latest } from "./latest.js";
import { askForToken, onToken } from "./login.js";
import { Panel } from "./panel.js";
import { showParts } from "./parts.js";
import { takePictures } from "./pictures.js";
import { MOST_PARTS, canEdit, isEmpty, isWanting, part, request } from "./query.js";
import { Results } from "./results.js";
import { count as conditions } from "./where.js";

const PAGE = 48; // results at a time
const MOST = 960; // results of one query; the server gives 1,000
const WAIT = 140; // milliseconds between the last key and the request
const SETTLED = 400;
const WAIT_WITH_PICTURES = 400; // which are sent with every request

const on = (selector, event, listener) => find(selector).addEventListener(event, listener);

let state = empty();
let typing = false; // the present entry of the history is of words being typed
let settling = 0; // the timer until that entry has the words as they are
let top = PAGE;
let browsed = 0; // items asked for so far, without a query
let focusFrom = -1; // the card that gets the keyboard when more of them are there
let about = null;
let drawFilters = () => {};

const searching = new Latest();
const browsing = new Latest();

const results = new Results(find("#results"), {
  href: (key) => address(state, key),
  opened: (key) => open(key),
  left: () => find("#words").focus(),
});

const panel = new Panel(find("#panel"), () => about, {
  similar: (item) => {
    replace({ ...empty(), kinds: state.kinds, parts: [itemPart(item)] });
  },
  add: (item, not) => replace({ ...state, parts: [...state.parts, itemPart(item, not)] }),
  closed,
});

const itemPart = (item, not = false) =>
  part("item", item.key, { label: item.title || item.key, not });

const isBrowsing = () => !isWanting(state);

const edits = () => about?.edits !== false; // as long as nobody has said no

// --- what is asked -------------------------------------------------------------------------------

// Take another state, as an entry of the history that Back returns from, and answer it. While
// words are typed there is one entry for all of them.
function change(next, { byTyping = false, delay = 0 } = {}) {
  if (next.parts.length > MOST_PARTS - 1) return tell(`A query has at most ${MOST_PARTS} parts.`);
  if (byTyping && typing) {
    clearTimeout(settling); // browsers refuse a history that changes with every key
    settling = setTimeout(settle, SETTLED);
    state = next;
  } else {
    settle();
    state = { ...next, open: "" };
    keep(state, { push: true });
  }
  typing = byTyping;
  top = PAGE;
  draw();
  answer(delay);
}

// What was typed last is in the history before anything else is.
function settle() {
  if (settling) keep(state);
  clearTimeout(settling);
  settling = 0;
}

// The same from inside the panel, which closes; the keyboard goes to the results.
function replace(next) {
  state.open = "";
  panel.close();
  find("#results").focus();
  scrollTo(0, 0);
  change(next);
}

// Show what is asked in all controls.
function draw() {
  const words = find("#words");
  if (words.value.trim() !== state.text.trim()) words.value = state.text;
  showParts(find("#parts"), state.parts, (parts, removed) => {
    change({ ...state, parts });
    if (removed) words.focus();
  });
  find("#keep").hidden = state.text.trim() === "";
  find("#edit").hidden = !edits() || !canEdit(state);
  find("#editing").checked = state.edit;
  find(`#kinds [value=${state.kinds}]`).checked = true;
  find("#kinds").disabled = isBrowsing(); // which shows all items
  find("#clear").hidden = isEmpty(state) && !state.where;
  const filters = conditions(state.where);
  find("#filter").textContent = filters ? `Filter (${filters})` : "Filter";
  drawFilters();
  const lost = !isEmpty(state) && !isWanting(state);
  find("#hint").hidden = !lost;
  find("#hint").textContent = lost
    ? "Add what you look for: so far there is only what is not."
    : "";
}

// --- the answer ----------------------------------------------------------------------------------

const tell = (sentence) => (find("#problem").textContent = sentence);

function say(words) {
  find("#status").textContent = words;
}

function failed(error) {
  find("#results").removeAttribute("aria-busy");
  results.show([]);
  find("#more").hidden = true;
  say("");
  tell(error.message);
  if (error.status === 401) askForToken();
}

function answer(delay = 0) {
  searching.stop();
  browsing.stop();
  find("#results").setAttribute("aria-busy", "true");
  if (isBrowsing()) return browse(0, delay);
  const pictures = state.parts.some((one) => one.kind === "image");
  const labels = state.parts.map(({ label, not }) => (not ? `not ${label}` : label));
  const asked = [state.text.trim(), ...labels].filter(Boolean).join(", ");
  const { path, body } = request(state, top, edits());
  searching.begin((signal) => post(path, body, signal), {
    delay: delay && pictures ? WAIT_WITH_PICTURES : delay,
    done: ({ hits, seconds }) => {
      shown(hits, false);
      find("#more").hidden = hits.length < top || top >= MOST;
      const found = hits.length ? counted(hits.length, "result") : "Nothing was found";
      const best = hits.length < top ? "" : "The best ";
      const time = typeof seconds === "number" ? ` in ${seconds.toFixed(3)} s` : "";
      say(`${best}${found} for “${shortened(asked, 80)}”${time}`);
    },
    failed,
  });
}

function browse(start, delay = 0) {
  const fields = { start, count: PAGE, where: state.where.trim() };
  browsing.begin((signal) => get("items", fields, signal), {
    delay,
    done: (found) => {
      browsed = start + found.items.length;
      shown(found.items, start > 0);
      // with a filter, not every index knows the total
      const isAll = browsed >= found.total && !(state.where && found.items.length === PAGE);
      find("#more").hidden = isAll || !found.items.length;
      const none = state.where ? "No item meets this filter" : "This index is empty so far";
      const of = isAll ? "" : ` of ${counted(Math.max(found.total, browsed), "item")}`;
      say(browsed ? counted(browsed, "item") + of : none);
      // an answer that doesn't fill the window leaves nothing to scroll, so the end stays in sight
      if (!find("#more").hidden) watchEnd();
    },
    failed: (error) => {
      if (start === 0) return failed(error);
      find("#results").removeAttribute("aria-busy");
      find("#more").hidden = false; // what is there stays, and more can be asked for again
      tell(error.message);
    },
  });
}

function shown(items, add) {
  find("#results").removeAttribute("aria-busy");
  tell("");
  results.show(items, { add });
  if (focusFrom >= 0) results.focus(focusFrom);
  focusFrom = -1;
}

function more() {
  if (find("#more").hidden) return;
  focusFrom = document.activeElement === find("#more") ? results.count : -1;
  find("#more").hidden = true; // until there is an answer
  if (isBrowsing()) return browse(browsed);
  top = Math.min(MOST, 2 * top);
  answer();
}

// Browsing goes on by itself when the end comes near; a search goes on when it is told to.
const end = new IntersectionObserver(
  ([{ isIntersecting }]) => {
    if (isIntersecting && isBrowsing()) more();
  },
  { rootMargin: "800px" },
);

function watchEnd() {
  end.disconnect();
  end.observe(find("#end"));
}

// --- the panel -----------------------------------------------------------------------------------

// What the place in a picture is asked for at first: the words that were searched for.
const firstWords = () =>
  state.text.trim() || (state.parts.find((one) => one.kind === "text" && !one.not)?.value ?? "");

function open(key) {
  settle();
  state.open = key;
  typing = false;
  keep(state, { push: true, overlay: true });
  panel.open(key, firstWords());
}

// Closed by Escape, a click or Back: the address says so, and the keyboard returns to the card.
function closed() {
  const key = state.open;
  if (!key) return; // something else is shown already
  state.open = "";
  if (history.state?.overlay) history.back();
  else keep(state);
  results.focusOn(key);
}

// --- what people do ------------------------------------------------------------------------------

on("#search", "submit", (event) => {
  event.preventDefault();
  if (event.submitter) return;
  settle();
  typing = false; // what is typed next is another entry of the history
  if (matchMedia("(pointer: coarse)").matches) find("#words").blur(); // its keyboard goes
  answer();
});
on("#words", "input", () =>
  change({ ...state, text: find("#words").value }, { byTyping: true, delay: WAIT }),
);
on("#words", "keydown", (event) => {
  if (event.key === "ArrowDown" && results.focus()) event.preventDefault();
  const ends = event.key === "Backspace" && !event.repeat && !find("#words").value;
  if (ends && state.parts.length) change({ ...state, parts: state.parts.slice(0, -1) });
});
on("#keep", "click", () => {
  const parts = [...state.parts, part("text", state.text.trim())];
  find("#words").focus();
  change({ ...state, parts, text: "" });
});
on("#kinds", "change", (event) => change({ ...state, kinds: event.target.value }));
on("#editing", "change", (event) => change({ ...state, edit: event.target.checked }));
on("#clear", "click", () => {
  find("#words").focus();
  change({ ...empty(), kinds: state.kinds });
});
on("#filter", "click", () => showFilter(find("#filters").hidden));
on("#more", "click", more);
on("#filters", "keydown", (event) => {
  if (event.key !== "Enter" || !event.target.matches("input")) return;
  event.preventDefault(); // the field's own change, and not the search, is what is meant
  event.target.dispatchEvent(new Event("change"));
});

function showFilter(isShown) {
  find("#filters").hidden = !isShown;
  find("#filter").setAttribute("aria-expanded", String(isShown));
}

document.addEventListener("keydown", (event) => {
  const bare = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (event.key === "/" && bare && !isTyping(event.target) && !panel.isOpen) {
    event.preventDefault();
    find("#words").focus();
    find("#words").select();
  }
});

takePictures({
  inputs: [
    [find("#choose"), find("#file")],
    [find("#photo"), find("#camera")],
  ],
  drop: find("#drop"),
  added: ({ name, url }) => {
    if (panel.isOpen) {
      state.open = "";
      panel.close();
    }
    tell("");
    change({ ...state, parts: [...state.parts, part("image", url, { label: name })] });
  },
  failed: (error) => tell(error.message),
});

// Back and forward. Where only the panel was opened or closed, the results stay.
addEventListener("popstate", () => {
  const before = signature(state);
  clearTimeout(settling);
  settling = 0;
  state = read();
  typing = false;
  const same = signature(state) === before;
  const key = state.open;
  if (!key) panel.close();
  draw();
  if (!same) {
    top = PAGE;
    answer();
  }
  if (key) panel.open(key, firstWords());
});

// --- the start -----------------------------------------------------------------------------------

async function start() {
  draw();
  answer();
  if (state.open) panel.open(state.open, firstWords());
  try {
    about = await get("about");
    draw();
    if (state.edit && !edits()) answer(); // a link from an index that could
    document.title = about.name;
    find("#name").textContent = about.name;
    find("#size").textContent = counted(about.items, "item");
    find("#model").textContent = [about.model, about.space.name].join(" · ");
    const facts = await get("facts");
    const filtered = (where) => where !== state.where && change({ ...state, where });
    drawFilters = showFilters(find("#filters"), facts, () => state.where, filtered);
    find("#filter").hidden = false;
    if (state.where) showFilter(true);
  } catch (error) {
    if (error.status !== 401) tell(error.message);
  }
}

onToken(start);
new ResizeObserver(([{ target }]) => {
  document.documentElement.style.setProperty("--header", `${target.offsetHeight}px`);
}).observe(find("header"));
on(".skip", "click", (event) => {
  event.preventDefault(); // an entry of the history without what is asked
  if (!results.focus()) find("#results").focus();
});

takeToken();
state = read();
start();
