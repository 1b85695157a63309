// What the reader chose. All of it is in the address after #, so that a view can be shared.
const DEFAULTS = {
  tab: "chart", x: "minutes", rule: "any", log: "1", front: "series", seeds: "mean", unfinished: "",
  kind: "", dataset: "", model: "", res: "", find: "", family: [], hw: [], on: [], off: [],
  base: "", at: "", atcost: "", cross: "", sort: "", run: "", other: "", axis: "epochs", axes: [], theme: "",
};
let state = readState();

function readState() {
  const given = new URLSearchParams(location.hash.slice(1)), found = {};
  for (const [key, usual] of Object.entries(DEFAULTS)) {
    found[key] = Array.isArray(usual) ? given.getAll(key) : given.get(key) ?? usual;
  }
  return found;
}

function stateHash() {
  const shown = new URLSearchParams();
  for (const [key, usual] of Object.entries(DEFAULTS)) {
    if (Array.isArray(usual)) state[key].forEach(value => shown.append(key, value));
    else if (state[key] !== usual) shown.set(key, state[key]);
  }
  return shown.toString();
}

function change(values) {
  Object.assign(state, values);
  const hash = stateHash();
  // A new tab or run is a step that the browser's Back undoes; a filter is not.
  const step = "tab" in values || "run" in values;
  history[step ? "pushState" : "replaceState"](null, "", hash ? "#" + hash : location.pathname + location.search);
  draw();
}
