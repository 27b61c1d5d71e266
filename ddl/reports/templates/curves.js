const hoverTitles = { seconds: "%{x:.1f} s", "env steps": "%{x:,.0f} env steps", episodes: "%{x:,.0f} episodes" };
const faint = 0.3;

// Exponential smoothing with the bias correction of Adam (Kingma and Ba 2015), so that it does not start near zero.
function smoothed(values, weight) {
  let [sum, norm] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

function curveTraces(figure, state, t) {
  return figure.data.flatMap((trace, k) => {
    const color = t.colours[trace.meta.colour];
    const axis = figure.axes.includes(state.x) ? state.x : figure.axes[0];
    const drawn = {
      ...trace, line: { ...trace.line, color }, x: figure.positions[k][axis] ?? trace.x, visible: !state.hidden.has(trace.meta.series),
    };
    if (trace.meta.role === "band") return [{ ...drawn, fillcolor: color + (state.many ? "10" : "26") }];
    if (!state.smooth) return [drawn];
    if (trace.meta.role === "seed") return [{ ...drawn, opacity: faint / 2 }];
    const raw = { ...drawn, meta: { ...trace.meta, role: "raw" }, opacity: faint, hoverinfo: "skip", hovertemplate: null, text: null };
    const values = smoothed(trace.y, state.smooth);
    return [raw, { ...drawn, y: values, hovertemplate: "%{y:.4g} smoothed; %{text}" }];
  });
}

function curveLayout(figure, state, t) {
  const axis = figure.axes.includes(state.x) ? state.x : figure.axes[0];
  const range = state.y === "log" ? figure.log : figure.linear;
  return {
    ...basicLayout(t), height: 290, margin: { l: 48, r: 8, t: 8, b: 40 },
    hovermode: "x unified", hoverdistance: -1, dragmode: touch ? false : "zoom",
    xaxis: {
      ...basicAxis(t), title: { text: axis === "seconds" ? "seconds trained" : axis, font: { color: t.soft } },
      ...(figure.ticks && axis === "epoch" ? { dtick: 1 } : {}), unifiedhovertitle: { text: hoverTitles[axis] ?? axis + " %{x}" },
    },
    yaxis: { ...basicAxis(t), type: state.y, ...(range ? { range: [...range] } : { autorange: true }) },
  };
}

for (const element of document.querySelectorAll(".curves")) {
  const figures = JSON.parse(document.getElementById(element.dataset.island).textContent);
  const places = [...element.querySelectorAll(".plot")];
  const chips = [...element.querySelectorAll(".chip")];
  const named = (chip) => chip.textContent.trim();
  const before = kept.get(element.dataset.island, { x: figures[0].axes[0], y: "linear", smooth: 0, hidden: [] });
  const state = { ...before, hidden: new Set(), many: chips.length > palettes.light.length };
  if (!figures.some((figure) => figure.axes.includes(state.x))) state.x = figures[0].axes[0];
  const drawing = (i) => (name, width) => {
    const t = theme(name);
    return Plotly.react(places[i], curveTraces(figures[i], state, t), { ...curveLayout(figures[i], state, t), ...(width ? { width } : {}) }, settings);
  };
  places.forEach((place, i) => plots.set(place, drawing(i)));

  const slider = element.querySelector("input[type=range]");
  const output = element.querySelector("output");
  const label = () => {
    output.textContent = state.smooth ? state.smooth.toFixed(2) : "off";
    const note = state.smooth ? `exponential smoothing, weight ${state.smooth.toFixed(2)}; faint: as measured` : "";
    element.querySelectorAll(".smoothing").forEach((place) => { place.textContent = note; });
  };
  const change = () => {
    label();
    kept.set(element.dataset.island, { ...state, hidden: chips.filter((chip) => state.hidden.has(Number(chip.dataset.series))).map(named) });
    draw(places.filter((place) => seen.has(place)));
  };
  const show = (chip, hide) => {
    chip.setAttribute("aria-pressed", String(!hide));
    state.hidden[hide ? "add" : "delete"](Number(chip.dataset.series));
  };
  chips.forEach((chip) => {
    show(chip, before.hidden.includes(named(chip)));
    chip.addEventListener("click", () => { show(chip, chip.getAttribute("aria-pressed") === "true"); change(); });
  });
  for (const key of ["x", "y"]) {
    const buttons = [...element.querySelectorAll(`button[data-${key}]`)];
    press(buttons, buttons.find((button) => button.dataset[key] === state[key]));
    buttons.forEach((button) => button.addEventListener("click", () => {
      state[key] = button.dataset[key];
      press(buttons, button);
      change();
    }));
  }
  slider.value = state.smooth;
  slider.addEventListener("input", () => { state.smooth = Number(slider.value); change(); });
  label();
}
