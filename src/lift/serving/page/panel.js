// One item, large: its pictures, texts and facts, where a text is in the picture, what it is like.

import { get, post, showPicture } from "./api.js";
import { button, counted, make, readable, shortened } from "./dom.js";
import { drawHeat } from "./heat.js";
import { Latest } from "./latest.js";

const MOST_PICTURES = 24;
const NEAREST = 12;

// What can be asked about a picture: the route, what it is called, and its answer as lines.
const QUESTIONS = [
  ["labels", "Labels", "Phrases of this index that fit the picture"],
  ["explain", "Near words", "Words of a vocabulary that the picture is near"],
  ["describe", "Quoted captions", "Texts of other items, quoted, that fit the picture"],
];

const saysSo = (words) => make("p", { class: "problem", role: "alert" }, words);

export class Panel {
  #dialog;
  #about;
  #can;
  #loading = new Latest();
  #heating = new Latest();
  #item = null;

  // can: { similar(item), add(item, not), closed() }; about(): what the server says of its index.
  constructor(dialog, about, can) {
    this.#dialog = dialog;
    this.#about = about;
    this.#can = can;
    dialog.addEventListener("close", () => {
      if (dialog.open) return; // opened again meanwhile
      this.#loading.stop();
      this.#heating.stop();
      dialog.replaceChildren();
      can.closed();
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close(); // beside what it shows
    });
    dialog.addEventListener("keydown", (event) => this.#wrap(event));
  }

  get isOpen() {
    return this.#dialog.open;
  }

  close() {
    if (this.#dialog.open) this.#dialog.close();
  }

  // Show an item; `text` is what the place in the picture is asked for first.
  open(key, text) {
    const title = make("h2", { id: "panel-title", tabindex: "-1", dir: "auto" }, "Loading …");
    const body = make("div", { class: "panel-body", "aria-busy": "true" });
    const close = button("Close", () => this.close(), { class: "close" });
    this.#dialog.replaceChildren(make("div", { class: "panel-head" }, title, close), body);
    if (!this.#dialog.open) this.#dialog.showModal();
    title.focus();
    this.#heating.stop();
    this.#loading.begin((signal) => get("item", { key }, signal), {
      done: (item) => {
        this.#item = item;
        title.textContent = shortened(item.title || item.key, 200);
        body.removeAttribute("aria-busy");
        body.replaceChildren(...this.#pictures(item, text), this.#words(item));
      },
      failed: (error) => {
        title.textContent = "Not found";
        body.removeAttribute("aria-busy");
        body.replaceChildren(saysSo(error.message));
      },
    });
  }

  // The Tab key stays inside.
  #wrap(event) {
    if (event.key !== "Tab") return;
    const all = Array.from(
      this.#dialog.querySelectorAll("button, input, a[href], summary, [tabindex='0']"),
    ).filter((one) => one.offsetParent && !one.disabled);
    const at = all.indexOf(document.activeElement);
    const out = event.shiftKey ? at <= 0 : at === all.length - 1;
    if (!out || !all.length) return;
    event.preventDefault();
    all.at(event.shiftKey ? -1 : 0).focus();
  }

  #pictures(item, text) {
    if (!(item.images > 0)) return [];
    const img = make("img", { alt: item.title ? `Picture of ${item.title}` : "Picture" });
    const canvas = make("canvas", { class: "heat", hidden: true, "aria-hidden": "true" });
    const frame = make("div", { class: "frame" }, img, canvas);
    img.addEventListener("error", () => frame.replaceChildren("This picture can't be shown."));
    showPicture(img, item.key, 0);
    const column = make("div", { class: "pictures" }, frame);
    const heat = this.#about()?.dense ? this.#heat(item, canvas, text) : null;
    if (item.images > 1) column.append(this.#strip(item, img, heat));
    if (heat) column.append(heat.element);
    return [column];
  }

  // All pictures of an item; the heat is of the first one alone, which is what the server asks.
  #strip(item, img, heat) {
    const strip = make("div", { class: "strip", role: "group", "aria-label": "Pictures" });
    for (let number = 0; number < Math.min(item.images, MOST_PICTURES); number += 1) {
      const small = make("img", { alt: `Picture ${number + 1}` });
      const one = make("button", { type: "button", "aria-pressed": number === 0 }, small);
      one.addEventListener("click", () => {
        showPicture(img, item.key, number);
        for (const other of strip.children)
          other.setAttribute("aria-pressed", String(other === one));
        heat?.show(number === 0);
      });
      showPicture(small, item.key, number);
      strip.append(one);
    }
    return strip;
  }

  #heat(item, canvas, text) {
    const words = make("input", { id: "heat-text", type: "text", maxlength: 500, dir: "auto" });
    words.value = text;
    const said = make("p", { class: "small", role: "status" });
    const hide = button("Hide", () => {
      canvas.hidden = true;
      hide.hidden = true;
      said.textContent = "";
      words.focus();
    });
    hide.hidden = true;
    const show = make("button", { type: "submit" }, "Show");
    const label = make("label", { for: "heat-text" }, "Where in the picture?");
    const bar = make("div", { class: "bar" }, words, show, hide);
    const form = make("form", { class: "where-in" }, label, bar, said);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const asked = words.value.trim();
      if (!asked) return;
      said.textContent = "Looking …";
      this.#heating.begin((signal) => post("heatmap", { key: item.key, text: asked }, signal), {
        done: (answer) => {
          const found = drawHeat(canvas, answer);
          canvas.hidden = hide.hidden = !found;
          said.textContent = found
            ? `“${shortened(asked, 60)}”: from ${found.low.toFixed(2)} (dark) to ${found.high.toFixed(2)} (bright).`
            : "The answer of the server can't be drawn.";
        },
        failed: (error) => {
          canvas.hidden = hide.hidden = true;
          said.textContent = error.message;
        },
      });
    });
    const isShown = (shown) => {
      form.hidden = !shown;
      if (!shown) canvas.hidden = hide.hidden = true;
    };
    return { element: form, show: isShown };
  }

  #words(item) {
    const acts = make(
      "div",
      { class: "acts" },
      button("Similar", () => this.#can.similar(item), { class: "primary" }),
      button("Add to the query", () => this.#can.add(item, false)),
      button("Not like this", () => this.#can.add(item, true)),
    );
    const texts = Object.entries(item.texts ?? {}).flatMap(([field, all]) => [
      make("h3", { dir: "auto" }, shortened(field, 64)),
      ...all.map((text) => make("p", { class: "text", dir: "auto" }, text)),
    ]);
    const facts = Object.entries(item.facts ?? {}).flatMap(([name, value]) => [
      make("dt", { dir: "auto" }, shortened(name, 64)),
      make("dd", { dir: "auto" }, shortened(readable(value), 2000)),
    ]);
    const key = make("p", { class: "small mono", dir: "auto" }, shortened(item.key, 400));
    const questions = item.images > 0 ? QUESTIONS.map((one) => this.#question(item, ...one)) : [];
    const list = facts.length ? [make("dl", {}, ...facts)] : [];
    return make("div", { class: "told" }, acts, ...texts, ...list, ...questions, key);
  }

  // Answered when it is opened, once.
  #question(item, route, name, what) {
    const answer = make("div", { class: "answer" }, make("p", { class: "small" }, what));
    const details = make("details", { class: "question" }, make("summary", {}, name), answer);
    details.dataset.route = route;
    let asked = false;
    details.addEventListener("toggle", async () => {
      if (asked || !details.open) return;
      asked = true;
      answer.querySelector(".problem")?.remove();
      answer.setAttribute("aria-busy", "true");
      try {
        const found = await post(route, { key: item.key, top: NEAREST });
        answer.append(this.#lines(Object.values(found).find(Array.isArray) ?? []));
      } catch (error) {
        asked = false;
        answer.append(saysSo(error.message));
      }
      answer.removeAttribute("aria-busy");
    });
    return details;
  }

  #lines(all) {
    if (!all.length) return make("p", {}, "Nothing was found.");
    const lines = all.map((one) => {
      const text = make("span", { dir: "auto" }, shortened(one.text ?? one.word ?? "", 400));
      const told = [Number(one.cosine).toFixed(2)];
      if (one.texts > 1) told.push(counted(one.texts, "text"));
      return make("li", {}, text, make("span", { class: "small" }, told.join(" · ")));
    });
    return make("ol", { class: "lines" }, ...lines);
  }
}
