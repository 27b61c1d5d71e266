const shown = (cell) => cell.dataset.v ?? cell.textContent.trim();
function compare(a, b) {
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
}
// Missing values sort last in both directions.
const absent = (text) => text === "" || text === "–" || text === "NaN";

for (const element of document.querySelectorAll(".trials")) {
  const body = element.querySelector("tbody");
  const rows = [...body.rows];
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const [search, select, output] = ["input", "select", "output"].map((tag) => element.querySelector(tag));
  const heads = [...element.querySelectorAll("thead th")];
  const state = kept.get(element.id, { search: "", status: "", sorted: null, descending: false });
  const keep = () => kept.set(element.id, state);

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of rows) {
      row.hidden = !(words.every((word) => texts.get(row).includes(word)) && (!select.value || row.dataset.status === select.value));
      left += row.hidden ? 0 : 1;
    }
    output.textContent = `${left} of ${rows.length}`;
    [state.search, state.status] = [search.value, select.value];
  };
  const sort = () => {
    const column = heads.findIndex((head) => head.dataset.name === state.sorted);
    if (column < 0) return;
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    const keyed = rows.map((row) => [shown(row.cells[column]), row]);
    keyed.sort(([a], [b]) => absent(a) - absent(b) || (state.descending ? compare(b, a) : compare(a, b)));
    body.append(...keyed.map(([, row]) => row));
  };
  search.addEventListener("input", () => { filter(); keep(); });
  select.addEventListener("change", () => { filter(); keep(); });
  heads.forEach((head) => head.querySelector("button").addEventListener("click", () => {
    state.descending = head.getAttribute("aria-sort") === "ascending";
    state.sorted = head.dataset.name;
    sort();
    keep();
  }));
  search.value = state.search;
  select.value = state.status;
  if (select.selectedIndex < 0) select.value = ""; // no trial has this status after the reload
  if (state.search || state.status) filter();
  sort();
}
