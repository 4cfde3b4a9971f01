// Draws the figures that come into view, with the plotting library that this page carries.

let library = null;

// The library is a megabyte of source: it is unpacked when the first plot comes into view.
// The page's security policy names the hash of exactly this text.
function plotLibrary() {
  library ??= inflate("plotly").then((source) => {
    document.head.append(element("script", {}, source));
    return window.Plotly;
  });
  return library;
}

// Replaces colour names such as "@coder" by the theme's colours, anywhere in a figure.
function colored(value) {
  if (typeof value === "string" && value.startsWith("@")) return color(value.slice(1));
  if (Array.isArray(value)) {
    return typeof value[0] === "number" ? value : value.map(colored);
  }
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, colored(item)]));
  }
  return value;
}

const legendLength = (figure) => figure.data.filter((trace) => trace.showlegend !== false).length;

// All steps with a little room at both ends, so that no point lies on an axis.
function stepRange(figure) {
  const steps = figure.data.flatMap((trace) => trace.x);
  const first = steps.reduce((a, b) => Math.min(a, b));
  const last = steps.reduce((a, b) => Math.max(a, b));
  const room = Math.max((last - first) * 0.02, 0.6);
  // A handful of steps get a tick each, instead of fractions of steps.
  const ticks = last - first <= 6 ? { dtick: 1 } : {};
  return { range: [first - room, last + room], ...ticks };
}

function layoutOf(figure) {
  const axis = {
    gridcolor: "@grid", linecolor: "@strong-line", zeroline: false, fixedrange: true,
    tickfont: { color: "@muted", size: 12 }, automargin: true,
  };
  const xaxis = {
    ...axis, showgrid: false, showline: true, ticks: "outside", tickcolor: "@strong-line",
    ticklen: 4, title: { text: "step", standoff: 6, font: { color: "@muted", size: 12 } },
    ...stepRange(figure),
  };
  return colored({
    ...figure.layout,
    xaxis: { ...xaxis, ...figure.layout.xaxis },
    yaxis: { ...axis, nticks: 6, ...figure.layout.yaxis },
    margin: { l: 44, r: 12, t: 8, b: 40 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: "@ink" },
    hovermode: "x unified",
    hoverlabel: { bgcolor: "@panel", bordercolor: "@strong-line", font: { color: "@ink" } },
    showlegend: legendLength(figure) > 1,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { color: "@ink", size: 12 }, traceorder: "normal" },
    bargap: 0.15,
  });
}

async function drawPlot(container, figure) {
  const plotly = await plotLibrary();
  const options = { displayModeBar: false, responsive: true };
  // A legend of many lines is paid for in height, not taken from the curves.
  const perLine = Math.max(Math.floor(container.clientWidth / 150), 1);
  const lines = Math.ceil(legendLength(figure) / perLine);
  const layout = { ...layoutOf(figure), height: 232 + 18 * Math.max(lines, 1) };
  await plotly.react(container, colored(figure.data), layout, options);
  container.dataset.drawn = "true";
}

// The numbers behind a plot, for readers who want them or cannot see it.
function tableOf(figure) {
  const traces = figure.data.filter((trace) => trace.hoverinfo !== "skip");
  const steps = [...new Set(traces.flatMap((trace) => trace.x))].sort((a, b) => a - b);
  const columns = traces.map((trace) => new Map(trace.x.map((step, i) => [step, trace.y[i]])));
  const head = element("tr", {}, element("th", { scope: "col" }, "step"),
    ...traces.map((trace) => element("th", { scope: "col" }, trace.name)));
  const rows = steps.map((step) => element("tr", {}, element("th", { scope: "row" }, step),
    ...columns.map((column) => element("td", {}, column.has(step) ? short(column.get(step)) : ""))));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
  return element("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Data of the plot" }, table);
}

// onStep is called with the step of a point that was clicked.
function startPlots(onStep) {
  const figures = JSON.parse(byId("figures").textContent);
  const drawn = new Set();
  const started = performance.now();
  const observer = new IntersectionObserver((entries) => {
    const visible = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
    const drawing = visible.map(async (container) => {
      observer.unobserve(container);
      const figure = figures[Number(container.dataset.figure)];
      await drawPlot(container, figure);
      drawn.add(container);
      container.on("plotly_click", (event) => onStep(event.points[0].x));
    });
    // For people who measure: milliseconds from opening the page to its first screen of plots.
    Promise.all(drawing).then(() => {
      document.documentElement.dataset.plotsReady ??= performance.now().toFixed(0);
      document.documentElement.dataset.scriptStarted ??= started.toFixed(0);
    });
  }, { rootMargin: "300px" });
  for (const container of document.querySelectorAll(".plot")) {
    observer.observe(container);
    const details = container.closest("figure").querySelector("details");
    details.addEventListener("toggle", () => {
      if (details.open && !details.querySelector("table")) {
        details.append(tableOf(figures[Number(container.dataset.figure)]));
      }
    });
  }
  themeListeners.push(() => {
    for (const container of drawn) drawPlot(container, figures[Number(container.dataset.figure)]);
  });
}
