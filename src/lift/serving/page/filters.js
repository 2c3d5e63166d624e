// Filters built from what the index knows of its items: values as buttons, numbers as ranges, and
// the words of the filter itself for whatever else.

import { button, make, readable, shortened } from "./dom.js";
import { ask, asked, wordOf } from "./where.js";

const SHOWN = 10; // values as buttons; further ones are in a list
const MOST_FACTS = 40;

function values(fact, range, words, changed) {
  const sayable = range.values.filter(([value]) => wordOf(value) !== null);
  const row = make("div", { class: "values" });
  const chosen = () => asked(words(), fact, "=") ?? [];
  const toggle = (value) => {
    const now = chosen();
    const others = now.filter((one) => one !== value);
    changed(ask(words(), fact, "=", others.length < now.length ? others : [...now, value]));
  };
  const known = new Map();
  const draw = () => {
    const now = chosen();
    const first = sayable.slice(0, SHOWN).map(([value]) => value);
    for (const value of [...first, ...now]) {
      if (known.has(value)) continue;
      const [, items] = sayable.find(([one]) => one === value) ?? [];
      const words = shortened(readable(value), 60) || "(empty)";
      const one = button("", () => toggle(value), { class: "value", dir: "auto" });
      one.append(words, make("span", { class: "small" }, items === undefined ? "" : ` ${items}`));
      known.set(value, one);
      row.insertBefore(one, more);
    }
    for (const [value, one] of known) one.setAttribute("aria-pressed", now.includes(value));
  };
  const rest = sayable.slice(SHOWN);
  const options = rest.map(([value, items], at) =>
    make("option", { value: at }, `${shortened(readable(value), 60)} (${items})`),
  );
  const more = make(
    "select",
    { "aria-label": `More values of ${fact}`, hidden: rest.length === 0 },
    make("option", { value: "" }, "More …"),
    ...options,
  );
  more.addEventListener("change", () => {
    if (more.value !== "") toggle(rest[Number(more.value)][0]);
    more.value = "";
  });
  row.append(more);
  draw();
  return { element: row, draw };
}

function range(fact, { low, high }, words, changed) {
  const field = (operator, name, placeholder) => {
    const input = make("input", {
      ...{ type: "number", step: "any", inputmode: "decimal" },
      ...{ placeholder: readable(placeholder), "aria-label": `${fact}, ${name}` },
    });
    input.addEventListener("change", () => {
      const number = input.value === "" ? [] : [Number(input.value)];
      changed(ask(words(), fact, operator, number));
    });
    const draw = () => {
      const [now] = asked(words(), fact, operator) ?? [];
      if (document.activeElement !== input) input.value = typeof now === "number" ? now : "";
    };
    return { input, draw };
  };
  const from = field(">=", "at least", low);
  const to = field("<=", "at most", high);
  const draw = () => [from, to].forEach((one) => one.draw());
  draw();
  return { element: make("div", { class: "range" }, from.input, "to", to.input), draw };
}

// Fill `root` with the controls of all facts. `words` returns the filter as it is, changed(words)
// takes another. Returns a function that shows what the filter has become.
export function showFilters(root, facts, words, changed) {
  const drawn = [];
  const blocks = [];
  for (const [fact, about] of Object.entries(facts).slice(0, MOST_FACTS)) {
    const controls = []; // of a fact that is a number here and a word there, both
    if (about.values?.length) controls.push(values(fact, about, words, changed));
    if (typeof about.low === "number") controls.push(range(fact, about, words, changed));
    if (!controls.length) continue;
    drawn.push(...controls.map((one) => one.draw));
    const name = make("legend", { dir: "auto" }, shortened(fact, 64));
    const elements = controls.map((one) => one.element);
    blocks.push(make("fieldset", { class: "fact" }, name, ...elements));
  }
  const raw = make("input", {
    ...{ id: "where", type: "text", maxlength: 4000, spellcheck: "false", dir: "auto" },
    ...{ placeholder: 'colour=red|blue price<20 title~"night sky"', enterkeyhint: "search" },
  });
  raw.addEventListener("change", () => changed(raw.value.trim()));
  const label = make("label", { for: "where" }, "Filter in words");
  root.replaceChildren(...blocks, make("div", { class: "fact raw" }, label, raw));
  const draw = () => {
    if (document.activeElement !== raw || raw.value.trim() === "") raw.value = words();
    drawn.forEach((one) => one());
  };
  draw();
  return draw;
}
