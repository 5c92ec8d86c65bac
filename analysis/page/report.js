// Tables of class "sortable" are sorted by a click on a header and filtered by words. Without this script
// they are plain tables. A cell's number is in data-value; cells without one sort as text, empty ones last.
"use strict";

const valueOf = (row, column) => {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  return text === "" || text === "–" ? null : "value" in cell.dataset ? Number(text) : text;
};

const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));

function sort(table, header, descending) {
  const rows = [...table.tBodies[0].rows];
  const keys = new Map(rows.map((row) => [row, valueOf(row, header.cellIndex)]));
  rows.sort((first, second) => {
    const [a, b] = [keys.get(first), keys.get(second)];
    if (a === null || b === null) return (a === null) - (b === null);
    return descending ? compare(b, a) : compare(a, b);
  });
  table.tBodies[0].append(...rows);
  for (const one of table.tHead.rows[0].cells) one.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
}

function filter(table, words, count) {
  const rows = [...table.tBodies[0].rows];
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
  count.textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows` : "";
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const before = header.getAttribute("aria-sort");
      const first = header.classList.contains("n"); // of numbers the largest first
      sort(table, header, before ? before === "ascending" : first);
    });
  }
  const field = document.createElement("input");
  const count = document.createElement("span");
  field.type = "search";
  field.placeholder = "Filter rows";
  field.setAttribute("aria-label", `Filter the rows of the table: ${table.getAttribute("aria-label")}`);
  count.setAttribute("role", "status");
  field.addEventListener("input", () => filter(table, field.value.toLowerCase().split(/\s+/).filter(Boolean), count));
  const bar = document.createElement("p");
  bar.className = "filter";
  bar.append(field, " ", count);
  table.parentElement.before(bar);
}
