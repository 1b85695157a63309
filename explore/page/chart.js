// The picture: a point for each group of seeds. Published: open diamonds. Own: filled circles.
const PALETTE = ["#2f6fd0", "#d2591f", "#12896b", "#8a4fc7", "#b58900", "#c2263f", "#2298b5", "#7a5c3e", "#d0559b", "#5e8f1b",
  "#4a5fb0", "#a3622a", "#1f7a5c", "#6b6f78", "#9c3f74", "#3b8edb", "#e08a00", "#00a3a3", "#b23ad6", "#7d8c00", "#e0617a", "#3c6e71",
  "#8f8cd9", "#946b00"];
const FAMILIES = ["mild", "hot", "medium", "nvidia_hparams", "timm_a3", "timm_a2", "timm_a1", "pytorch_blog", "ffcv_tta", "nvidia_dle",
  "nvidia_mlperf", "mosaicml_mlperf_baseline"];
const SYMBOLS = { published: "diamond-open", own: "circle", unfinished: "circle-open-dot" };
const MANY = 1500, MOST_SHARES = 400;

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const canGl = (() => { try { return !!document.createElement("canvas").getContext("webgl"); } catch { return false; } })();

function colourOf(family) {
  const names = [...FAMILIES, ...Object.keys(data.families).filter(name => !FAMILIES.includes(name))];
  return PALETTE[Math.max(0, names.indexOf(family)) % PALETTE.length];
}

function pointText(group, share) {
  const { first } = group, seeds = group.runs.length;
  const lines = [`<b>${plain(first.title)}</b> (${KINDS[first.kind]}${group.finished ? "" : ", not finished"})`,
    `${percent(group.quality)} % in ${figures(group.cost)} ${AXES[state.x].title}${timed() ? `, ${ruleOf(first)}` : ""}`,
    plain(short([first.hardware, first.epochs ? `${figures(first.epochs)} epochs` : "", first.resolution ? `${first.resolution} px` : ""].filter(Boolean).join(", "), 80))];
  if (seeds > 1) lines.push(`mean of ${seeds} seeds, ${percent(Math.min(...group.qualities))} to ${percent(Math.max(...group.qualities))} %`);
  if (share !== undefined) lines.push(`on the frontier of all shown in ${Math.round(100 * share)} % of resamples`);
  if (first.citation) lines.push(plain(short(first.citation, 90)));
  return lines.join("<br>");
}

// Half the 95 % interval of the mean, over resampled seeds.
function spreads(groups, name) {
  return groups.map((group, at) => {
    if (group.runs.length < 2) return [0, 0];
    const span = interval(means([group], at).slice(1).map(row => row[name][0]));
    const centre = name === "costs" ? group.cost : group.quality;
    return span ? [span[1] - centre, centre - span[0]] : [0, 0];
  });
}

function pointTraces(groups, shares) {
  const parts = new Map(), many = groups.length > MANY, type = many && canGl ? "scattergl" : "scatter";
  groups.forEach((group, at) => {
    const look = group.first.kind === "published" ? "published" : group.finished ? "own" : "unfinished";
    const key = group.first.family + "\u0001" + look;
    if (!parts.has(key)) parts.set(key, { look, family: group.first.family, groups: [], shares: [] });
    parts.get(key).groups.push(group);
    parts.get(key).shares.push(shares?.[at]);
  });
  const order = [...Object.keys(data.families)];
  return [...parts.values()].sort((a, b) => b.groups.length - a.groups.length || order.indexOf(a.family) - order.indexOf(b.family)).map(part => {
    const colour = colourOf(part.family), words = { published: "published", own: "own runs", unfinished: "own, not finished" }[part.look];
    const trace = {
      type, mode: "markers", name: `${plain(short(data.families[part.family] ?? part.family, 30))} · ${words}`, legendgroup: part.family,
      x: part.groups.map(group => group.cost), y: part.groups.map(group => group.quality), customdata: part.groups.map(group => group.first.id),
      text: part.groups.map((group, at) => pointText(group, part.shares[at])), hovertemplate: "%{text}<extra></extra>",
      marker: { color: colour, symbol: SYMBOLS[part.look], size: part.look === "published" ? 10 : many ? 6 : 10, opacity: many ? 0.75 : 1,
        line: { width: part.look === "published" ? 2 : many ? 0 : 1.5, color: part.look === "own" ? css("--ink") : colour } },
    };
    if (!many && part.groups.some(group => group.runs.length > 1)) {
      for (const [axis, name] of [["error_x", "costs"], ["error_y", "qualities"]]) {
        const found = spreads(part.groups, name);
        trace[axis] = { type: "data", array: found.map(one => one[0]), arrayminus: found.map(one => one[1]), color: colour, thickness: 1.2, width: 4 };
      }
    }
    return trace;
  });
}

function line(groups, colour, extra) {
  const on = frontier(groups.map(group => group.cost), groups.map(group => group.quality)).map(at => groups[at]);
  return { type: "scatter", mode: "lines", x: on.map(group => group.cost), y: on.map(group => group.quality), hoverinfo: "skip",
    line: { color: colour, width: 1.6, dash: "dot" }, showlegend: false, ...extra };
}

function frontierTraces(groups) {
  if (state.front === "none") return [];
  const finished = groups.filter(group => group.finished);
  if (state.front === "all") {
    return finished.length ? [line(finished, css("--ink"), { name: "frontier of all shown", showlegend: true, line: { color: css("--ink"), width: 2.2 } })] : [];
  }
  return [...bySeries(groups).values()].filter(part => part.length > 1)
    .map(part => line(part, colourOf(part[0].first.family), { legendgroup: part[0].first.family,
      line: { color: colourOf(part[0].first.family), width: 1.6, dash: part[0].first.kind === "own" ? "solid" : "dot" } }));
}

function layoutOf(title, more = {}) {
  const ink = css("--ink"), grid = css("--line");
  const axis = { gridcolor: grid, zeroline: false, linecolor: css("--soft"), tickcolor: css("--soft"), automargin: true };
  return {
    paper_bgcolor: css("--card"), plot_bgcolor: css("--card"), font: { color: ink, size: 13, family: "system-ui, 'DejaVu Sans', sans-serif" },
    margin: { l: 62, r: 18, t: 32, b: 52 }, hovermode: "closest", hoverlabel: { align: "left", bgcolor: css("--page"), bordercolor: grid, font: { color: ink } },
    xaxis: { ...axis, title: { text: title } }, yaxis: { ...axis, title: { text: "top-1 accuracy in %" } },
    legend: { font: { size: 11.5 }, bgcolor: "rgba(0,0,0,0)", ...(innerWidth < 760 ? { orientation: "h", y: -0.2 } : {}) }, ...more,
  };
}
// Named one by one: a version of plotly brings buttons of its own, such as one that sends the chart to its makers.
const CONFIG = { displaylogo: false, responsive: true, modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]] };

// Shares take a bootstrap of all groups together: not for thousands.
const sharesOf = groups => {
  const finished = groups.filter(group => group.finished);
  if (finished.length > MOST_SHARES || !finished.some(group => group.runs.length > 1)) return null;
  const shares = new Map(frontierShares(finished).map((share, at) => [finished[at], share]));
  return groups.map(group => shares.get(group));
};

function drawChart(runs) {
  const groups = groupsOf(runs), place = byId("plot");
  const rule = timed() ? ` (${RULES.find(([key]) => key === state.rule)[1]})` : "";
  const layout = layoutOf(`${AXES[state.x].title}${rule}`);
  layout.xaxis.type = state.log === "1" ? "log" : "linear";
  const costs = groups.map(group => group.cost), decades = Math.log10(Math.max(...costs) / Math.min(...costs));
  if (state.log === "1") Object.assign(layout.xaxis, { dtick: decades < 1.2 ? "D1" : "D2", tickformat: "~g" });
  Plotly.react(place, [...frontierTraces(groups), ...pointTraces(groups, sharesOf(groups))], layout, CONFIG);
  if (!place.dataset.ready) {
    place.on("plotly_click", event => event.points[0].customdata !== undefined && change({ tab: "run", run: event.points[0].customdata, other: "" }));
    place.dataset.ready = "1";
  }
  const left = runs.length - groups.reduce((sum, group) => sum + group.runs.length, 0);
  const parts = [`${groups.length.toLocaleString("en")} points from ${(runs.length - left).toLocaleString("en")} runs.`];
  if (left) parts.push(`${left.toLocaleString("en")} of the filtered runs ${left === 1 ? "has" : "have"} no ${AXES[state.x].title} or no accuracy, ${left === 1 ? "gives only bounds, or is" : "give only bounds, or are"} not finished: see Runs.`);
  const rules = timed() ? [...new Set(groups.map(group => ruleOf(group.first)))] : [];
  if (rules.length > 1) parts.push(`Time is counted by ${rules.length} rules (${rules.join(", ")}); "Time counted" chooses one.`);
  if (state.x === "dollars") parts.push(data.prices.length ? `Prices: ${data.prices.map(price => `${price.hardware} $${price.usd_per_hour}/h (${price.date})`).join("; ")}.` : "No prices: give --prices FILE.");
  if (groups.length > MANY && !canGl) parts.push("This browser has no WebGL, so so many points are drawn slowly.");
  fill("plot-note", parts.join(" "));
  place.setAttribute("aria-label", `Top-1 accuracy against ${AXES[state.x].title}, ${groups.length} points. The tab Runs has them as a table.`);
}
