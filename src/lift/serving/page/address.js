// What is asked, as the address of the page: a link can be shared, a reload finds it again, and
// Back goes back. Pictures are too large for an address; they live as long as the tab, and the
// entry of the history says which.

import { MOST_PARTS, isWeight, part } from "./query.js";

const KINDS = ["both", "image", "text"];
const LONGEST = 4000;
const pictures = new Map(); // by the id of the part

export const empty = () => ({
  text: "",
  parts: [],
  where: "",
  kinds: "both",
  edit: false,
  open: "",
});

const cut = (text) => (text ?? "").slice(0, LONGEST);

// "text:1.5:night", "item:-1:key"
function written({ kind, value, amount, not }) {
  return `${kind}:${not ? "-" : ""}${amount}:${value}`;
}

function understood(word, titles) {
  const found = /^(text|item):(-?)([\d.]+):([^]+)$/.exec(word);
  if (!found || !isWeight(Number(found[3]))) return null;
  const [, kind, sign, amount, value] = found;
  const label = (kind === "item" && titles.get(value)) || cut(value);
  return part(kind, cut(value), { label, amount: Number(amount), not: sign === "-" });
}

export function read() {
  const fields = new URLSearchParams(location.search);
  const state = empty();
  state.text = cut(fields.get("q"));
  state.where = cut(fields.get("where"));
  state.kinds = KINDS.includes(fields.get("kinds")) ? fields.get("kinds") : "both";
  state.edit = fields.has("edit");
  state.open = cut(fields.get("open"));
  const titles = new Map(history.state?.titles);
  const parts = fields.getAll("part").map((word) => understood(word, titles));
  state.parts = parts.filter(Boolean);
  for (const { at, id, amount, not } of history.state?.pictures ?? []) {
    const known = pictures.get(id);
    if (known) state.parts.splice(at, 0, part("image", known.value, { ...known, id, amount, not }));
  }
  state.parts = state.parts.slice(0, MOST_PARTS - 1);
  return state;
}

// The address of a state; `open` in place of its own for a link to an item.
export function address(state, open = state.open) {
  const fields = new URLSearchParams();
  if (state.text.trim()) fields.set("q", state.text.trim());
  for (const one of state.parts) if (one.kind !== "image") fields.append("part", written(one));
  if (state.where.trim()) fields.set("where", state.where.trim());
  if (state.kinds !== "both") fields.set("kinds", state.kinds);
  if (state.edit) fields.set("edit", "1");
  if (open) fields.set("open", open);
  const query = fields.toString();
  return location.pathname + (query && `?${query}`);
}

// What two states have in common that ask the same, whatever item is open.
export const signature = (one) => {
  const pictures = one.parts.filter(({ kind }) => kind === "image");
  return JSON.stringify([
    address(one, ""),
    pictures.map(({ id, amount, not }) => [id, amount, not]),
  ]);
};

// Keep a state in the history, in a new entry or in place of the present one. `about` is kept with
// it and found in history.state.
export function keep(state, { push = false, ...about } = {}) {
  const shown = [];
  state.parts.forEach(({ kind, value, label, id, amount, not }, at) => {
    if (kind !== "image") return;
    pictures.set(id, { value, label });
    shown.push({ at, id, amount, not });
  });
  const items = state.parts.filter(({ kind }) => kind === "item");
  const titles = items.map(({ value, label }) => [value, label]);
  const entry = { pictures: shown, titles, ...about };
  if (push) history.pushState(entry, "", address(state));
  else history.replaceState(entry, "", address(state));
}
