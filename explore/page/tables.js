// The tables: time saved at equal quality, quality at equal time, all runs.
const openRun = (run, name = run.title) => el("button", { class: "plain name", "data-run": run.id, title: run.id, onclick: () => change({ tab: "run", run: run.id, other: "" }) }, short(name, 60));
const kindMark = run => el("span", { class: "kind " + run.kind }, KINDS[run.kind]);
const spanText = found => finite(found.low) ? `${figures(found.low)} to ${figures(found.high)}` : "–";

function comparisons(runs) {
  const groups = groupsOf(runs).filter(group => group.finished), series = bySeries(groups);
  const base = baselineShown(series), baseGroups = series.get(base) ?? [];
  if (!base) return { series, base, rows: [], qualities: [] };
  const hardware = baseGroups[0].first.hardware, ready = prepared(baseGroups);
  const here = group => state.cross === "1" || group.first.hardware === hardware;
  const saved = state.tab === "saved", ask = saved ? state.at : state.atcost, fixed = ask === "" ? null : Number(ask);
  const rule = saved ? timeSaved : qualityGained, ends = saved ? ready.curves[0].qualities : ready.curves[0].logs.map(Math.exp);
  const rows = [];
  const add = (members, first) => {
    const found = rule(ready, members, fixed);
    if (fixed !== null && !finite(found.candidate)) return;
    const otherwise = timed() && ruleOf(first) !== ruleOf(baseGroups[0].first) ? `the baseline's time: ${ruleOf(baseGroups[0].first)}` : "";
    rows.push({ ...found, first, name: fixed === null ? first.title : familyTitle(first), seeds: members.reduce((sum, group) => sum + group.runs.length, 0), isBase: members[0].series === base, note: why(found, ends, saved) || otherwise });
  };
  if (fixed === null) groups.filter(here).forEach(group => add([group], group.first));
  else if (fixed > 0) series.forEach(members => here(members[0]) && add(members, members[0].first));
  return { series, base, rows, ends, fixed };
}

function why(found, ends, saved) {
  if (finite(found.value)) return "";
  const unit = saved ? "%" : AXES[state.x].title, shown = saved ? percent : figures;
  if (found.at > ends[ends.length - 1]) return saved ? `the baseline stops at ${shown(ends[ends.length - 1])} ${unit}` : `the baseline's longest run has ${shown(ends[ends.length - 1])} ${unit}`;
  return saved ? `the baseline's shortest run reaches ${shown(ends[0])} ${unit} already` : `the baseline's shortest run takes ${shown(ends[0])} ${unit}`;
}

function comparisonColumns(saved) {
  const unit = AXES[state.x].title;
  const common = [
    { key: "recipe", title: "recipe", value: row => row.name, show: row => [openRun(row.first, row.name), row.isBase ? el("em", {}, " baseline") : ""] },
    { key: "kind", title: "kind", value: row => KINDS[row.first.kind], show: row => kindMark(row.first) },
    { key: "hardware", title: "hardware", value: row => row.first.hardware },
    { key: "seeds", title: "runs", number: true, value: row => row.seeds },
  ];
  const rule = state.rule === "any" && timed() ? [{ key: "rule", title: "time counted", value: row => ruleOf(row.first), show: row => el("span", { class: "sub" }, ruleOf(row.first)) }] : [];
  const quality = value => row => percent(value(row));
  const own = saved
    ? [
      { key: "at", title: "top-1 %", number: true, value: row => row.at, show: quality(row => row.at) },
      { key: "ours", title: unit, number: true, value: row => row.candidate, show: row => figures(row.candidate) },
      { key: "theirs", title: `baseline's ${unit}`, number: true, value: row => row.baseline, show: row => figures(row.baseline) },
      { key: "less", title: `${unit} saved`, number: true, value: row => row.baseline - row.candidate, show: row => figures(row.baseline - row.candidate) },
      { key: "value", title: "times faster", number: true, value: row => row.value, show: row => el("b", {}, finite(row.value) ? `${row.value.toPrecision(2 + (row.value >= 10))}×` : "–") },
    ]
    : [
      { key: "at", title: unit, number: true, value: row => row.at, show: row => figures(row.at) },
      { key: "ours", title: "top-1 %", number: true, value: row => row.candidate, show: quality(row => row.candidate) },
      { key: "theirs", title: "baseline's top-1 %", number: true, value: row => row.baseline, show: quality(row => row.baseline) },
      { key: "value", title: "points gained", number: true, value: row => row.value, show: row => el("b", {}, finite(row.value) ? `${row.value >= 0 ? "+" : "−"}${Math.abs(row.value).toFixed(2)}` : "–") },
    ];
  return [...common, ...own,
    { key: "low", title: "95 % interval", number: true, value: row => row.low, show: spanText }, ...rule,
    { key: "note", title: "", value: row => row.note, show: row => el("span", { class: "sub" }, row.note) }];
}

function drawComparison(runs) {
  const saved = state.tab === "saved", { series, base, rows, ends, fixed } = comparisons(runs), key = saved ? "at" : "atcost";
  const options = [...series].map(([key, members]) => [key, `${seriesTitle(members[0].first)} (${members.length})`]).sort((a, b) => a[1].localeCompare(b[1]));
  // The state has the exact value: a rounded one may lie outside the curve.
  const chips = (ends ?? []).map(value => ({ value: String(value), label: String(Number(saved ? value.toFixed(3) : value.toPrecision(4))) }));
  const unit = saved ? "%" : AXES[state.x].title;
  const input = el("input", { id: "at", type: "number", step: "any", min: "0", value: state[key], placeholder: "each one's own", onchange: event => change({ [key]: event.target.value }) });
  fill("compare-controls",
    options.length ? select("base", "Baseline", options, base, value => change({ base: value })) : el("p", {}, "No series to compare: change the filters."),
    el("label", {}, el("span", {}, saved ? "At a top-1 of (%)" : `At (${AXES[state.x].title})`), input),
    el("div", { class: "chips", role: "group", "aria-label": saved ? "qualities of the baseline" : "costs of the baseline" },
      chips.slice(0, 12).map(({ value, label }) => el("button", { class: "chip", "data-at": value, "aria-pressed": String(fixed !== null && Number(value) === fixed), onclick: () => change({ [key]: value }) }, `${label} ${unit}`)),
      el("button", { class: "chip", "data-at": "", "aria-pressed": String(fixed === null), onclick: () => change({ [key]: "" }) }, "each one's own")),
    check("cross", "also other hardware", state.cross === "1", on => change({ cross: on ? "1" : "" })));
  const columns = comparisonColumns(saved).filter(column => column.key !== "note" || rows.some(row => row.note));
  fill("compare-answer", answer(rows, saved, fixed));
  fill("compare-table", rows.length ? table("comparison", columns, rows, state.sort || "-value", sort => change({ sort })) : el("p", { class: "sub" }, fixed === null ? "Nothing to compare." : "No series has a figure there: curves are not extrapolated."));
  byId("compare-csv").onclick = () => download(saved ? "time-saved.csv" : "quality-gained.csv", "text/csv", csvText(exported(columns), sortedRows(columns, rows, state.sort || "-value")));
}

// One column shows both ends of the interval; a file has one for each.
const exported = columns => columns.flatMap(column => column.key !== "low" ? [{ ...column, title: column.title || "note" }]
  : [{ title: "95 % interval, low", value: row => row.low }, { title: "95 % interval, high", value: row => row.high }]);

function answer(rows, saved, fixed) {
  const best = rows.filter(row => finite(row.value) && !row.isBase).sort((a, b) => b.value - a.value)[0];
  if (!best) return "";
  const title = familyTitle(best.first), unit = AXES[state.x].title;
  const range = finite(best.low) ? ` (95 % interval ${spanText(best)})` : " (too few runs for an interval)";
  if (saved) return `${title} reaches ${percent(best.at)} % in ${figures(best.candidate)} ${unit}; the baseline takes ${figures(best.baseline)}, ${best.value.toPrecision(2 + (best.value >= 10))} times as much${range}.`;
  return `With ${figures(best.at)} ${unit}, ${title} reaches ${percent(best.candidate)} %, the baseline ${percent(best.baseline)} %${range}.`;
}

function runColumns(shares) {
  const unit = AXES[state.x].title;
  return [
    { key: "title", title: "run", value: run => run.title, show: run => openRun(run) },
    { key: "kind", title: "kind", value: run => KINDS[run.kind], show: kindMark },
    { key: "id", title: "id", value: run => run.id, show: run => short(run.id, 40) },
    { key: "family", title: "family", value: familyTitle, show: run => short(familyTitle(run), 30) },
    { key: "hardware", title: "hardware", value: run => run.hardware, show: run => short(run.hardware, 40) },
    { key: "dataset", title: "data", value: run => run.dataset, show: run => short(run.dataset, 24) },
    { key: "epochs", title: "epochs", number: true, value: run => run.epochs ?? NaN, show: run => figures(run.epochs) },
    { key: "resolution", title: "px", number: true, value: run => run.resolution ?? NaN },
    { key: "quality", title: "top-1 %", number: true, value: run => run.quality ?? NaN, show: run => percent(run.quality) },
    { key: "cost", title: unit, number: true, value: costOf, show: run => figures(costOf(run)) },
    { key: "images", title: "images/s", number: true, value: run => run.images_per_s ?? NaN, show: run => figures(run.images_per_s) },
    { key: "share", title: "on frontier", number: true, value: run => shares.get(run.id) ?? NaN, show: run => shares.has(run.id) ? `${Math.round(100 * shares.get(run.id))} %` : "–" },
    { key: "bounds", title: "", value: run => [run.finished ? "" : "not finished", run.bounds ? `printed as ${run.bounds}` : ""].filter(Boolean).join("; "), show: run => el("span", { class: "sub" }, [run.finished ? "" : "not finished", run.bounds ? `printed as ${run.bounds}` : ""].filter(Boolean).join("; ")) },
  ];
}

const EXPORTED = [
  ["id", run => run.id], ["kind", run => run.kind], ["family", run => run.family], ["recipe", run => run.title], ["data", run => run.dataset],
  ["model", run => run.model], ["hardware", run => run.hardware], ["resolution", run => run.resolution], ["epochs", run => run.epochs], ["seed", run => run.seed],
  ["top1", run => run.quality], ["minutes_without_validation", run => run.minutes.text], ["minutes_mlperf_rule", run => run.minutes.mlperf],
  ["minutes_rule_not_stated", run => run.minutes.stated], ["usd_per_hour", run => run.price], ["images_per_s", run => run.images_per_s],
  ["energy_kwh", run => run.energy_kwh], ["bounds", run => run.bounds], ["finished", run => run.finished], ["methods", run => run.methods.join(" ")],
  ["notes", run => run.notes], ["citation", run => run.citation], ["command", run => run.command],
].map(([title, value]) => ({ title, value }));

function drawRuns(runs) {
  const groups = groupsOf(runs).filter(group => group.finished), shares = new Map();
  const found = groups.length <= MOST_SHARES ? frontierShares(groups) : [];
  found.forEach((share, at) => groups[at].runs.forEach(run => shares.set(run.id, share)));
  fill("runs-table", runs.length ? table("runs", runColumns(shares), runs, state.sort || "-quality", sort => change({ sort })) : el("p", { class: "sub" }, "No run passes the filters."));
}
const exportRuns = runs => download("runs.csv", "text/csv", csvText(EXPORTED, runs));
