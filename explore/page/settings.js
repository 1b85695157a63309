// Parallel coordinates: a line for each run through its settings, accuracy and cost.
const MOST_AXES = 14, NOT_SETTINGS = new Set(["seed", "output_dir", "data", "recipe"]);

// Settings that differ among the runs; those with the fewest values first, since they are what an experiment varies.
function varied(runs) {
  const values = new Map();
  for (const run of runs) {
    for (const [key, value] of Object.entries(settingsOf(run))) {
      if (NOT_SETTINGS.has(key)) continue;
      if (!values.has(key)) values.set(key, new Set());
      values.get(key).add(JSON.stringify(value));
    }
  }
  // A group that is off is one key with null; the axes of its keys say so already.
  const groups = new Set([...values.keys()].filter(key => key.includes(".")).map(key => key.slice(0, key.indexOf("."))));
  return [...values].filter(([key, found]) => !groups.has(key) && (found.size > 1 || runs.some(run => !(key in settingsOf(run)))))
    .sort((a, b) => a[1].size - b[1].size || a[0].localeCompare(b[0])).map(([key]) => key);
}

const NONE = "none";
// Numbers keep their order and place; other values, and numbers among them, stand one above the other.
function axisOf(name, given) {
  const label = plain(short(name, 26));
  if (given.every(finite)) return { label, values: given };
  const texts = given.map(value => value === undefined || value === null ? NONE : typeof value === "string" ? value : JSON.stringify(value));
  const order = [...new Set(texts)].sort((a, b) => (a === NONE ? -1 : b === NONE ? 1 : a.localeCompare(b, "en", { numeric: true })));
  return { label, values: texts.map(text => order.indexOf(text)), tickvals: order.map((_, at) => at), ticktext: order.map(text => plain(short(text, 22))), range: [-0.3, order.length - 0.7] };
}

function axesShown(runs, keys) {
  const fixed = [["epochs", run => run.epochs ?? NaN], ["px", run => run.resolution ?? NaN], [AXES[state.x].title, costOf], ["top-1 %", run => run.quality]];
  const chosen = state.axes.length ? state.axes : keys.slice(0, MOST_AXES - fixed.length);
  const settings = chosen.filter(key => keys.includes(key) && key !== "epochs" && key !== "train_resolution");
  return [...settings.map(key => axisOf(key, runs.map(run => settingsOf(run)[key]))), ...fixed.map(([title, of]) => [title, runs.map(of)])
    .filter(([, values]) => values.every(finite) && new Set(values).size > 1).map(([title, values]) => ({ label: title, values }))];
}

function drawSettings(given) {
  const known = given.filter(run => usable(run) && run.finished), runs = known.filter(run => Object.keys(settingsOf(run)).length);
  const shown = runs.length > 1 ? runs : known, keys = varied(shown), axes = axesShown(shown, keys);
  fill("settings-controls", keys.length ? manyOf("axes", "Settings shown", state.axes, new Map(keys.map(key => [key, shown.length])), key => key, value => change({ axes: value })) : "");
  const words = `${shown.length.toLocaleString("en")} ${runs.length > 1 ? "runs whose settings are known" : "runs"}, a line each${keys.length ? `; ${keys.length} settings differ` : ""}. Drag along an axis to keep the lines that cross there.`;
  if (shown.length < 2 || axes.length < 2) return nothing("Parallel coordinates need two runs that differ. Published points have no settings.");
  if (!canGl) return nothing("This browser has no WebGL, which parallel coordinates need. The table Runs has the figures, and a run's page its settings.");
  fill("settings-note", words);
  byId("coordinates").setAttribute("aria-label", `Parallel coordinates of ${axes.map(axis => axis.label).join(", ")}. The tab Runs has the figures as a table.`);
  const trace = { type: "parcoords", dimensions: axes, line: { color: shown.map(run => run.quality), colorscale: "Viridis", showscale: true, colorbar: { title: { text: "top-1 %" } } },
    labelangle: -20, labelside: "top", tickfont: { size: 12, color: css("--ink") }, labelfont: { size: 13, color: css("--ink") }, rangefont: { color: css("--soft") } };
  Plotly.react("coordinates", [trace], layoutOf("", { margin: { l: 90, r: 40, t: 110, b: 30 } }), { ...CONFIG, displayModeBar: false });
}

function nothing(words) {
  Plotly.purge("coordinates");
  fill("coordinates", el("p", { class: "sub" }, words));
  fill("settings-note", "");
}
