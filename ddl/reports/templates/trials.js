const shown = (cell) => cell.dataset.v ?? cell.textContent.trim();
function compare(a, b) {
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
}
// Missing values sort last in both directions.
const absent = (text) => text === "" || text === "–" || text === "NaN";

for (const element of document.querySelectorAll(".trials")) {
  const table = element.querySelector("table");
  const [search, select, output] = ["input", "select", "output"].map((tag) => element.querySelector(tag));
  const heads = [...element.querySelectorAll("thead th")];
  const state = kept.get(element.id, { search: "", status: "", sorted: null, descending: false, page: 0 });
  const keep = () => kept.set(element.id, state);
  const pages = paged(table, (page) => { state.page = page; keep(); });
  const texts = new Map();
  const text = (row) => texts.get(row) ?? texts.set(row, row.textContent.toLowerCase()).get(row);

  const matching = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    return pages.rows().filter((row) => (!select.value || row.dataset.status === select.value) && words.every((word) => text(row).includes(word)));
  };
  const sorted = (rows) => {
    const column = heads.findIndex((head) => head.dataset.name === state.sorted);
    if (column < 0) return rows;
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    const keyed = rows.map((row) => [shown(row.cells[column]), row]);
    keyed.sort(([a], [b]) => absent(a) - absent(b) || (state.descending ? compare(b, a) : compare(a, b)));
    return keyed.map(([, row]) => row);
  };
  const update = (page = 0) => {
    const rows = matching();
    output.textContent = `${rows.length} of ${table.dataset.rows}`;
    pages.show(sorted(rows), page);
    [state.search, state.status, state.page] = [search.value, select.value, page];
  };
  search.addEventListener("input", () => { update(); keep(); });
  select.addEventListener("change", () => { update(); keep(); });
  heads.forEach((head) => head.querySelector("button").addEventListener("click", () => {
    state.descending = head.getAttribute("aria-sort") === "ascending";
    state.sorted = head.dataset.name;
    update();
    keep();
  }));
  search.value = state.search;
  select.value = state.status;
  if (select.selectedIndex < 0) select.value = ""; // no trial has this status after the reload
  if (state.search || state.status || state.sorted || state.page) update(state.page);
}
