// Draw the curves of several jobs over each other, and let people choose trials along the axes of a sweep.

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const place = document.getElementById("chart");
const readings = [...document.querySelectorAll("#curves .reading")];
let plot = null;

function draw() {
  const data = JSON.parse(place.dataset.curve), names = JSON.parse(place.dataset.names), dashes = JSON.parse(place.dataset.dashes);
  const ink = { stroke: style("soft"), grid: { stroke: style("grid"), width: 1 }, ticks: { stroke: style("grid"), width: 1 } };
  const few = data[0].length < 40;
  plot?.destroy();
  plot = new uPlot({
    width: place.clientWidth, height: 320,
    legend: { show: false }, cursor: { drag: { x: true, y: true, uni: 30 } },
    hooks: { setLegend: [(self) => readings.forEach((reading, at) => {
      const value = self.legend.idx == null ? null : self.data[at + 1][self.legend.idx];
      reading.textContent = value == null ? "" : `${+value.toPrecision(4)} at ${self.data[0][self.legend.idx]}`;
    })] },
    scales: { x: { time: false } },
    axes: [{ ...ink, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] }, { ...ink, size: 64 }],
    series: [{ label: "epoch" }, ...names.map((label, at) => ({
      label, stroke: style(`series-${at + 1}`), width: 2, dash: dashes[at].split(" ").filter(Boolean).map(Number), spanGaps: true,
      points: { show: few, fill: style("card") },
    }))],
  }, data, place);
}

if (place) {
  draw();
  new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height: 320 })).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

// Parallel coordinates: what is dragged over along an axis is kept, on all axes at once.
const svg = document.querySelector("#plot-parallel svg");
if (svg) {
  const axes = [...svg.querySelectorAll(".axis")].map((axis) => ({ x: +axis.querySelector("line").getAttribute("x1"), range: null, mark: null }));
  const trials = [...svg.querySelectorAll(".trial")].map((node) => ({
    node, heights: node.querySelector("polyline").getAttribute("points").trim().split(/\s+/).map((point) => +point.split(",")[1]),
  }));
  const told = document.getElementById("kept");
  const at = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const nearest = axes.reduce((best, axis) => (Math.abs(axis.x - point.x) < Math.abs(best.x - point.x) ? axis : best));
    return { axis: nearest, y: point.y, near: Math.abs(nearest.x - point.x) < 24 };
  };
  const choose = () => {
    let kept = 0;
    for (const { node, heights } of trials) {
      const inside = axes.every(({ range }, index) => !range || (heights[index] >= range[0] && heights[index] <= range[1]));
      node.classList.toggle("out", !inside);
      kept += inside;
    }
    told.textContent = axes.some(({ range }) => range) ? `${kept} of ${trials.length} trials pass through what is marked.` : "";
  };
  const mark = (axis) => {
    axis.mark ??= svg.insertBefore(document.createElementNS(svg.namespaceURI, "rect"), svg.querySelector(".trial"));
    const [top, bottom] = axis.range ?? [0, 0];
    for (const [name, value] of Object.entries({ class: "reach", x: axis.x - 10, width: 20, y: top, height: bottom - top })) axis.mark.setAttribute(name, value);
  };
  let held = null;
  svg.addEventListener("pointerdown", (event) => {
    const { axis, y, near } = at(event);
    if (!near) return;
    held = { axis, from: y };
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    if (!held) return;
    const { y } = at(event);
    if (Math.abs(y - held.from) < 4 && !held.moved) return;
    held.moved = true;
    held.axis.range = [Math.min(y, held.from), Math.max(y, held.from)];
    mark(held.axis);
    choose();
  });
  svg.addEventListener("pointerup", () => {
    if (held && !held.moved) {
      held.axis.range = null;
      mark(held.axis);
      choose();
    }
    held = null;
  });
}
