for (const table of document.querySelectorAll("table[data-rows]:not(.sortable)")) paged(table);

// Plots are drawn when they come near the screen, so that a page with many plots opens as fast as one with few.
const near = new IntersectionObserver((entries) => {
  const fresh = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
  fresh.forEach((plot) => { seen.add(plot); near.unobserve(plot); });
  draw(fresh);
}, { rootMargin: "600px" });
[...plots.keys()].forEach((plot) => near.observe(plot));
if (!plots.size) draw([]);
dark.addEventListener("change", () => { current = preferred(); draw(seen); });
addEventListener("beforeprint", () => {
  printed = ["light", 340];
  [...plots.keys()].forEach((plot) => { seen.add(plot); near.unobserve(plot); });
  draw(seen);
});
addEventListener("afterprint", () => { printed = []; draw(seen); });

// Keep the reading position over a reload: open folds, scrolled boxes and the focused search field.
const folds = [...document.querySelectorAll("details")];
const scrolled = [...document.querySelectorAll(".scroll, .frames")];
const searches = [...document.querySelectorAll("input[type=search]")];
const where = kept.get("where", null);
if (where) {
  folds.forEach((fold) => { fold.open = where.open.includes(fold.dataset.name); });
  scrolled.forEach((box, i) => { [box.scrollLeft, box.scrollTop] = where.boxes[i] ?? [0, 0]; });
  history.scrollRestoration = "manual";
  scrollTo({ top: where.y, behavior: "instant" });
  searches[where.typing]?.focus({ preventScroll: true });
}
addEventListener("pagehide", () => kept.set("where", {
  y: scrollY,
  open: folds.filter((fold) => fold.open).map((fold) => fold.dataset.name),
  boxes: scrolled.map((box) => [box.scrollLeft, box.scrollTop]),
  typing: searches.indexOf(document.activeElement),
}));

// If the driver was killed, the page would say "running" for ever.
document.querySelectorAll(".live").forEach((live) => {
  const silent = (Date.now() - Date.parse(live.dataset.written)) / 1000;
  if (silent < Math.max(600, 10 * live.dataset.every)) return;
  live.textContent = `No update since ${live.dataset.written.replace("T", " ").replace("+00:00", " UTC")}. The sweep was killed, ` +
    "or its machine cannot be reached. This page shows the records up to that time; --resume continues the sweep.";
});
