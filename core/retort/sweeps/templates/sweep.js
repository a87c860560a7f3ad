// Colours are names of the style sheet's variables, so that one page serves light and dark.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const family = getComputedStyle(document.body).fontFamily;
  const font = (name, size) => ({ family, size, color: color(name) });

  const lines = (trace) => ({
    ...trace,
    labelfont: font("ink", 13), tickfont: font("soft", 11), rangefont: font("soft", 11), labelside: "top",
    line: {
      ...trace.line, reversescale: trace.meta.reversed,
      colorscale: [[0, color("low")], [0.5, color("middle")], [1, color("high")]],
    },
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
    // Plotly gives the labels of axes a halo in the colour of the paper.
    paper_bgcolor: color("card"), plot_bgcolor: color("card"), font: font("ink", 12),
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    margin: chart.columns ? { l: 80, r: 80, t: 56, b: 28 } : { l: 56, r: 16, t: 12, b: 44 },
    ...(chart.columns ? {} : { xaxis: axis(chart.layout.xaxis), yaxis: axis(chart.layout.yaxis) }),
  });

  const draw = () => charts.forEach((chart) => Plotly.react(
    `chart-${chart.name}`, chart.data.map(chart.columns ? lines : points), layout(chart),
    { responsive: true, displayModeBar: false },
  ));

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
