"use strict";
(() => {
  const palettes = JSON.parse(document.getElementById("palettes").textContent);
  const dark = matchMedia("screen and (prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const theme = (name) => name === "dark"
    ? { colours: palettes.dark, paper: "#14171b", ink: "#e6e9ed", soft: "#a6aeb8", grid: "#2d333b" }
    : { colours: palettes.light, paper: "#ffffff", ink: "#1c1f23", soft: "#5b636d", grid: "#e6e9ed" };
  const sections = [];
  const seen = new Set();

  function coloured(trace, t) {
    const colour = t.colours[trace.meta.colour];
    const line = { ...trace.line, color: colour };
    return trace.meta.role === "band" ? { ...trace, line, fillcolor: colour + "26" } : { ...trace, line };
  }

  function layout(figure, state, t) {
    const axis = { gridcolor: t.grid, linecolor: t.grid, zeroline: false, tickfont: { color: t.soft }, automargin: true };
    const log = state.y === "log";
    const range = log ? figure.log : figure.linear;
    return {
      height: 290, margin: { l: 48, r: 8, t: 8, b: 40 }, showlegend: false,
      hovermode: "x unified", hoverdistance: -1, dragmode: touch ? false : "zoom",
      paper_bgcolor: t.paper, plot_bgcolor: t.paper,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: t.ink },
      hoverlabel: { bgcolor: t.paper, bordercolor: t.grid, font: { color: t.ink, size: 12 }, namelength: 40 },
      xaxis: { ...axis, title: { text: state.x === "seconds" ? "seconds trained" : figure.x_name, font: { color: t.soft } },
        ...(figure.ticks && state.x !== "seconds" ? { dtick: 1 } : {}),
        unifiedhovertitle: { text: state.x === "seconds" ? "%{x:.1f} s" : figure.x_name + " %{x}" } },
      yaxis: { ...axis, type: state.y, ...(range ? { range: [...range] } : { autorange: true }) },
    };
  }

  function draw(section, i, name, width) {
    const t = theme(name ?? (dark.matches ? "dark" : "light"));
    const figure = section.figures[i];
    const data = figure.data.map((trace, k) => ({
      ...coloured(trace, t),
      x: section.state.x === "seconds" ? figure.seconds[k] : trace.x,
      visible: !section.state.hidden.has(trace.meta.series),
    }));
    return Plotly.react(section.plots[i], data, { ...layout(figure, section.state, t), ...(width ? { width } : {}) }, {
      displaylogo: false, responsive: true, displayModeBar: touch ? false : "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
    });
  }

  const redraw = (section) => section.plots.forEach((plot, i) => seen.has(plot) && draw(section, i));

  function press(buttons, pressed) {
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button === pressed)));
  }

  for (const element of document.querySelectorAll(".curves")) {
    const figures = JSON.parse(document.getElementById(element.dataset.island).textContent);
    const plots = [...element.querySelectorAll(".plot")];
    const section = { figures, plots, state: { x: "x", y: "linear", hidden: new Set() } };
    sections.push(section);
    element.querySelectorAll(".chip").forEach((chip) => chip.addEventListener("click", () => {
      const series = Number(chip.dataset.series);
      const hide = chip.getAttribute("aria-pressed") === "true";
      chip.setAttribute("aria-pressed", String(!hide));
      section.state.hidden[hide ? "add" : "delete"](series);
      redraw(section);
    }));
    for (const key of ["x", "y"]) {
      const buttons = [...element.querySelectorAll(`button[data-${key}]`)];
      buttons.forEach((button) => button.addEventListener("click", () => {
        section.state[key] = button.dataset[key];
        press(buttons, button);
        redraw(section);
      }));
    }
  }

  // A plot is drawn when it comes near the screen, so that a page of many opens as fast as a page of few.
  async function drawSeen(name, width) {
    await Promise.all(sections.flatMap((section) => section.plots.map((plot, i) => seen.has(plot) && draw(section, i, name, width))));
    // Who takes a picture of the page by machine can wait for this.
    document.documentElement.dataset.drawn = name ?? (dark.matches ? "dark" : "light");
  }
  const plots = sections.flatMap((section) => section.plots);
  const near = new IntersectionObserver((entries) => {
    const fresh = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
    fresh.forEach((plot) => { seen.add(plot); near.unobserve(plot); });
    drawSeen();
  }, { rootMargin: "600px" });
  plots.forEach((plot) => near.observe(plot));
  dark.addEventListener("change", () => drawSeen());
  addEventListener("beforeprint", () => { plots.forEach((plot) => seen.add(plot)); drawSeen("light", 340); });
  addEventListener("afterprint", () => drawSeen());

  const shown = (cell) => cell.dataset.v ?? cell.textContent.trim();
  function compare(a, b) {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  }
  // What was not measured sorts last, whichever way.
  const absent = (text) => text === "" || text === "–" || text === "NaN";

  for (const element of document.querySelectorAll(".trials")) {
    const body = element.querySelector("tbody");
    const rows = [...body.rows];
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const [search, select, output] = ["input", "select", "output"].map((tag) => element.querySelector(tag));
    const filter = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      for (const row of rows) {
        row.hidden = !(words.every((word) => texts.get(row).includes(word)) && (!select.value || row.dataset.status === select.value));
        left += row.hidden ? 0 : 1;
      }
      output.textContent = `${left} of ${rows.length}`;
    };
    search.addEventListener("input", filter);
    select.addEventListener("change", filter);
    const heads = [...element.querySelectorAll("thead th")];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const keyed = rows.map((row) => [shown(row.cells[column]), row]);
      keyed.sort(([a], [b]) => absent(a) - absent(b) || (descending ? compare(b, a) : compare(a, b)));
      body.append(...keyed.map(([, row]) => row));
    }));
  }
})();
