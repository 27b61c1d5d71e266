function tradeoffLayout(figure, t) {
  const title = (text) => ({ text, font: { color: t.soft } });
  return {
    ...basicLayout(t), height: 290, margin: { l: 54, r: 14, t: 10, b: 44 }, hovermode: "closest", dragmode: touch ? false : "zoom",
    xaxis: { ...basicAxis(t), title: title(figure.title), type: figure.scale },
    yaxis: { ...basicAxis(t), title: title(figure.value) },
  };
}

for (const element of document.querySelectorAll(".tradeoffs")) {
  const figures = JSON.parse(document.getElementById(element.dataset.island).textContent);
  element.querySelectorAll(".plot").forEach((place, i) => plots.set(place, (name, width) => {
    const t = theme(name);
    const figure = figures[i];
    const data = figure.data.map((trace) => {
      const color = trace.meta.colour === null ? t.soft : t.colours[trace.meta.colour];
      if (trace.meta.role === "front") return { ...trace, line: { ...trace.line, color } };
      const whiskers = (error) => (error ? { ...error, color } : undefined);
      return { ...trace, marker: { ...trace.marker, color, line: { color, width: 2 } }, error_x: whiskers(trace.error_x), error_y: whiskers(trace.error_y) };
    });
    return Plotly.react(place, data, { ...tradeoffLayout(figure, t), ...(width ? { width } : {}) }, settings);
  }));
}
