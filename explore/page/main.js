// One function draws everything from `data` and `state`.
function applyTheme() {
  if (state.theme) document.documentElement.dataset.theme = state.theme;
  else delete document.documentElement.dataset.theme;
  const dark = state.theme ? state.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const button = byId("theme");
  button.textContent = dark ? "Light" : "Dark";
  button.onclick = () => change({ theme: dark ? "light" : "dark" });
}

function drawHead() {
  const published = data.runs.filter(run => run.kind === "published").length, own = data.runs.length - published;
  fill("sub", `${own.toLocaleString("en")} own runs, ${published.toLocaleString("en")} published points, each with its source · ${data.created}${data.serving ? " · refreshed while runs go on" : ""}`);
  const problems = data.problems;
  byId("problems").hidden = !problems.length;
  fill("problems", el("summary", {}, `${problems.length} ${problems.length === 1 ? "note" : "notes"} on the inputs`), el("ul", {}, problems.slice(0, 200).map(text => el("li", {}, text))));
}

function draw() {
  if (!Object.hasOwn(PANELS, state.tab)) state.tab = "chart";
  if (!Object.hasOwn(AXES, state.x)) state.x = "minutes";
  if (!["series", "all", "none"].includes(state.front)) state.front = "series";
  if (!["mean", "each"].includes(state.seeds)) state.seeds = "mean";
  if (!RULES.some(([key]) => key === state.rule)) state.rule = "any";
  if (!["epochs", "minutes"].includes(state.axis)) state.axis = "epochs";
  applyTheme();
  drawHead();
  drawFilters();
  drawTabs();
  drawMeasures();
  for (const panel of new Set(Object.values(PANELS))) byId(panel).hidden = panel !== PANELS[state.tab];
  byId("mixed").hidden = !mixedData();
  byId("nameless").hidden = !namelessData();
  byId("measures").hidden = state.tab === "run";
  const runs = passing();
  byId("runs-csv").onclick = () => exportRuns(runs);
  if (state.tab === "chart") drawChart(runs);
  else if (state.tab === "hosts") drawHosts(runs);
  else if (state.tab === "settings") drawSettings(runs);
  else if (state.tab === "runs") drawRuns(runs);
  else if (state.tab === "run") drawRun();
  else drawComparison(runs);
}

function exportPicture() {
  Plotly.downloadImage("plot", { format: "png", width: 1200, height: 720, scale: 2, filename: "accuracy" });
}

let tag = "";
async function refresh() {
  try {
    const answer = await fetch("data.json", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    byId("lost").hidden = true;
    if (answer.status !== 200) return;
    tag = answer.headers.get("ETag") ?? "";
    takeIn(await answer.json());
    draw();
  } catch {
    byId("lost").hidden = false;
  }
}

performance.mark("read");
takeIn(JSON.parse(byId("data").textContent));
byId("png").onclick = exportPicture;
addEventListener("hashchange", () => { state = readState(); draw(); });
addEventListener("popstate", () => { state = readState(); draw(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
document.documentElement.dataset.drawn = String(Math.round(performance.now()));
if (data.serving) setInterval(refresh, 3000);
