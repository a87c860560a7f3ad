// Draw a job's curves from their CSV, and let them grow as the job runs.

const POINTS = 1000, MOST = 4000, TAIL = 200, AGAIN_MS = 3000, MORE_MS = 500, DENSE = 300, CALM = 0.8;
const DASHES = { teacher: [6, 4], control: [2, 3] };
const SYNC = "job";
const charts = [];
const axis = document.getElementById("axis"), smoothing = document.getElementById("smoothing");

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const shown = (value) => value == null ? "–" : Math.abs(value) >= 1e4 || (value && Math.abs(value) < 1e-3) ? value.toExponential(2) : `${+value.toPrecision(4)}`;

/** Read our own CSV: no cell but a label of the first row is quoted, and labels are known already. */
function parse(text, width) {
  const rows = text.trim().split("\n").slice(1).map((row) => row.split(","));
  const columns = Array.from({ length: width }, (_, at) => rows.map((row) => row[at + 2] ? +row[at + 2] : null));
  return { epochs: rows.map((row) => +row[0]), times: rows.map((row) => Date.parse(row[1]) / 1000), columns };
}

/** Exponential moving average that begins without a pull to zero. */
function smooth(values, weight) {
  let sum = 0, total = 0;
  return values.map((value) => {
    if (value == null) return null;
    sum = weight * sum + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return sum / total;
  });
}

class Chart {
  constructor(place) {
    this.place = place;
    this.name = place.dataset.chart;
    this.made = place.dataset.made;
    this.lines = JSON.parse(place.dataset.lines);
    this.steps = +place.dataset.steps || 1;
    this.data = null;
    this.plot = null;
    this.waits = false;
    this.low = null;
    this.missed = [];
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", `Chart: ${place.closest("figure").querySelector("h3").textContent}. Its numbers stand below.`);
  }

  /** Read all of it, or from an epoch on; one request at a time. */
  async load(from = null) {
    if (this.loads) { this.ask(from ?? -Infinity); return; }
    this.loads = true;
    this.low = null;
    const after = from === null ? "" : `&after=${from - 1}`;
    const answer = await fetch(`${this.place.dataset.source}?points=${POINTS}${after}`).catch(() => null);
    const found = answer?.ok ? parse(await answer.text(), this.lines.length) : null;
    this.loads = false;
    if (!found) this.low = from ?? -Infinity;
    if (found && from === null) this.data = found;
    else if (found) this.replaceFrom(from, found);
    if (found && (!this.plot || from === null)) this.draw();
    else if (found) this.redraw();
    this.missed.splice(0).forEach((one) => this.grow(one));
  }

  replaceFrom(from, { epochs, times, columns }) {
    const kept = this.data.epochs.findIndex((epoch) => epoch >= from), end = kept < 0 ? this.data.epochs.length : kept;
    const join = (ours, fresh) => { ours.length = end; for (const one of fresh) ours.push(one); };
    join(this.data.epochs, epochs);
    join(this.data.times, times);
    this.data.columns.forEach((column, at) => join(column, columns[at]));
  }

  /** Ask the service a moment later for what has changed from *step* on: once for all that changes meanwhile. */
  ask(step) {
    this.low = Math.min(this.low ?? Infinity, step);
    if (!this.seen || this.waitsForMore) return;
    this.waitsForMore = setTimeout(() => {
      this.waitsForMore = null;
      const { epochs } = this.data ?? { epochs: [] };
      const near = this.made && epochs.length && epochs.length < MOST && this.low > epochs[Math.max(0, epochs.length - TAIL)];
      this.load(near ? this.low : null);
    }, this.made ? MORE_MS : AGAIN_MS);
  }

  /** Values of the axis; "step" counts batches. */
  across() {
    if (axis.value === "time") return this.data.times;
    return axis.value === "step" ? this.data.epochs.map((epoch) => epoch * this.steps) : this.data.epochs;
  }

  values() {
    const weight = +smoothing.value;
    const raw = this.data.columns.map((column, at) => this.lines[at].flat ? flat(column) : column);
    // In time, student and control stand one after the other: the rows have to be in order.
    const x = this.across(), timed = axis.value === "time";
    const order = timed ? x.map((_, at) => at).sort((a, b) => x[a] - x[b]) : [];
    const sorted = (column) => timed ? order.map((at) => column[at]) : column;
    const inOrder = raw.map(sorted);
    return [sorted(x), ...inOrder, ...inOrder.map((column, at) => weight && !this.lines[at].flat ? smooth(column, weight) : column)];
  }

  draw() {
    this.plot?.destroy();
    this.place.replaceChildren();
    const faint = +smoothing.value > 0, dense = this.data.epochs.length > DENSE;
    // Browsers draw lines of one device pixel many times as fast: others would make thousands of points stutter.
    const width = (smoothed) => dense && (!smoothed || +smoothing.value < CALM) ? 1 / devicePixelRatio : smoothed || !faint ? 2 : 1;
    const line = (one, smoothed) => ({
      label: one.label, stroke: style(one.color), width: width(smoothed), dash: DASHES[one.role], spanGaps: true,
      alpha: faint && !smoothed ? 0.3 : 1, show: smoothed ? faint : true, points: { fill: style("card"), show: this.data.epochs.length < 40 && !one.flat && !faint },
    });
    const ink = { stroke: style("soft"), grid: { stroke: style("grid"), width: 1 }, ticks: { stroke: style("grid"), width: 1 } };
    const whole = axis.value === "time" ? {} : { incrs: [1, 2, 5].flatMap((one) => [0, 1, 2, 3, 4, 5, 6].map((power) => one * 10 ** power)).sort((a, b) => a - b) };
    this.plot = new uPlot({
      ...this.size(), legend: { show: false },
      cursor: { sync: { key: SYNC }, drag: { x: true, y: false } },
      scales: { x: { time: axis.value === "time" } },
      axes: [{ ...ink, ...whole, label: axis.value, labelSize: 18, size: 40 }, { ...ink, size: 58, label: this.place.dataset.unit, labelSize: 18, values: (_, ticks) => ticks.map(shown) }],
      series: [{}, ...this.lines.map((one) => line(one, false)), ...this.lines.map((one) => line(one, true))],
      hooks: { setCursor: [(plot) => this.point(plot.cursor.idx)] },
    }, this.values(), this.place);
    this.legend();
  }

  size() {
    return { width: Math.max(200, this.place.clientWidth), height: 260 };
  }

  legend() {
    const list = document.createElement("ul");
    list.className = "legend small";
    this.told = this.lines.map((one) => {
      const item = document.createElement("li"), mark = document.createElement("span"), value = document.createElement("span");
      mark.className = "role";
      mark.style.borderColor = style(one.color);
      mark.style.borderTopStyle = { teacher: "dashed", control: "dotted" }[one.role] ?? "solid";
      value.className = "soft";
      item.append(mark, `${one.label} `, value);
      list.append(item);
      return value;
    });
    this.place.append(list);
    this.point(null);
  }

  /** Tell the values under the pointer, or the latest. */
  point(at) {
    const values = this.plot?.data ?? [];
    this.told?.forEach((place, line) => {
      const column = values[line + 1] ?? [];
      place.textContent = shown(at == null ? column.findLast((value) => value != null) : column[at]);
    });
  }

  /** Draw again, at once where somebody sees it. */
  redraw() {
    this.stale = !this.seen;
    if (!this.plot || this.waits || !this.seen) return;
    this.waits = true;
    requestAnimationFrame(() => { this.waits = false; this.plot.setData(this.values()); this.point(null); });
  }

  /** Take one epoch's values; what is worked out of several curves, or was measured before, is asked for. */
  grow({ role, step, values, at }) {
    if (!this.asked) return;
    const ours = this.lines.map((one) => one.source && one.source[0] === role ? values[one.source[1]] : undefined);
    const touches = this.made ? this.lines.some((one) => one.reads.some(([of, name]) => of === role && name in values)) : ours.some((value) => value !== undefined);
    if (!touches) return;
    if (this.loads) { this.missed.push({ role, step, values, at }); return; }
    if (!this.data) { this.ask(step); return; }
    if (this.made || this.data.epochs.length > MOST || !this.isNew(step, ours)) { this.ask(step); return; }
    let place = this.data.epochs.lastIndexOf(step);
    if (place < 0) {
      place = this.data.epochs.findLastIndex((epoch) => epoch < step) + 1;
      this.data.epochs.splice(place, 0, step);
      this.data.times.splice(place, 0, Date.parse(at) / 1000);
      this.data.columns.forEach((column) => column.splice(place, 0, null));
    }
    ours.forEach((value, line) => { if (value !== undefined) this.data.columns[line][place] = value; });
    this.redraw();
  }

  /** Whether an epoch is the last of its curves, or comes behind it; what lies before may be thinned. */
  isNew(step, ours) {
    return ours.every((value, line) => value === undefined || step >= (this.data.epochs[this.data.columns[line].findLastIndex((one) => one !== null)] ?? -Infinity));
  }
}

/** The teacher is measured once: its line is level. */
function flat(column) {
  const value = column.findLast((one) => one != null) ?? null;
  return column.map(() => value);
}

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    const chart = charts.find((one) => one.place === target);
    chart.seen = isIntersecting;
    if (!isIntersecting) continue;
    if (!chart.asked) { chart.asked = true; chart.load(); continue; }
    if (chart.stale) chart.redraw();
    if (chart.low !== null) chart.ask(chart.low);
  }
}, { rootMargin: "100px" });
const sized = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const chart = charts.find((one) => one.place === target);
    if (chart?.plot && chart.plot.width !== chart.size().width) chart.plot.setSize(chart.size());
  }
});

function begin() {
  for (const place of document.querySelectorAll("[data-chart]")) {
    const chart = new Chart(place);
    charts.push(chart);
    seen.observe(place);
    sized.observe(place);
  }
}

const all = () => charts.forEach((chart) => chart.data && chart.draw());
axis?.addEventListener("change", all);
smoothing?.addEventListener("input", () => {
  document.getElementById("smoothing-told").textContent = smoothing.value;
  all();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
let waits = false;
/** Offer steps as an axis once the training has told how many an epoch has. */
function offerSteps(steps) {
  charts.forEach((chart) => { chart.steps = steps; });
  if (axis && ![...axis.options].some((one) => one.value === "step")) axis.add(new Option("step", "step"), 1);
}
document.addEventListener("job-metric", ({ detail }) => {
  const steps = detail.values["system/steps_per_epoch"];
  if (steps && detail.role !== "teacher") offerSteps(steps);
  charts.forEach((chart) => chart.grow(detail));
  if (!charts.length && !waits) { waits = true; setTimeout(() => location.reload(), AGAIN_MS); }
});
begin();
