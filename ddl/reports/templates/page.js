const palettes = JSON.parse(document.getElementById("palettes").textContent);
const dark = matchMedia("screen and (prefers-color-scheme: dark)");
const touch = matchMedia("(pointer: coarse)").matches;
const preferred = () => (dark.matches ? "dark" : "light");
let current = preferred(); // until the event of a change, so that all plots change together
const theme = (name) => (name ?? current) === "dark"
  ? { colours: palettes.dark, paper: "#14171b", ink: "#e6e9ed", soft: "#a6aeb8", grid: "#2d333b" }
  : { colours: palettes.light, paper: "#ffffff", ink: "#1c1f23", soft: "#5b636d", grid: "#e6e9ed" };

// The reader's choices survive a reload while the tab is open.
const kept = (() => {
  const place = `ddl ${location.pathname}`;
  let all = {};
  try { all = JSON.parse(sessionStorage.getItem(place)) ?? {}; } catch { /* a browser without storage for files */ }
  return {
    get: (key, otherwise) => all[key] ?? otherwise,
    set: (key, value) => {
      all[key] = value;
      try { sessionStorage.setItem(place, JSON.stringify(all)); } catch { /* then nothing is stored */ }
    },
  };
})();

const basicLayout = (t) => ({
  showlegend: false, paper_bgcolor: t.paper, plot_bgcolor: t.paper,
  font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: t.ink },
  hoverlabel: { bgcolor: t.paper, bordercolor: t.grid, font: { color: t.ink, size: 12 }, namelength: 40, align: "left" },
});
const basicAxis = (t) => ({ gridcolor: t.grid, linecolor: t.grid, zeroline: false, tickfont: { color: t.soft }, automargin: true });
const settings = {
  displaylogo: false, responsive: true, displayModeBar: touch ? false : "hover",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
};

// Each plot with the function that draws it: (theme name, width) -> promise.
const plots = new Map();
const seen = new Set();
let printed = []; // theme and width while the page is printed
let drawings = 0;
const draw = async (some) => {
  drawings += 1;
  try {
    await Promise.all([...some].map((plot) => plots.get(plot)(...printed)));
  } finally {
    drawings -= 1;
  }
  // Scripts that take screenshots wait for this attribute. A change of the theme begins a drawing of all plots that were drawn.
  if (!drawings) document.documentElement.dataset.plotted = printed[0] ?? current;
};

function press(buttons, pressed) {
  buttons.forEach((button) => button.setAttribute("aria-pressed", String(button === pressed)));
}

// The rows of a table, a page at a time. The page has the first ones as rows and the rest as text until they are asked for, so that it
// opens as fast with 10,000 rows as with 100.
const paged = (table, turned = () => {}) => {
  const body = table.tBodies[0];
  const total = Number(table.dataset.rows);
  const each = body.rows.length;
  let all = null, some = null, page = 0;
  const rows = () => {
    if (all) return all;
    all = [...body.rows];
    const rest = body.querySelector("script");
    if (rest) {
      const holder = document.createElement("template");
      holder.innerHTML = rest.textContent;
      all.push(...holder.content.children);
    }
    return all;
  };
  const nav = document.createElement("nav");
  nav.className = "pages";
  nav.innerHTML = "<button type=button>Previous</button><output></output><button type=button>Next</button>";
  const [back, output, next] = nav.children;
  const label = () => {
    const n = some ? some.length : total;
    nav.hidden = n <= each;
    output.textContent = `${page * each + 1} to ${Math.min((page + 1) * each, n)} of ${n}`;
    [back.disabled, next.disabled] = [page === 0, (page + 1) * each >= n];
  };
  const show = (chosen, at = 0) => {
    some = chosen;
    page = Math.max(0, Math.min(at, Math.ceil(some.length / each) - 1));
    body.replaceChildren(...some.slice(page * each, (page + 1) * each));
    label();
  };
  const turn = (by) => { show(some ?? rows(), page + by); table.parentElement.scrollTop = 0; turned(page); };
  if (total > each) {
    back.addEventListener("click", () => turn(-1));
    next.addEventListener("click", () => turn(1));
    table.parentElement.after(nav);
    label();
  }
  return { rows, show };
};
