// Filters, groups of seeds, and series: what one curve consists of.
let data, runsById, settingsOf;

function takeIn(given) {
  data = given;
  Object.setPrototypeOf(data.families, null);  // a family may be called `constructor`
  runsById = new Map(data.runs.map(run => [run.id, run]));
  for (const run of data.runs) {
    run.minutes ||= {};
    run.methods ||= [];
    run.curve ||= { epochs: [], minutes: [], quality: [] };
    // A printed figure keeps its rule, also where a log gives the others; own runs follow the text's where they can.
    run.rule = run.printed_rule ?? ["text", "mlperf", "stated"].find(rule => finite(run.minutes[rule]));
    run.series = [run.family, run.hardware, run.kind, run.dataset, run.model].join("\u0001");
  }
  settingsOf = run => run.changed ? { ...data.usual, ...run.changed } : run.kind === "own" && run.command ? { ...data.usual } : {};
}

const RULES = [["any", "printed; own without validation"], ["text", "without validation, epoch 1 as epoch 2"], ["mlperf", "MLPerf: start to stop, with validation"]];
function minutesOf(run) {
  return run.minutes[state.rule === "any" ? run.rule : state.rule] ?? NaN;
}
const timed = () => state.x === "minutes" || state.x === "dollars";
const byOwnClock = run => state.x === "dollars" && (run.price ?? null) === null;
function ruleOf(run) {
  if (byOwnClock(run)) return "its wall clock";
  return { text: "without validation", mlperf: "MLPerf's rule", stated: "rule not stated" }[state.rule === "any" ? run.rule : state.rule] ?? "no time";
}
// Under one rule all times compare. Otherwise times counted by different rules are on different curves.
const seriesOf = run => timed() && state.rule === "any" ? run.series + "\u0001" + ruleOf(run) : run.series;
const AXES = {
  minutes: { title: "minutes", of: minutesOf },
  dollars: { title: "US dollars", of: run => (run.price ?? null) !== null ? minutesOf(run) / 60 * run.price : state.rule === "any" ? run.cost ?? NaN : NaN },
  epochs: { title: "epochs", of: run => run.epochs ?? NaN },
  energy: { title: "kWh", of: run => run.energy_kwh ?? NaN },
};
const costOf = run => AXES[state.x].of(run);
const usable = run => finite(run.quality) && costOf(run) > 0 && finite(costOf(run));

const UNKNOWN = "not known";
const resolutionOf = run => run.resolution ? String(run.resolution) : UNKNOWN;

function datasetShown() {
  if (state.dataset) return state.dataset;
  if (data.runs.some(run => run.dataset === data.dataset)) return data.dataset;
  const own = data.runs.filter(run => run.kind === "own"), counts = new Map();
  for (const run of own.length ? own : data.runs) counts.set(run.dataset, (counts.get(run.dataset) || 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? "";
}

// All filters but one, so that a filter can count what each of its choices would leave.
function passing(but = "") {
  const dataset = datasetShown(), find = state.find.toLowerCase();
  const tests = {
    dataset: run => dataset === "*" || run.dataset === dataset,
    kind: run => !state.kind || run.kind === state.kind,
    model: run => !state.model || run.model === state.model,
    res: run => !state.res || resolutionOf(run) === state.res,
    family: run => !state.family.length || state.family.includes(run.family),
    hw: run => !state.hw.length || state.hw.includes(run.hardware),
    methods: run => state.on.every(name => run.methods.includes(name)) && !state.off.some(name => run.methods.includes(name)),
    find: run => !find || [run.id, run.title, run.hardware, run.citation || "", run.place || ""].some(text => text.toLowerCase().includes(find)),
  };
  delete tests[but];
  const all = Object.values(tests);
  return data.runs.filter(run => all.every(test => test(run)));
}

// Runs that differ by their seed alone, as one point. An unfinished run stands alone.
function groupsOf(runs) {
  const found = new Map();
  for (const run of runs) {
    if (!usable(run) || (!run.finished && !state.unfinished)) continue;
    const key = state.seeds === "each" || !run.finished ? run.id : run.group + "\u0001" + seriesOf(run);
    let group = found.get(key);
    if (!group) found.set(key, group = { key, runs: [], costs: [], qualities: [] });
    group.runs.push(run);
    group.costs.push(costOf(run));
    group.qualities.push(run.quality);
  }
  return [...found.values()].map(group => {
    const [first] = group.runs;
    return { ...group, first, cost: mean(group.costs), quality: mean(group.qualities), series: seriesOf(first), finished: first.finished };
  });
}

function bySeries(groups) {
  const found = new Map();
  for (const group of groups) {
    if (!group.finished) continue;
    if (!found.has(group.series)) found.set(group.series, []);
    found.get(group.series).push(group);
  }
  return found;
}

const familyTitle = run => data.families[run.family] ?? run.family;
const KINDS = { published: "published", own: "own run" };
const mixedData = () => datasetShown() === "*";
// Other trainers' logs do not name their data.
const NAMELESS = "unknown data";
const namelessData = () => datasetShown() === NAMELESS && data.runs.filter(run => run.dataset === NAMELESS).length > 1;
function seriesTitle(run) {
  const parts = [familyTitle(run), run.hardware, run.kind === "own" ? "own runs" : "published"];
  if (mixedData()) parts.push(run.dataset);
  if (timed() && state.rule === "any") parts.push(ruleOf(run));
  return parts.join(" · ");
}

const USUAL_BASELINE = ["nvidia_hparams", "MosaicML Cloud 8xA100-80GB"];
function baselineShown(series) {
  if (state.base && series.has(state.base)) return state.base;
  const keys = [...series.keys()].sort((a, b) => series.get(b).length - series.get(a).length), stem = key => key.split("\u0001").slice(0, 5).join("\u0001");
  // A baseline chosen under another rule of time is still the reader's choice.
  const chosen = state.base && keys.find(key => stem(key) === stem(state.base));
  if (chosen) return chosen;
  const fits = parts => keys.find(key => parts.every((part, at) => key.split("\u0001")[at] === part));
  // Without it the series with the most lengths: only between them can be compared.
  return fits(USUAL_BASELINE) ?? fits(USUAL_BASELINE.slice(0, 1)) ?? keys[0] ?? "";
}
