// The arithmetic of fastpipe.efficiency (frontier.py, resampling.py, savings.py), for the reader's filters.
// tests/explore/test_parity.py compares the two: same draws, same numbers.
const REPEATS = 400, COVERAGE = 0.95, FEWEST_INSIDE = 0.9;

const finite = Number.isFinite;

function frontier(costs, qualities) {
  const usable = [];
  for (let at = 0; at < costs.length; at++) if (finite(costs[at]) && finite(qualities[at])) usable.push(at);
  usable.sort((a, b) => costs[a] - costs[b] || qualities[b] - qualities[a] || a - b);
  const kept = [];
  for (const at of usable) {
    if (!kept.length || qualities[at] > qualities[kept[kept.length - 1]]) kept.push(at);
  }
  return kept;
}

function mixed(x) {
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

function hashed(...words) {
  let state = 0;
  for (const word of words) state = mixed(state ^ word);
  return state;
}

const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;

// Means of groups {costs, qualities}: row 0 of all seeds, then one row for each resample.
function means(groups, first = 0, repeats = REPEATS, seed = 0) {
  const rows = Array.from({ length: repeats + 1 }, () => ({ costs: [], qualities: [] }));
  groups.forEach((group, place) => {
    const size = group.costs.length;
    rows[0].costs.push(mean(group.costs));
    rows[0].qualities.push(mean(group.qualities));
    for (let repeat = 1; repeat <= repeats; repeat++) {
      if (size === 1) {
        rows[repeat].costs.push(group.costs[0]);
        rows[repeat].qualities.push(group.qualities[0]);
        continue;
      }
      let cost = 0, quality = 0;
      for (let at = 0; at < size; at++) {
        const taken = Math.floor(hashed(seed, first + place, repeat, at) * size / 4294967296);
        cost += group.costs[taken];
        quality += group.qualities[taken];
      }
      rows[repeat].costs.push(cost / size);
      rows[repeat].qualities.push(quality / size);
    }
  });
  return rows;
}

function quantile(sorted, share) {
  const at = share * (sorted.length - 1), below = Math.floor(at), above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

function interval(values) {
  const inside = values.filter(finite).sort((a, b) => a - b);
  if (!inside.length || inside.length < FEWEST_INSIDE * values.length) return null;
  if (inside[0] === inside[inside.length - 1]) return null;
  const tail = (1 - COVERAGE) / 2;
  return [quantile(inside, tail), quantile(inside, 1 - tail)];
}

function frontierShares(groups, repeats = REPEATS, seed = 0) {
  const counts = groups.map(() => 0);
  means(groups, 0, repeats, seed).slice(1).forEach(row => {
    for (const at of frontier(row.costs, row.qualities)) counts[at]++;
  });
  return counts.map(count => count / repeats);
}

// The points of a curve, by rising cost and quality, ready to be asked many times.
function curveOf(costs, qualities) {
  const on = frontier(costs, qualities);
  return { logs: on.map(at => Math.log(costs[at])), qualities: on.map(at => qualities[at]) };
}

function interpolated(x, y, at) {
  const slack = 1e-9 * Math.max(1, Math.abs(at)), last = x.length - 1;
  if (!x.length || !(at >= x[0] - slack && at <= x[last] + slack)) return NaN;
  if (at <= x[0]) return y[0];
  if (at >= x[last]) return y[last];
  let low = 0, high = last;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x[middle] <= at) low = middle; else high = middle;
  }
  return y[low] + (at - x[low]) * (y[high] - y[low]) / (x[high] - x[low]);
}

const costAtQuality = (curve, quality) => Math.exp(interpolated(curve.qualities, curve.logs, quality));
const qualityAtCost = (curve, cost) => interpolated(curve.logs, curve.qualities, Math.log(cost));

// A baseline (or a candidate) with the curves of its resamples; groups without spread give one curve.
function prepared(groups, first = 0, repeats = REPEATS, seed = 0) {
  const varies = groups.some(group => group.costs.length > 1);
  const rows = means(groups, first, varies ? repeats : 0, seed);
  const curves = rows.map(row => curveOf(row.costs, row.qualities));
  return { size: groups.length, rows, curves, row: at => rows[varies ? at : 0], curve: at => curves[varies ? at : 0], varies };
}

function compared(baseline, candidate, repeats, pair) {
  const first = pair(0);
  const found = { value: first.value, low: NaN, high: NaN, baseline: first.baseline, candidate: first.candidate, at: first.at };
  if (finite(found.value) && (baseline.varies || candidate.varies)) {
    const values = [];
    for (let repeat = 1; repeat <= repeats; repeat++) values.push(pair(repeat).value);
    const span = interval(values);
    if (span) [found.low, found.high] = span;
  }
  return found;
}

// baseline: prepared(groups). candidate: groups; without `quality` a single one.
function timeSaved(baseline, groups, quality = null, repeats = REPEATS, seed = 0) {
  const candidate = prepared(groups, baseline.size, repeats, seed);
  return compared(baseline, candidate, repeats, repeat => {
    const at = quality === null ? candidate.row(repeat).qualities[0] : quality;
    const needed = costAtQuality(baseline.curve(repeat), at);
    const spent = quality === null ? candidate.row(repeat).costs[0] : costAtQuality(candidate.curve(repeat), at);
    return { value: needed / spent, baseline: needed, candidate: spent, at };
  });
}

function qualityGained(baseline, groups, cost = null, repeats = REPEATS, seed = 0) {
  const candidate = prepared(groups, baseline.size, repeats, seed);
  return compared(baseline, candidate, repeats, repeat => {
    const at = cost === null ? candidate.row(repeat).costs[0] : cost;
    const usual = qualityAtCost(baseline.curve(repeat), at);
    const reached = cost === null ? candidate.row(repeat).qualities[0] : qualityAtCost(candidate.curve(repeat), at);
    return { value: reached - usual, baseline: usual, candidate: reached, at };
  });
}
