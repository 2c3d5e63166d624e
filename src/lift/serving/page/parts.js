// The parts of a query as chips. A chip opens to what can be done with it: less, more, not, remove.

import { showPicture } from "./api.js";
import { button, make, shortened } from "./dom.js";
import { step } from "./query.js";

const chips = new WeakMap(); // by list: a map from the id of a part to its chip
let open = 0; // the id of the part whose chip is open

const times = ({ amount }) => (amount === 1 ? "" : ` ×${amount}`);

function spoken(part) {
  const what = { text: "text", image: "picture", item: "item" }[part.kind];
  return `${part.not ? "not " : ""}${what} ${shortened(part.label, 80)}${times(part)}`;
}

function created(part, act) {
  const name = make("span", { class: "name", dir: "auto" });
  const amount = make("span", { class: "amount" });
  const face = [name, amount];
  if (part.kind !== "text") {
    const img = make("img", { alt: "", width: 32, height: 32, draggable: "false" });
    img.addEventListener("error", () => img.remove());
    if (part.kind === "image") img.src = part.value;
    else showPicture(img, part.value);
    face.unshift(img);
  }
  const head = make("button", { type: "button", class: "head" }, ...face);
  const less = button("Less", () => act("less"));
  const more = button("More", () => act("more"));
  const not = button("Not", () => act("not"));
  const remove = button("Remove", () => act("remove"), { class: "remove" });
  const menu = make("span", { class: "menu" }, less, more, not, remove);
  const chip = make("li", { class: `chip ${part.kind}` }, head, menu);
  return { chip, head, name, amount, less, more, not, remove, menu };
}

function update(made, part) {
  const { chip, head, name, amount, less, more, not, remove, menu } = made;
  chip.classList.toggle("unwanted", part.not);
  name.textContent = (part.not ? "not " : "") + shortened(part.label, 60);
  amount.textContent = times(part);
  head.setAttribute("aria-label", `${spoken(part)}: change`);
  head.setAttribute("aria-expanded", String(part.id === open));
  remove.setAttribute("aria-label", `Remove ${spoken(part)}`);
  menu.hidden = part.id !== open;
  // not `disabled`, which would take the keyboard away from who is pressing it
  less.setAttribute("aria-disabled", String(step(part.amount, -1) === null));
  more.setAttribute("aria-disabled", String(step(part.amount, 1) === null));
  not.setAttribute("aria-pressed", String(part.not));
}

// Show the parts in a list; changed(parts, removed) is called with what they have become.
export function showParts(list, parts, changed) {
  const known = chips.get(list) ?? new Map();
  const next = new Map();
  const redraw = () => parts.forEach((part) => update(next.get(part.id), part));
  for (const part of parts) {
    const made = known.get(part.id) ?? created(part, (what) => made.act(what));
    made.act = (what) => changed(applied(parts, part, what), what === "remove");
    made.head.onclick = () => {
      open = open === part.id ? 0 : part.id;
      redraw();
    };
    made.chip.onkeydown = (event) => {
      if (event.key !== "Escape" || open !== part.id) return;
      event.stopPropagation();
      open = 0;
      redraw();
      made.head.focus();
    };
    next.set(part.id, made);
  }
  for (const [id, { chip }] of known) if (!next.has(id)) chip.remove();
  parts.forEach((part, at) => {
    const { chip } = next.get(part.id);
    if (list.children[at] !== chip) list.insertBefore(chip, list.children[at] ?? null);
  });
  list.hidden = parts.length === 0;
  chips.set(list, next);
  redraw();
}

function applied(parts, part, what) {
  if (what === "remove") return parts.filter((one) => one !== part);
  const other = { ...part };
  if (what === "not") other.not = !part.not;
  if (what === "more") other.amount = step(part.amount, 1) ?? part.amount;
  if (what === "less") other.amount = step(part.amount, -1) ?? part.amount;
  return parts.map((one) => (one === part ? other : one));
}
