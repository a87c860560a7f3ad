// Colours are names of the style sheet's variables, so that one page serves light and dark.
// Nothing here makes a program of text as it runs: the page's policy forbids that.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const family = getComputedStyle(document.body).fontFamily;
  const font = (name, size) => ({ family, size, color: color(name) });

  const channels = (name) => [1, 3, 5].map((at) => parseInt(color(name).slice(at, at + 2), 16));
  const mixed = (from, to, part) => from.map((channel, index) => Math.round(channel + (to[index] - channel) * part));
  const shade = (part) => {
    const [low, middle, high] = ["low", "middle", "high"].map(channels);
    return `rgb(${part < 0.5 ? mixed(low, middle, part * 2) : mixed(middle, high, part * 2 - 1)})`;
  };

  const height = (axis, value) => (value - axis.range[0]) / (axis.range[1] - axis.range[0]);
  const ticks = (axis) => axis.tickvals ?? [0, 0.25, 0.5, 0.75, 1].map(
    (part) => axis.range[0] + (axis.range[1] - axis.range[0]) * part,
  );
  const named = (axis, value) => {
    const index = (axis.tickvals ?? []).indexOf(value);
    return axis.ticktext && index >= 0 ? axis.ticktext[index] : Number(value.toPrecision(4));
  };

  const lines = ({ data: [{ dimensions, line, meta }] }) => line.color
    .map((value, number) => {
      const share = (value - line.cmin) / (line.cmax - line.cmin);
      return { number, good: meta.reversed ? 1 - share : share };
    })
    .sort((one, other) => one.good - other.good)
    .map(({ number, good }) => ({
      type: "scatter", mode: "lines+markers", showlegend: false, hoverinfo: "text",
      x: dimensions.map((_, place) => place), y: dimensions.map((axis) => height(axis, axis.values[number])),
      text: dimensions.map((axis) => `${axis.label}: ${named(axis, axis.values[number])}`),
      line: { color: shade(good), width: 2 }, marker: { color: shade(good), size: 5 },
    }));

  const axes = ({ data: [{ dimensions }] }) => ({
    hovermode: "closest", showlegend: false, margin: { l: 60, r: 60, t: 40, b: 20 },
    xaxis: {
      tickvals: dimensions.map((_, place) => place), ticktext: dimensions.map((axis) => axis.label),
      tickfont: font("ink", 13), side: "top", range: [-0.15, dimensions.length - 0.85], fixedrange: true,
      showgrid: false, zeroline: false,
    },
    yaxis: { visible: false, range: [-0.05, 1.05], fixedrange: true },
    shapes: dimensions.map((_, place) => ({
      type: "line", layer: "below", x0: place, x1: place, y0: 0, y1: 1, line: { color: color("soft"), width: 1 },
    })),
    annotations: dimensions.flatMap((axis, place) => ticks(axis).map((value) => ({
      x: place, y: height(axis, value), text: String(named(axis, value)), showarrow: false, xanchor: "right", xshift: -6,
      font: font("soft", 11), bgcolor: color("card"),
    }))),
  });

  const points = (trace) => ({
    ...trace,
    line: { ...trace.line, color: color(trace.meta.color) },
    marker: { ...trace.marker, color: color(trace.meta.color) },
  });

  const axis = (given) => ({
    gridcolor: color("grid"), zeroline: false, linecolor: color("line"), automargin: true,
    title: { text: given.title, font: font("soft", 12), standoff: 8 },
  });

  const layout = (chart) => ({
    paper_bgcolor: color("card"), plot_bgcolor: color("card"), font: font("ink", 12),
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    ...(chart.columns ? axes(chart) : {
      margin: { l: 56, r: 16, t: 12, b: 44 }, xaxis: axis(chart.layout.xaxis), yaxis: axis(chart.layout.yaxis),
    }),
  });

  const draw = () => charts.forEach((chart) => Plotly.react(
    `chart-${chart.name}`, chart.columns ? lines(chart) : chart.data.map(points), layout(chart),
    { responsive: true, displayModeBar: false },
  ));

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
