// Steps and their problems: the index is in the page's head, the samples are unpacked on demand.

function startBrowser() {
  const steps = JSON.parse(byId("index").textContent); // [{step, role, problems: [summary, ...]}]
  const root = byId("browser");
  if (!root) return { openStep: () => {} };
  const number = byId("step-number");
  const slider = byId("step-slider");
  const search = byId("search");
  const list = byId("problem-list");
  const count = byId("problem-count");
  const view = byId("problem");
  const unpacked = new Map(); // the steps looked at last, so that going back costs nothing
  let at = steps.length - 1; // index into steps
  let problem = 0;
  let request = 0;
  let touched = false; // until the reader does something, the address stays as it was

  async function samples(index) {
    const { step } = steps[index];
    if (!unpacked.has(step)) {
      unpacked.set(step, JSON.parse(await inflate(`samples-of-${step}`)));
      if (unpacked.size > 4) unpacked.delete(unpacked.keys().next().value);
    }
    return unpacked.get(step);
  }

  async function open(index, chosen, pair, { focus = false } = {}) {
    const mine = ++request;
    at = index;
    problem = chosen;
    const { step } = steps[at];
    number.value = step;
    slider.value = at;
    slider.setAttribute("aria-valuetext", `step ${step}`);
    byId("step-before").disabled = at === 0;
    byId("step-after").disabled = at === steps.length - 1;
    showList();
    const problems = await samples(at);
    if (mine !== request) return; // the reader has gone on in the meantime
    const shown = problems[problem];
    if (!shown) {
      view.replaceChildren(element("p", { class: "muted" }, "This step has no problems."));
      return;
    }
    const place = (s, t) => {
      touched = true;
      remember(step, shown.task_id, s, t);
    };
    view.replaceChildren(...problemView(shown, pair, place));
    if (touched) place(...(pair ?? interestingPair(shown)));
    if (focus) view.querySelector("h3").focus();
    root.dataset.shown = `${step} ${problem}`;
  }

  // The address holds what is looked at, so that it can be copied to somebody else.
  function remember(step, task, s, t) {
    const place = new URLSearchParams({ step, task, pair: `${s},${t}` });
    history.replaceState(null, "", `#${place}`);
  }

  function showList() {
    const wanted = search.value.trim().toLowerCase();
    const found = [];
    if (wanted) {
      steps.forEach((one, index) => one.problems.forEach((summary, k) => {
        if (summary[0].toLowerCase().includes(wanted)) found.push([index, k]);
      }));
    } else {
      steps[at].problems.forEach((_, k) => found.push([at, k]));
    }
    const turn = steps[at].role ? `, ${steps[at].role === "tester" ? "Tester" : "Coder"}’s turn` : "";
    const most = 200;
    count.textContent = wanted
      ? `${plural(found.length, "match")}`.replace("matchs", "matches") + (found.length > most ? `, the first ${most} shown` : "")
      : `${plural(found.length, "problem")} of step ${steps[at].step}${turn}`;
    list.replaceChildren(...found.slice(0, most).map(([index, k]) => listItem(index, k, Boolean(wanted))));
  }

  function listItem(index, k, withStep) {
    const [task, share, rank, abstained, calibration, selected] = steps[index].problems[k];
    const meter = element("span", { class: "meter", "aria-hidden": "true" }, element("i"));
    meter.firstChild.style.width = percent(share ?? 0);
    const facts = [
      withStep ? `step ${steps[index].step}` : null,
      share === null ? null : `${percent(share)} pass`, typeof rank === "number" ? `rank ${rank}` : null,
      abstained ? "abstained" : `${selected} selected`, calibration ? "labelled" : null,
    ].filter(Boolean).join(" · ");
    const button = element("button", { type: "button", "aria-current": index === at && k === problem ? "true" : null },
      element("span", { class: "task" }, ...breakable(task)), meter, element("span", { class: "detail" }, facts));
    button.addEventListener("click", () => {
      touched = true;
      open(index, k, null).then(() => list.querySelector('[aria-current="true"]')?.focus());
    });
    return element("li", {}, button);
  }

  // A task id may go on in the next line behind a slash, rather than within a word.
  function breakable(task) {
    return task.split("/").flatMap((part, i) => (i ? ["/", element("wbr"), part] : [part]));
  }

  function nearest(step) {
    return steps.reduce((best, one, i) => (Math.abs(one.step - step) < Math.abs(steps[best].step - step) ? i : best), 0);
  }
  const move = (index, options) => {
    touched = true;
    search.value = "";
    return open(Math.min(Math.max(index, 0), steps.length - 1), 0, null, options);
  };

  byId("step-before").addEventListener("click", () => move(at - 1));
  byId("step-after").addEventListener("click", () => move(at + 1));
  number.addEventListener("change", () => move(nearest(Number(number.value))));
  slider.addEventListener("input", () => move(Number(slider.value)));
  search.addEventListener("input", showList);

  function openAddress() {
    const place = new URLSearchParams(location.hash.slice(1));
    const index = steps.findIndex((one) => one.step === Number(place.get("step")));
    if (!place.has("step") || index < 0) return false;
    const chosen = Math.max(steps[index].problems.findIndex(([task]) => task === place.get("task")), 0);
    const pair = (place.get("pair") ?? "").split(",").map(Number);
    touched = true;
    open(index, chosen, pair.length === 2 && pair.every(Number.isInteger) ? pair : null);
    return true;
  }
  window.addEventListener("hashchange", openAddress);
  if (openAddress()) root.scrollIntoView();
  else open(at, 0, null);

  return {
    openStep(step) {
      move(nearest(step), { focus: true });
      root.scrollIntoView();
    },
  };
}

startTheme();
const samplesBrowser = startBrowser();
startPlots(samplesBrowser.openStep);
