// Colours are names of the style sheet's variables, so that one page serves light and dark.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  const paint = (trace) => ({
    ...trace,
    line: trace.line && { ...trace.line, color: color(trace.meta.color) },
    marker: { ...trace.marker, color: color(trace.meta.color) },
  });

  const axis = (given) => ({
    gridcolor: color("grid"), zerolinecolor: color("grid"), linecolor: color("line"), automargin: true,
    exponentformat: "none",  // 0.0006, not 600µ
    ...given,
    title: { text: (given || {}).title, font: { size: 12, color: color("soft") }, standoff: 8 },
  });

  const layout = (given) => ({
    ...given,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("ink") },
    margin: { l: 52, r: given.yaxis2 ? 52 : 12, t: 8, b: 44 },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 }, ...given.legend },
    hoverlabel: { font: { family: getComputedStyle(document.body).fontFamily } },
    xaxis: axis(given.xaxis), yaxis: axis(given.yaxis),
    ...(given.yaxis2 ? { yaxis2: axis(given.yaxis2) } : {}),
  });

  const draw = () => charts.forEach((chart) => Plotly.react(
    `chart-${chart.name}`, chart.data.map(paint), layout(chart.layout), { responsive: true, displayModeBar: false },
  ));

  const bar = document.querySelector(".contents");
  const links = [...bar.querySelectorAll("a")];
  const follow = () => {
    const passed = links.filter((link) => document.getElementById(link.hash.slice(1)).getBoundingClientRect().top < 90);
    const here = passed.at(-1);
    if (here === links.find((link) => link.classList.contains("here"))) return;
    links.forEach((link) => link.classList.toggle("here", link === here));
    if (here) bar.scrollTo({ left: here.offsetLeft - bar.clientWidth / 3 });
  };
  addEventListener("scroll", follow, { passive: true });

  // The service keeps one copy of the charts' program; after an upgrade its version may be another.
  const start = () => {
    draw();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  };
  const missing = () => document.querySelectorAll('[id^="chart-"]').forEach((place) => {
    place.textContent = "This page was saved without its charts. Fetch it with: retort download JOB report.html";
  });
  if (window.Plotly) {
    start();
  } else {
    const other = document.createElement("script");
    Object.assign(other, { crossOrigin: "anonymous", onload: start, onerror: missing });
    other.src = "../../../../static/plotly.min.js";
    document.head.append(other);
  }
  follow();
})();
