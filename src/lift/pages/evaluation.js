"use strict";
// What the page does beyond being read: tables sort by a column, items are filtered.
(() => {
  const all = (root, selector) => Array.from(root.querySelectorAll(selector));

  // A cell's value: what the page put beside it, else its text as a number, else its text.
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return cell.dataset.value;
    return cell.textContent.trim();
  };
  const numberOf = (text) => (text === "" ? NaN : Number.parseFloat(text.replace(/[,%+]/g, "")));

  const sort = (table, heading, down) => {
    const column = heading.cellIndex, body = table.tBodies[0];
    const numbers = heading.dataset.sort === "number";
    const rows = Array.from(body.rows).map((row) => {
      const text = valueOf(row, column);
      return { row, text, number: numberOf(text) };
    });
    rows.sort((one, other) => {
      if (!numbers) return (down ? -1 : 1) * one.text.localeCompare(other.text);
      const missing = Number.isNaN(one.number) - Number.isNaN(other.number);
      if (missing || Number.isNaN(one.number)) return missing; // last, whichever way
      return (down ? -1 : 1) * (one.number - other.number);
    });
    body.append(...rows.map((found) => found.row));
  };

  for (const table of all(document, "table.sortable")) {
    const headings = all(table, "thead th[data-sort]");
    for (const heading of headings) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      heading.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const before = heading.getAttribute("aria-sort");
        const first = heading.dataset.sort === "number" ? "descending" : "ascending";
        const other = first === "descending" ? "ascending" : "descending";
        const now = before === first ? other : first;
        for (const one of headings) one.setAttribute("aria-sort", one === heading ? now : "none");
        sort(table, heading, now === "descending");
      });
    }
  }

  for (const browser of all(document, ".browser")) {
    const filters = browser.querySelector(".filters");
    const buttons = all(filters, "button"), items = all(browser, ".item");
    const status = filters.querySelector("[role=status]");
    filters.hidden = false;
    for (const button of buttons) {
      button.addEventListener("click", () => {
        const show = button.dataset.show;
        for (const one of buttons) one.setAttribute("aria-pressed", String(one === button));
        for (const item of items) {
          item.hidden = show !== "" && !item.dataset.shows.split(" ").includes(show);
        }
        const left = items.filter((item) => !item.hidden).length;
        status.textContent = `${left} of ${items.length} items shown`;
      });
    }
    for (const item of items) {
      item.addEventListener("keydown", (event) => {
        if (event.key !== "Escape" || !item.open) return;
        item.open = false;
        item.querySelector("summary").focus();
      });
    }
  }
})();
