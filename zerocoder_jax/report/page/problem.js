// One problem of one step: its statement, its matrix, and the pair the reader looks at.

function problemView(problem, pair, onPair) {
  const panes = element("div", { class: "panes" });
  const verdict = element("p", { class: "verdict", "aria-live": "polite" });
  const mutants = element("section", { class: "mutants", "aria-label": "Mutants" });
  const { grid, show } = problem.solutions.length && problem.tests.length
    ? matrixGrid(problem, (s, t) => { showPair(s, t); onPair(s, t); })
    : { grid: element("p", { class: "muted" }, "No matrix: there are no solutions or no tests."), show: () => {} };

  function showPair(s, t) {
    const solution = problem.solutions[s];
    const test = problem.tests[t];
    if (solution && test) {
      show(s, t);
      const status = statusOf(problem.statuses?.[s]?.[t]);
      verdict.replaceChildren(`Solution ${s}, test ${t}: `, element("b", {}, status.words), `. ${capital(status.meaning)}.`);
    }
    panes.replaceChildren(
      ...(solution ? [solutionPane(problem, s)] : []),
      ...(test ? [testPane(problem, t)] : []));
    mutants.replaceChildren(...mutantList(problem, t));
  }

  const clamp = (value, count) => Math.min(Math.max(value, 0), Math.max(count - 1, 0));
  const [s, t] = pair ?? interestingPair(problem);
  showPair(clamp(s, problem.solutions.length), clamp(t, problem.tests.length));
  return [
    element("header", {}, element("h3", { tabindex: "-1" }, problem.task_id), problemChips(problem)),
    element("details", { open: true }, element("summary", {}, "Problem"), element("p", { class: "statement" }, problem.prompt ?? "")),
    element("div", {}, element("div", { class: "matrix-frame" }, grid), matrixLegend(problem)),
    verdict, panes, mutants,
  ];
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const chip = (text, kind = "") => element("span", { class: `chip ${kind}` }, text);

// Where to begin: the proxy or a selected solution, against a selected test.
function interestingPair(problem) {
  const first = (list) => Math.max(list.findIndex((one) => one.selected), 0);
  return [problem.proxy ?? first(problem.solutions), first(problem.tests)];
}

function problemChips(problem) {
  const selection = problem.selection ?? {};
  const number = (name, value) => (typeof value === "number" ? chip(`${name} ${short(value)}`) : null);
  return element("div", { class: "chips" },
    chip(`${problem.role === "tester" ? "Tester" : "Coder"}’s turn`),
    problem.entry_point ? chip(problem.entry_point) : chip("whole program"),
    number("rank", problem.rank),
    selection.name ? chip(`selector ${selection.name}`) : null,
    number("β₀", selection.beta0), number("α_xy", selection.alpha_xy),
    number("score", selection.score),
    selection.abstained ? chip("abstained", "warning") : number("confidence", selection.confidence),
    problem.calibration ? chip("labelled, for calibration", "warning") : null,
    problem.supervised ? chip("rewarded by labels", "warning") : null);
}

function sampleChips(sample, extra) {
  return element("div", { class: "chips" },
    sample.selected ? chip("selected", "strong") : null, ...extra,
    typeof sample.reward === "number" ? chip(`reward ${short(sample.reward)}`) : null,
    typeof sample.tokens === "number" ? chip(plural(sample.tokens, "token")) : null,
    sample.finished === false ? chip("cut off at the limit", "warning") : null,
    sample.reason ? chip(sample.reason.replaceAll("_", " "), "warning") : null);
}

const wholeReply = (sample) => element("details", {}, element("summary", {}, "Whole reply"), textBlock("Whole reply", sample.reply ?? ""));

function solutionPane(problem, s) {
  const solution = problem.solutions[s];
  return element("section", { class: "pane", "aria-label": `Solution ${s}` },
    element("h4", {}, `Solution ${s}`),
    sampleChips(solution, [problem.proxy === s ? chip("proxy", "strong") : null]),
    solution.code === null || solution.code === undefined
      ? element("p", { class: "note" }, "No solution could be taken from this reply.")
      : codeBlock(`Code of solution ${s}`, solution.code),
    wholeReply(solution));
}

function testPane(problem, t) {
  const sample = problem.tests[t];
  const extra = [
    sample.agrees === true ? chip("agrees with the proxy", "strong") : null,
    sample.agrees === false ? chip("does not agree with the proxy") : null,
    typeof sample.mutation === "number" ? chip(`kills ${percent(sample.mutation)} of the mutants`) : null,
  ];
  return element("section", { class: "pane", "aria-label": `Test ${t}` },
    element("h4", {}, `Test ${t}`), sampleChips(sample, extra), ...testBody(sample.test, t), wholeReply(sample));
}

function testBody(test, t) {
  const titled = (title, block) => [element("h5", {}, title), block];
  switch (test?.kind) {
    case "assert":
      return [codeBlock(`Code of test ${t}`, test.code)];
    case "stdio":
      return [...titled("Standard input", textBlock("Standard input", test.stdin)),
        ...titled("Expected output", textBlock("Expected output", test.stdout))];
    case "call":
      return [...titled("Arguments", codeBlock("Arguments", JSON.stringify(test.arguments))),
        ...titled("Expected value", codeBlock("Expected value", JSON.stringify(test.expected)))];
    default:
      return [element("p", { class: "note" }, "No test could be taken from this reply.")];
  }
}

const testNames = (indices) => indices.map((t) => `T${t}`).join(" ");

function mutantList(problem, t) {
  const title = element("h4", {}, "Mutants");
  const original = problem.solutions[problem.proxy]?.code;
  if (!problem.mutants?.length) {
    const reason = problem.role === "coder"
      ? "None were made: mutants count only in the Tester’s reward, and it was the Coder’s turn."
      : problem.selection?.abstained ? "None: without a consensus there is no proxy solution to mutate."
        : "None: no solution stands for the consensus, or it offers nothing to mutate.";
    return [title, element("p", { class: "muted" }, reason)];
  }
  const killed = problem.mutants.filter((mutant) => mutant.killed_by.length).length;
  const byThis = problem.mutants.filter((mutant) => mutant.killed_by.includes(t)).length;
  const whose = problem.proxy === null || problem.proxy === undefined ? "the reference solution" : `the proxy, solution ${problem.proxy}`;
  return [
    title,
    element("p", { class: "muted" }, `${plural(problem.mutants.length, "mutant")} of ${whose}; ${killed} killed by at least one test, ${byThis} by test ${t}.`),
    element("ul", { class: "mutant-list" }, ...problem.mutants.map((mutant, m) => mutantItem(mutant, m, t, original))),
  ];
}

function mutantItem(mutant, m, t, original) {
  const dead = mutant.killed_by.length > 0;
  const fate = dead ? `killed by ${testNames(mutant.killed_by)}`
    : mutant.surviving_of.length ? `survives ${testNames(mutant.surviving_of)}` : "no verdict";
  const here = mutant.killed_by.includes(t) ? `killed by T${t}` : mutant.surviving_of.includes(t) ? `survives T${t}` : `T${t} has no say`;
  return element("li", { class: dead ? "killed" : mutant.surviving_of.length ? "survived" : "" },
    element("div", { class: "fate" }, element("b", {}, `Mutant ${m}: ${fate}`), dead ? element("span", { class: "muted" }, here) : null),
    typeof original === "string" ? difference(original, mutant.code) : codeBlock(`Mutant ${m}`, mutant.code));
}
