// The same accelerators fed by different hosts: what the processor costs.
function hostRows(runs) {
  const found = new Map();
  for (const run of runs) {
    if (!run.accelerators || !run.host || (!run.finished && !state.unfinished)) continue;
    if (!finite(costOf(run)) && !finite(run.images_per_s)) continue;
    // One source's rounds share their software. MLPerf's systems train to one accuracy, whatever their recipe's name.
    const what = run.kind === "own" ? run.group : (run.place ?? "").startsWith("mlperf") ? run.place : [run.place, run.title, run.epochs].join("\u0002");
    const key = [run.accelerators, run.family, run.dataset, run.model, what, timed() && finite(costOf(run)) ? ruleOf(run) : ""].join("\u0001");
    if (!found.has(key)) found.set(key, new Map());
    const hosts = found.get(key), machine = run.host + "\u0001" + (run.kind === "own" ? "" : run.hardware);
    if (!hosts.has(machine)) hosts.set(machine, []);
    hosts.get(machine).push(run);
  }
  return [...found].flatMap(([key, hosts]) => new Set([...hosts.values()].map(([run]) => run.host)).size > 1 ? hostsCompared(key, [...hosts.values()]) : []);
}

const meanOf = values => { const known = values.filter(finite); return known.length ? mean(known) : NaN; };
function hostsCompared(key, machines) {
  const rows = machines.map(runs => ({ key, first: runs[0], runs, cost: meanOf(runs.map(costOf)), rate: meanOf(runs.map(run => run.images_per_s ?? NaN)) }));
  const costs = rows.map(row => row.cost).filter(finite), rates = rows.map(row => row.rate).filter(finite);
  for (const row of rows) {
    // By cost where all have one; a rate alone, as in the reference text's Table 3, compares too.
    row.share = costs.length === rows.length ? Math.min(...costs) / row.cost : rates.length > 1 ? row.rate / Math.max(...rates) : NaN;
  }
  return rows.sort((a, b) => b.share - a.share);
}

function hostColumns() {
  return [
    { key: "gpus", title: "accelerators", value: row => row.first.accelerators },
    { key: "recipe", title: "recipe", value: row => familyTitle(row.first), show: row => openRun(row.first, familyTitle(row.first)) },
    { key: "source", title: "source", value: row => row.first.kind === "own" ? "own runs" : row.first.place },
    { key: "host", title: "host", value: row => row.first.host },
    { key: "hardware", title: "machine", value: row => row.first.hardware, show: row => short(row.first.hardware, 60) },
    { key: "runs", title: "runs", number: true, value: row => row.runs.length },
    { key: "cost", title: AXES[state.x].title, number: true, value: row => row.cost, show: row => figures(row.cost, 4) },
    { key: "rate", title: "images/s", number: true, value: row => row.rate, show: row => figures(row.rate, 5) },
    { key: "share", title: "speed of the fastest", number: true, value: row => row.share, show: row => el("b", {}, finite(row.share) ? `${Math.round(100 * row.share)} %` : "–") },
  ];
}

function drawHosts(runs) {
  const rows = hostRows(runs).sort((a, b) => b.first.accelerators.localeCompare(a.first.accelerators) || a.key.localeCompare(b.key) || b.share - a.share), columns = hostColumns();
  fill("hosts-note", "Rows with one recipe, one source and the same accelerators, on hosts with different processors. MLPerf's systems differ in more than the processor: tuning, memory, cooling.");
  fill("hosts-table", rows.length ? table("hosts", columns, rows, state.sort || "-gpus", sort => change({ sort })) : el("p", { class: "sub" }, "No two hosts with the same accelerators pass the filters."));
  byId("hosts-csv").onclick = () => download("hosts.csv", "text/csv", csvText(columns, sortedRows(columns, rows, state.sort || "-gpus")));
}
