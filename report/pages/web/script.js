"use strict";
// Theme, printed values, figures in full size, and tables that sort and filter. Without it the page still reads.

const root = document.documentElement;

// Theme: the system's until the reader chooses. Pages from a file may have no storage.
function stored(value) {
  try {
    if (value) localStorage.setItem("theme", value);
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
}

const system = matchMedia("(prefers-color-scheme: dark)");
const themeToggle = document.getElementById("theme-toggle");

function showTheme(theme) {
  root.dataset.theme = theme;
  themeToggle.textContent = theme === "dark" ? "Light" : "Dark";
}

const systemTheme = () => (system.matches ? "dark" : "light");
showTheme(stored() || systemTheme());
system.addEventListener("change", () => stored() || showTheme(systemTheme()));
themeToggle.addEventListener("click", () => {
  const theme = root.dataset.theme === "dark" ? "light" : "dark";
  stored(theme);
  showTheme(theme);
});

function onPress(button, change) {
  button.addEventListener("click", () => {
    const pressed = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", pressed);
    change(pressed);
  });
}

const printToggle = document.getElementById("print-toggle"); // where a page has printed values
if (printToggle) onPress(printToggle, (shown) => root.classList.toggle("ours-only", !shown));
document.querySelectorAll(".zoom").forEach((button) => onPress(button, () => {}));

// On a phone the contents start folded.
if (matchMedia("(max-width: 64rem)").matches) document.querySelector("nav details").open = false;

// Sorting. A click on a head sorts with the best first, the next turns it round, the third restores the order of
// the paper. A sorted table has no groups: each row then carries its group's name.
const OTHER = { ascending: "descending", descending: "ascending" };

// What a row sorts by: ours; rows without one come after, by the printed number; empty ones last.
function keyOf(row, head) {
  const cell = row.cells[head.cellIndex];
  if ("text" in head.dataset) return [cell.textContent.trim() ? 0 : 2, cell.textContent.trim()];
  if (cell.dataset.value) return [0, Number(cell.dataset.value)];
  if (cell.dataset.printed) return [1, Number(cell.dataset.printed)];
  return [2, 0];
}

function compareKeys([level, value], [otherLevel, otherValue], sign) {
  if (level !== otherLevel) return level - otherLevel;
  if (typeof value === "string") return sign * value.localeCompare(otherValue, undefined, { numeric: true });
  return sign * (value - otherValue);
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const order = [...body.rows]; // the paper's, group heads included
  const heads = [...table.querySelectorAll("th[aria-sort]")];
  const tools = table.closest(".sheet")?.querySelector(".table-tools");
  const state = tools?.querySelector(".state");
  const filter = tools?.querySelector("input");
  let sortedBy = null;

  function sort(head, direction) {
    heads.forEach((other) => other.setAttribute("aria-sort", other === head && direction ? direction : "none"));
    sortedBy = direction ? head : null;
    table.classList.toggle("sorted", Boolean(direction));
    if (!direction) {
      body.append(...order);
    } else {
      const sign = direction === "ascending" ? 1 : -1;
      const keyed = order.filter((row) => !row.matches(".group")).map((row) => [keyOf(row, head), row]);
      keyed.sort(([key], [otherKey]) => compareKeys(key, otherKey, sign));
      body.append(...keyed.map(([, row]) => row));
    }
    report();
  }

  function applyFilter() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let group = null;
    for (const row of order) {
      if (row.matches(".group")) {
        group = row;
        group.hidden = words.length > 0;
      } else {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        if (group && !row.hidden) group.hidden = false;
      }
    }
    report();
  }

  // One line that says what the reader sees; screen readers hear it.
  function report() {
    if (!state) return;
    const rows = order.filter((row) => !row.matches(".group"));
    const shown = rows.filter((row) => !row.hidden).length;
    const said = shown < rows.length ? [`${shown} of ${rows.length} rows`] : [];
    if (sortedBy) said.push(`sorted by ${sortedBy.textContent.trim()}, ${sortedBy.getAttribute("aria-sort")}`);
    if (sortedBy && order.some((row) => row.matches(".group"))) said.push("groups dissolved");
    state.textContent = said.join(" · ");
    if (sortedBy) state.append(restoreButton());
  }

  function restoreButton() {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "restore order";
    button.addEventListener("click", () => sort(null, null));
    return button;
  }

  for (const head of heads) {
    head.querySelector("button").addEventListener("click", () => {
      const first = head.dataset.first;
      const now = head.getAttribute("aria-sort");
      sort(head, now === "none" ? first : now === first ? OTHER[first] : null);
    });
  }
  filter?.addEventListener("input", applyFilter);
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
