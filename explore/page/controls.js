// Filters and tabs.
const countsOf = (runs, key) => {
  const found = new Map();
  for (const run of runs) found.set(key(run), (found.get(key(run)) || 0) + 1);
  return found;
};
const TABS = [["chart", "Accuracy against cost"], ["saved", "Time saved at equal quality"], ["gained", "Quality at equal time"], ["hosts", "Same GPUs, other CPUs"], ["settings", "Settings"], ["runs", "Runs"], ["run", "Run"]];

function drawTabs() {
  fill("tabs", TABS.map(([key, title]) => el("button", { role: "tab", id: "tab-" + key, "aria-selected": String(state.tab === key), "aria-controls": PANELS[key], tabindex: state.tab === key ? "0" : "-1",
    onclick: () => change({ tab: key, sort: "" }), onkeydown: event => moveTab(event, key) }, key === "gained" && state.x !== "minutes" ? `Quality at equal ${AXES[state.x].title}` : key === "saved" && state.x !== "minutes" ? `${AXES[state.x].title} saved at equal quality` : title)));
}
const PANELS = { chart: "panel-chart", saved: "panel-compare", gained: "panel-compare", hosts: "panel-hosts", settings: "panel-settings", runs: "panel-runs", run: "panel-run" };

function moveTab(event, key) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const at = TABS.findIndex(([name]) => name === key), [next] = TABS[(at + step + TABS.length) % TABS.length];
  change({ tab: next, sort: "" });
  byId("tab-" + next).focus();
}

function manyOf(id, title, chosen, counts, titleOf, apply) {
  const open = byId(id)?.open ?? false;
  const names = [...new Set([...counts.keys(), ...chosen])].sort((a, b) => (counts.get(b) || 0) - (counts.get(a) || 0) || String(titleOf(a)).localeCompare(String(titleOf(b))));
  const toggle = (name, on) => apply(on ? [...chosen, name] : chosen.filter(one => one !== name));
  return el("details", { id, class: "pick", open }, el("summary", {}, el("span", {}, title), el("b", {}, chosen.length ? `${chosen.length} chosen` : "all")),
    el("div", { class: "list" }, chosen.length ? el("button", { onclick: () => apply([]) }, "all") : "",
      names.map(name => el("label", { class: "tick" }, el("input", { type: "checkbox", value: name, checked: chosen.includes(name), onchange: event => toggle(name, event.target.checked) }),
        short(titleOf(name), 46), el("i", {}, String(counts.get(name) || 0))))));
}

function methodsPick() {
  const open = byId("methods")?.open ?? false, names = [...new Set(data.runs.flatMap(run => run.methods))].sort();
  const chosen = state.on.length + state.off.length;
  const set = (name, value) => change({ on: [...state.on.filter(one => one !== name), ...(value === "on" ? [name] : [])], off: [...state.off.filter(one => one !== name), ...(value === "off" ? [name] : [])] });
  return el("details", { id: "methods", class: "pick", open }, el("summary", {}, el("span", {}, "Methods"), el("b", {}, chosen ? `${chosen} chosen` : "all")),
    el("div", { class: "list" }, chosen ? el("button", { onclick: () => change({ on: [], off: [] }) }, "all") : "",
      names.map(name => select("method-" + name, name, [["", "any"], ["on", "on"], ["off", "off"]], state.on.includes(name) ? "on" : state.off.includes(name) ? "off" : "", value => set(name, value)))));
}

function drawFilters() {
  const focused = document.activeElement?.id, all = data.runs;
  const datasets = [...countsOf(all, run => run.dataset)].map(([name, count]) => [name, `${short(name, 30)} (${count})`]);
  const models = [...countsOf(passing("model"), run => run.model)].sort((a, b) => b[1] - a[1]).map(([name, count]) => [name, `${short(name, 30)} (${count})`]);
  const sizes = [...countsOf(passing("res"), resolutionOf)].sort((a, b) => parseInt(a[0]) - parseInt(b[0])).map(([name, count]) => [name, `${name}${name === UNKNOWN ? "" : " px"} (${count})`]);
  const kinds = countsOf(passing("kind"), run => run.kind);
  fill("filters",
    el("label", {}, el("span", {}, "Find"), el("input", { id: "find", type: "search", value: state.find, placeholder: "recipe, hardware, source", oninput: event => change({ find: event.target.value }) })),
    select("dataset", "Data set", [...datasets, ...(datasets.length > 1 ? [["*", "all, mixed"]] : [])], datasetShown(), value => change({ dataset: value })),
    select("kind", "Kind", [["", "published and own"], ["published", `published (${kinds.get("published") || 0})`], ["own", `own runs (${kinds.get("own") || 0})`]], state.kind, value => change({ kind: value })),
    manyOf("family", "Recipes", state.family, countsOf(passing("family"), run => run.family), name => data.families[name] ?? name, value => change({ family: value })),
    methodsPick(),
    manyOf("hw", "Hardware", state.hw, countsOf(passing("hw"), run => run.hardware), name => name, value => change({ hw: value })),
    select("res", "Resolution", [["", "all"], ...sizes], state.res, value => change({ res: value })),
    select("model", "Model", [["", "all"], ...models], state.model, value => change({ model: value })),
    el("button", { id: "reset", onclick: () => change({ ...DEFAULTS, tab: state.tab, theme: state.theme, run: state.run }) }, "Reset"));
  if (focused && focused !== document.activeElement?.id) {
    const again = byId(focused);
    again?.focus();
    if (focused === "find") again.setSelectionRange(again.value.length, again.value.length);
  }
}

function drawMeasures() {
  const axes = Object.entries(AXES).filter(([key]) => key !== "energy" || data.runs.some(run => finite(run.energy_kwh)));
  fill("measures",
    select("x", "Cost", axes.map(([key, axis]) => [key, axis.title]), state.x, value => change({ x: value })),
    timed() ? select("rule", "Time counted", RULES, state.rule, value => change({ rule: value })) : "",
    ["hosts", "settings"].includes(state.tab) ? "" : select("seeds", "Seeds", [["mean", "their mean"], ["each", "each run"]], state.seeds, value => change({ seeds: value })),
    state.tab === "chart" ? select("front", "Frontier", [["series", "of each recipe and machine"], ["all", "of all shown"], ["none", "none"]], state.front, value => change({ front: value })) : "",
    state.tab === "chart" ? check("log", "logarithmic", state.log === "1", on => change({ log: on ? "1" : "0" })) : "",
    state.tab === "chart" ? check("unfinished", "unfinished runs", state.unfinished === "1", on => change({ unfinished: on ? "1" : "" })) : "");
}
