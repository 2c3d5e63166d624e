// What a query is made of: parts with weights, and what is sent of them.
//
// A part is { id, kind: "text" | "image" | "item", value, label, amount, not }: its value is the
// text, a data URL, or the key of an item.

export const MOST_PARTS = 16; // with the words in the box; the server takes no more
const AMOUNTS = [0.25, 0.5, 1, 1.5, 2, 3];
const UNWANTED = -0.5; // what is not wanted pushes half as hard as what is wanted pulls

// A picture is near to others for reasons that no text speaks of, so a text beside one counts more
// (docs/search.md has the figures).
const BESIDE_A_PICTURE = 2;

let made = 0;

export function part(kind, value, { label = value, amount = 1, not = false, id = 0 } = {}) {
  made = Math.max(made + 1, id);
  return { id: id || made, kind, value, label, amount, not };
}

// More or less of a part, a step at a time; null at the end of the scale.
export function step(amount, by) {
  const place = AMOUNTS.findIndex((one) => one >= amount);
  return AMOUNTS[(place < 0 ? AMOUNTS.length - 1 : place) + by] ?? null;
}

export const isWeight = (amount) => AMOUNTS.includes(amount);

const weight = ({ amount, not, kind }, pictured) =>
  amount * (not ? UNWANTED : pictured && kind === "text" ? BESIDE_A_PICTURE : 1);

const words = (state) => state.text.trim();

// All parts, the words in the box among them.
function all(state) {
  const typed = words(state);
  return typed ? [...state.parts, part("text", typed)] : state.parts;
}

export const isEmpty = (state) => all(state).length === 0;

export const isWanting = (state) => all(state).some((one) => !one.not);

// "This picture, but ...": one picture and one text, both wanted.
export function canEdit(state) {
  const parts = all(state);
  const texts = parts.filter((one) => one.kind === "text");
  return parts.length === 2 && texts.length === 1 && parts.every((one) => !one.not);
}

// The path and body of the request for the best `top` items; `edits`: whether the index can edit.
export function request(state, top, edits) {
  const parts = all(state);
  const body = { top };
  if (state.where.trim()) body.where = state.where.trim();
  if (state.kinds !== "both") body.kinds = [state.kinds];
  const [only] = parts;
  if (parts.length === 1 && only.kind === "item" && !only.not)
    return { path: "similar", body: { key: only.value, ...body } }; // without the item itself
  const edit = edits && state.edit && canEdit(state);
  const pictured = parts.some((one) => one.kind !== "text" && !one.not);
  const query = parts.map((one) => ({
    [one.kind]: one.value,
    weight: edit ? 1 : weight(one, pictured),
  }));
  return { path: "search", body: { query, combine: edit ? "edit" : "sum", ...body } };
}
