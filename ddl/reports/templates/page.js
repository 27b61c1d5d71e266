const palettes = JSON.parse(document.getElementById("palettes").textContent);
const dark = matchMedia("screen and (prefers-color-scheme: dark)");
const touch = matchMedia("(pointer: coarse)").matches;
const theme = (name) => (name ?? (dark.matches ? "dark" : "light")) === "dark"
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
const draw = async (some) => {
  await Promise.all([...some].map((plot) => plots.get(plot)(...printed)));
  // Scripts that take screenshots wait for this attribute.
  document.documentElement.dataset.plotted = printed[0] ?? (dark.matches ? "dark" : "light");
};

function press(buttons, pressed) {
  buttons.forEach((button) => button.setAttribute("aria-pressed", String(button === pressed)));
}
