// The page of one run: its figures, how to repeat it, what is different in another, its curves.
const fact = (name, value) => value === undefined || value === null || value === "" || value === "–" ? null : el("tr", {}, el("td", { class: "label" }, name), el("td", {}, value));
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function factsOf(run) {
  const { text, mlperf, stated } = run.minutes, priced = (run.price ?? null) !== null;
  const counted = [[text, "without validation, epoch 1 as epoch 2"], [mlperf, "by MLPerf's rule"], [stated, "rule not stated"]].filter(([value]) => finite(value));
  return el("table", { id: "facts" },
    fact("kind", kindMark(run)), fact("id", run.id), fact("family", familyTitle(run)), fact("data", run.dataset), fact("model", run.model),
    fact("hardware", run.hardware), fact("top-1", finite(run.quality) ? `${percent(run.quality)} %` : run.kind === "own" ? "none that is finite" : ""), fact("printed as", run.bounds),
    fact("minutes", counted.map(([value, rule]) => `${figures(value, 4)} (${rule})`).join("; ")),
    fact("dollars", priced ? counted.map(([value, rule]) => `${figures(value / 60 * run.price)} (${rule})`).join("; ") : finite(run.cost) ? `${figures(run.cost)} (by its wall clock)` : ""), fact("energy", finite(run.energy_kwh) ? `${figures(run.energy_kwh)} kWh` : ""),
    fact("epochs", run.epochs && figures(run.epochs)), fact("resolution", run.resolution && `${run.resolution} px`), fact("seed", run.seed),
    fact("images/s", finite(run.images_per_s) ? figures(run.images_per_s) : ""), fact("methods", run.methods.join(", ")),
    fact("extrapolation", finite(run.extrapolation_error) ? `from its first 10 epochs the whole would have been predicted ${figures(Math.abs(100 * run.extrapolation_error), 2)} % too ${run.extrapolation_error < 0 ? "short" : "long"}` : ""),
    fact("state", run.finished ? "" : "not finished"), fact("notes", run.notes), fact("source", run.citation), fact("place", run.place),
    fact("pages", run.links && Object.entries(run.links).map(([name, href]) => [el("a", { href, target: "_blank", rel: "noopener", "data-page": name }, name.replace(".html", "")), " "]).flat()));
}

function drawRun() {
  const run = runsById.get(state.run);
  if (!run) return fill("run-body", el("p", {}, state.run ? `There is no run ${state.run} here.` : "Choose a run in the chart or in a table."));
  const others = data.runs.filter(one => one.id !== run.id && (one.kind === "own" || one.curve.epochs.length || one.dataset === run.dataset)).slice(0, 2000);
  const other = runsById.get(state.other);
  const choices = [["", "none"], ...others.map(one => [one.id, short(`${one.title} · ${one.id}`, 70)])];
  fill("run-body",
    el("h2", { id: "run-title" }, run.title),
    el("div", { class: "two" }, el("div", {}, factsOf(run)), el("div", {}, commandOf(run), el("div", { class: "bar" }, select("other", "Compare with", choices, state.other, value => change({ other: value }))))),
    el("div", { id: "differences" }, other ? differencesOf(run, other) : ""),
    el("div", { id: "curve-controls", class: "bar" }), el("div", { id: "curve", class: "plot small", role: "img" }),
    Object.keys(settingsOf(run)).length ? el("details", {}, el("summary", {}, "All settings"), el("table", { id: "settings" }, Object.entries(settingsOf(run)).map(([key, value]) => fact(key, JSON.stringify(value))))) : "");
  drawCurve([run, other].filter(one => one && one.curve.epochs.length));
}

function commandOf(run) {
  if (!run.command) return el("p", { class: "sub" }, run.kind === "published" ? "Published elsewhere: see the source." : "Its configuration is not known, so there is no command that repeats it.");
  const copy = el("button", { id: "copy", onclick: event => navigator.clipboard?.writeText(run.command).then(() => { event.target.textContent = "copied"; }) }, "Copy");
  return el("div", {}, el("p", { class: "sub" }, "To repeat it: "), el("pre", { id: "command" }, run.command), copy);
}

function differencesOf(run, other) {
  const [ours, theirs] = [settingsOf(run), settingsOf(other)];
  const rows = [...new Set([...Object.keys(ours), ...Object.keys(theirs)])].filter(key => key !== "output_dir" && !same(ours[key], theirs[key]))
    .map(key => [key, ours[key], theirs[key]]);
  const more = [["top-1 %", run.quality, other.quality], ["minutes", minutesOf(run), minutesOf(other)], ["hardware", run.hardware, other.hardware], ["methods", run.methods.join(", "), other.methods.join(", ")]]
    .filter(([, a, b]) => !same(a, b));
  const cell = value => value === undefined ? "–" : typeof value === "number" ? figures(value, 6) : typeof value === "string" ? value : JSON.stringify(value);
  return el("div", {}, el("h2", {}, "Differences"), el("table", { id: "difference-table" },
    el("thead", {}, el("tr", {}, ["", run.id, other.id].map(text => el("th", { scope: "col" }, short(text, 40))))),
    el("tbody", {}, [...more, ...rows].map(([key, a, b]) => el("tr", {}, el("td", { class: "label" }, key), el("td", {}, cell(a)), el("td", {}, cell(b)))))),
    more.length + rows.length ? "" : el("p", { class: "sub" }, "None."));
}

function drawCurve(runs) {
  if (!runs.length) return fill("curve", el("p", { class: "sub" }, "No curve is known."));
  fill("curve-controls", select("axis", "Curves against", [["epochs", "epochs"], ["minutes", "minutes with validation"]], state.axis, value => change({ axis: value })));
  const colours = [css("--worker"), css("--model")];
  const traces = runs.map((run, at) => ({ type: "scatter", mode: "lines+markers", name: plain(short(run.id, 40)), x: run.curve[state.axis], y: run.curve.quality,
    line: { color: colours[at], width: 2, dash: run.kind === "published" ? "dot" : "solid" }, marker: { size: 5 } }));
  byId("curve").setAttribute("aria-label", `Accuracy after each epoch of ${runs.map(run => run.title).join(" and ")}`);
  Plotly.newPlot("curve", traces, layoutOf(state.axis, { showlegend: runs.length > 1, margin: { l: 58, r: 16, t: 10, b: 46 } }), CONFIG);
}
