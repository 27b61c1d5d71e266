for (const element of document.querySelectorAll(".parallel")) {
  const svg = element.querySelector("svg");
  const output = element.querySelector("output");
  const lines = [...svg.querySelectorAll(".line")];
  const axes = [...svg.querySelectorAll(".axis")];
  const points = new Map(lines.map((line) => [line, [...line.points].map((point) => [point.x, point.y])]));
  const place = `${element.id} brushes`;
  const brushes = kept.get(place, {}); // axis name -> [upper y, lower y]

  const inside = (line) => axes.every((axis, i) => {
    const brush = brushes[axis.dataset.name];
    return !brush || (points.get(line)[i][1] >= brush[0] && points.get(line)[i][1] <= brush[1]);
  });
  const rest = () => {
    const left = lines.filter((line) => !line.classList.contains("out")).length;
    output.textContent = left < lines.length ? `${left} of ${lines.length} within the selected ranges.` : "";
  };
  const apply = () => {
    for (const axis of axes) {
      const box = axis.querySelector(".brush");
      const brush = brushes[axis.dataset.name];
      box.setAttribute("height", brush ? brush[1] - brush[0] : 0);
      if (brush) box.setAttribute("y", brush[0]);
    }
    lines.forEach((line) => line.classList.toggle("out", !inside(line)));
    rest();
  };
  const at = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());

  for (const axis of axes) {
    const handle = axis.querySelector(".handle");
    const [top, bottom] = [handle.y.baseVal.value, handle.y.baseVal.value + handle.height.baseVal.value];
    let from = null;
    handle.addEventListener("pointerdown", (event) => { from = at(event).y; handle.setPointerCapture(event.pointerId); });
    handle.addEventListener("pointermove", (event) => {
      if (from === null) return;
      const [low, high] = [from, at(event).y].map((y) => Math.min(Math.max(y, top), bottom)).sort((a, b) => a - b);
      if (high - low > 3) brushes[axis.dataset.name] = [low, high];
      else delete brushes[axis.dataset.name]; // too short for a range: clear the old one
      apply();
    });
    handle.addEventListener("pointerup", (event) => {
      if (from !== null && Math.abs(at(event).y - from) <= 3) delete brushes[axis.dataset.name];
      from = null;
      apply();
      kept.set(place, brushes);
    });
  }

  // Show the values of the line nearest to the pointer.
  let near = null;
  const point = (line) => {
    near?.classList.remove("near");
    near = line;
    near?.classList.add("near");
    if (near) output.textContent = near.dataset.text;
    else rest();
  };
  svg.addEventListener("pointermove", (event) => {
    const { x, y } = at(event);
    let [best, distance] = [null, 14];
    for (const line of lines) {
      if (line.classList.contains("out")) continue;
      const path = points.get(line);
      const right = path.findIndex(([px]) => px >= x);
      if (right < 0 || (right === 0 && path[0][0] - x > 8)) continue;
      const [a, b] = [path[Math.max(right - 1, 0)], path[right]];
      const level = b[0] === a[0] ? a[1] : a[1] + ((b[1] - a[1]) * (x - a[0])) / (b[0] - a[0]);
      if (Math.abs(level - y) < distance) [best, distance] = [line, Math.abs(level - y)];
    }
    if (best !== near) point(best);
  });
  svg.addEventListener("pointerleave", () => point(null));
  apply();
}
