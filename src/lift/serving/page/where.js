// Filters in words: `colour=red|blue price<=20 title~"night sky"`. The words are what is kept, sent
// and shown; the controls of the page read them and rewrite the conditions that are theirs, and
// leave the others as they are.
//
// This reads and writes what `lift.search.filters` does: words are split as a shell splits them,
// what reads as a number is one, true and false are truths, and a text that looks like one of
// those, or like a text in quotes, stands in quotes.

const CONDITION = /^([^=!<>~]*)(!=|<=|>=|=|<|>|~)([^]*)$/;
const NUMBER = /^[+-]?(\d{1,15}(\.\d{0,15})?|\.\d{1,15})([eE][+-]?\d{1,2})?$/;

// The words as [raw, plain] each; null where quotes are not closed.
function split(words) {
  const found = [];
  let raw = "";
  let plain = "";
  let quote = "";
  for (let i = 0; i < words.length; i += 1) {
    const one = words[i];
    if (!quote && /[ \t\r\n]/.test(one)) {
      if (raw) found.push([raw, plain]);
      raw = plain = "";
      continue;
    }
    raw += one;
    if (one === "\\" && (quote === "" || (quote === '"' && /["\\]/.test(words[i + 1] ?? "")))) {
      i += 1;
      if (i === words.length) return null;
      raw += words[i];
      plain += words[i];
    } else if (quote ? one === quote : one === "'" || one === '"') quote = quote ? "" : one;
    else plain += one;
  }
  if (quote) return null;
  if (raw) found.push([raw, plain]);
  return found;
}

function valueOf(word) {
  if (word === "true" || word === "false") return word === "true";
  if (word.length > 1 && word.startsWith('"') && word.endsWith('"')) return word.slice(1, -1);
  return NUMBER.test(word) ? Number(word) : word;
}

// A value as a word, null where words can't say it: | parts values, and has no escape.
export function wordOf(value) {
  if (typeof value !== "string") return String(value);
  if (value.includes("|")) return null;
  return valueOf(value) === value ? value : `"${value}"`;
}

const quoted = (word) =>
  /^[\p{L}\p{N}_.,:@%+|/-]*$/u.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;

// The conditions as { raw, fact, operator, values }; null where the words can't be read.
function conditions(words) {
  const parts = split(words);
  return parts?.map(([raw, plain]) => {
    const [, fact, operator, rest] = CONDITION.exec(plain) ?? [];
    return { raw, fact: fact?.trim(), operator, values: rest?.split("|").map(valueOf) ?? [] };
  });
}

// The values that words ask of a fact with an operator, [] for none, null for unreadable words.
export function asked(words, fact, operator) {
  const found = conditions(words);
  if (!found) return null;
  const own = found.filter((one) => one.fact === fact && one.operator === operator);
  return own.flatMap((one) => one.values);
}

// The words with these values asked of a fact in place of others, without any for [].
export function ask(words, fact, operator, values) {
  const found = conditions(words) ?? [];
  const kept = found.filter((one) => one.fact !== fact || one.operator !== operator);
  const own = values.map(wordOf).filter((word) => word !== null);
  const raw = kept.map((one) => one.raw);
  if (own.length) raw.push(`${fact}${operator}${quoted(own.join("|"))}`);
  return raw.join(" ");
}

export const count = (words) => conditions(words)?.length ?? 1;
