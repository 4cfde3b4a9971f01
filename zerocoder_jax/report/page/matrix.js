// The passing matrix: a grid that is walked with the arrow keys, a row for each solution and a
// column for each test.

// Status -> what stands in the cell, and what it means. A check and a cross are drawn, since not
// every font has them.
const CHECK = "M3 8.5 L6.5 12 L13 4.5";
const CROSS = "M4 4 L12 12 M12 4 L4 12";
const STATUSES = {
  PASSED: { path: CHECK, words: "passed", meaning: "the test passes" },
  FAILED: { path: CROSS, words: "failed", meaning: "the result is not what the test expects" },
  ERROR: { letter: "E", words: "error", meaning: "an exception was raised" },
  TIMEOUT: { letter: "T", words: "timeout", meaning: "no result within the time limit" },
  MEMORY: { letter: "M", words: "memory", meaning: "more memory was wanted than allowed" },
  OUTPUT: { letter: "O", words: "output", meaning: "more was printed than allowed" },
  CRASHED: { letter: "C", words: "crashed", meaning: "the process ended without a verdict" },
  FORBIDDEN: { letter: "F", words: "forbidden", meaning: "something was tried that the sandbox forbids" },
  UNPARSABLE: { letter: "–", words: "unparsable", meaning: "the reply holds no solution or no test" },
  UNAVAILABLE: { letter: "?", words: "unavailable", meaning: "the verifier could not say; nobody is blamed" },
  NOT_RUN: { letter: "·", words: "not run", meaning: "this pair was not run" },
  VACUOUS: { letter: "V", words: "vacuous", meaning: "the test passes whatever a solution returns" },
};
const UNKNOWN = { letter: "?", words: "unknown", meaning: "a status this page does not know" };

const statusName = (name) => (Object.hasOwn(STATUSES, name) ? name : "UNKNOWN");
const statusOf = (name) => (Object.hasOwn(STATUSES, name) ? STATUSES[name] : UNKNOWN);
const sign = (status) => (status.path ? symbol(status.path) : status.letter);

function rowHeader(problem, s) {
  const solution = problem.solutions[s];
  const words = [
    `solution ${s}`, solution.selected ? "selected" : null,
    problem.proxy === s ? "proxy" : null,
    typeof solution.reward === "number" ? `reward ${short(solution.reward)}` : null,
  ].filter(Boolean);
  return element("th", { scope: "row", class: solution.selected ? "selected" : "", title: words.join(", ") },
    element("span", { class: "hidden" }, words.join(", ")),
    element("span", { "aria-hidden": "true" },
      problem.proxy === s ? element("small", {}, "proxy ") : null,
      typeof solution.reward === "number" ? element("small", {}, `r ${short(solution.reward)} `) : null,
      element("span", { class: "label" }, `S${s}`)));
}

function columnHeader(problem, t) {
  const test = problem.tests[t];
  const words = [
    `test ${t}`, test.selected ? "selected" : null,
    test.agrees === true ? "agrees with the proxy" : test.agrees === false ? "does not agree with the proxy" : null,
    typeof test.mutation === "number" ? `kills ${percent(test.mutation)} of the mutants` : null,
    typeof test.reward === "number" ? `reward ${short(test.reward)}` : null,
  ].filter(Boolean);
  return element("th", { scope: "col", class: test.selected ? "selected" : "", title: words.join(", ") },
    element("span", { class: "hidden" }, words.join(", ")),
    element("span", { "aria-hidden": "true" }, element("span", { class: "label" }, `T${t}`),
      ...(typeof test.reward === "number" ? [element("br"), element("small", {}, `r ${short(test.reward)}`)] : [])));
}

// onPair(s, t) is called when the reader goes to a cell. Returns the grid and a function that
// shows a pair as the chosen one.
function matrixGrid(problem, onPair) {
  const rows = problem.solutions.length;
  const columns = problem.tests.length;
  const cells = [];
  const rowHeads = problem.solutions.map((_, s) => rowHeader(problem, s));
  const columnHeads = problem.tests.map((_, t) => columnHeader(problem, t));
  const body = problem.solutions.map((solution, s) => {
    cells.push(problem.tests.map((test, t) => {
      const name = problem.statuses?.[s]?.[t];
      const consensus = solution.selected && test.selected;
      return element("td", {
        role: "gridcell", tabindex: "-1", "aria-selected": "false",
        class: `status-${statusName(name)}${consensus ? " consensus" : ""}`,
        "aria-label": `solution ${s}, test ${t}: ${statusOf(name).words}${consensus ? ", in the consensus" : ""}`,
      }, sign(statusOf(name)));
    }));
    return element("tr", { role: "row" }, rowHeads[s], ...cells[s]);
  });
  const grid = element("table", { class: "matrix", role: "grid", "aria-label": `Passing matrix: ${plural(rows, "solution")}, ${plural(columns, "test")}. Arrow keys move between pairs.` },
    element("thead", {}, element("tr", { role: "row" }, element("td"), ...columnHeads)),
    element("tbody", {}, ...body));
  for (const head of columnHeads) head.setAttribute("role", "columnheader");
  for (const head of rowHeads) head.setAttribute("role", "rowheader");

  let chosen = null;
  const show = (s, t) => {
    if (chosen) {
      const old = cells[chosen[0]][chosen[1]];
      old.setAttribute("aria-selected", "false");
      old.tabIndex = -1;
      rowHeads[chosen[0]].classList.remove("chosen");
      columnHeads[chosen[1]].classList.remove("chosen");
    }
    chosen = [s, t];
    cells[s][t].setAttribute("aria-selected", "true");
    cells[s][t].tabIndex = 0;
    rowHeads[s].classList.add("chosen");
    columnHeads[t].classList.add("chosen");
  };
  const go = (s, t) => {
    cells[s][t].focus();
    onPair(s, t);
  };
  const place = (target) => {
    for (let s = 0; s < rows; s++) {
      const t = cells[s].indexOf(target.closest("td"));
      if (t >= 0) return [s, t];
    }
    return null;
  };
  grid.addEventListener("click", (event) => {
    const at = place(event.target);
    if (at) go(...at);
  });
  grid.addEventListener("keydown", (event) => {
    const at = place(event.target);
    if (!at || event.altKey || event.metaKey) return;
    const [s, t] = at;
    const last = { row: rows - 1, column: columns - 1 };
    const target = {
      ArrowUp: [Math.max(s - 1, 0), t], ArrowDown: [Math.min(s + 1, last.row), t],
      ArrowLeft: [s, Math.max(t - 1, 0)], ArrowRight: [s, Math.min(t + 1, last.column)],
      Home: event.ctrlKey ? [0, 0] : [s, 0], End: event.ctrlKey ? [last.row, last.column] : [s, last.column],
      Enter: [s, t], " ": [s, t],
    }[event.key];
    if (!target) return;
    event.preventDefault();
    go(...target);
  });
  return { grid, show };
}

function matrixLegend(problem) {
  const counts = new Map();
  for (const name of (problem.statuses ?? []).flat()) counts.set(statusName(name), (counts.get(statusName(name)) ?? 0) + 1);
  const items = [...counts].sort((a, b) => b[1] - a[1]).map(([name, count]) => element("li", { title: statusOf(name).meaning },
    element("span", { class: `swatch status-${name}`, "aria-hidden": "true" }, sign(statusOf(name))),
    `${statusOf(name).words} ${count}`));
  if (problem.solutions.some((one) => one.selected)) {
    items.push(element("li", {}, element("span", { class: "swatch ring", "aria-hidden": "true" }), "consensus"));
  }
  if ([...problem.solutions, ...problem.tests].some((one) => typeof one.reward === "number")) {
    items.push(element("li", {}, "r: reward"));
  }
  return element("ul", { class: "legend", "aria-label": "Meaning of the cells" }, ...items);
}
