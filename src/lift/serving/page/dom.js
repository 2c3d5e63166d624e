// Elements from data. Text goes in as text, never as markup, so nothing in an index can become code.

export const find = (selector, root = document) => root.querySelector(selector);

// make("button", { class: "quiet", type: "button", onclick: f }, "Words", other): names that begin
// with "on" are listeners, the others attributes; true is an attribute without value, and what is
// false, null or undefined is left out. In ARIA's attributes true and false are words.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-")) element.setAttribute(name, String(value));
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const button = (words, onclick, attributes = {}) =>
  make("button", { type: "button", onclick, ...attributes }, words);

// A text of unknown length and direction, cut between characters and not within one.
export function shortened(text, most) {
  if (text.length <= most) return text;
  const characters = Array.from(text.slice(0, 2 * most));
  return characters.length > most ? `${characters.slice(0, most).join("").trimEnd()}…` : text;
}

const NUMBERS = new Intl.NumberFormat("en");
export const counted = (n, one, many = `${one}s`) => `${NUMBERS.format(n)} ${n === 1 ? one : many}`;

// A fact as people read it.
export function readable(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return String(Math.round(value * 1e6) / 1e6);
  return String(value);
}

// True where keys belong to a field that is being filled in.
export function isTyping(target) {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable ||
      target.matches("textarea, select, input:not([type=checkbox], [type=radio], [type=file])"))
  );
}
