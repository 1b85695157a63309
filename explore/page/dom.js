// Elements are made from values and text, never from HTML in a string: a name cannot become markup.
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter(child => child !== null && child !== undefined && child !== ""));
  return made;
}

const byId = id => document.getElementById(id);
const fill = (id, ...children) => byId(id).replaceChildren(...children.flat().filter(child => child !== null && child !== ""));

// Text for plotly, which reads a few tags.
const plain = text => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const short = (text, most = 44) => text.length > most ? text.slice(0, most - 1) + "…" : text;

function figures(value, digits = 3) {
  if (!finite(value)) return "–";
  if (Math.abs(value) < 1e-9) return "0";  // what is left of a difference of equal figures
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(1);
  const rounded = Math.abs(value) >= 100 ? value.toFixed(value >= 1000 ? 0 : 1) : value.toPrecision(digits);
  return String(Number(rounded)).replace(/\B(?=(\d{3})+(?!\d)(?<!\.\d*))/g, ",");
}
const percent = value => finite(value) ? value.toFixed(2).replace(/0$/, "") : "–";

function select(id, label, given, value, change) {
  // A link may name what this page does not have: the filter is on, and has to be seen.
  const options = given.some(([key]) => key === value) ? given : [[value, `${short(value, 24)} (not here)`], ...given];
  const chosen = el("select", { id, onchange: event => change(event.target.value) },
    options.map(([key, text]) => el("option", { value: key, selected: key === value }, text)));
  return el("label", {}, el("span", {}, label), chosen);
}

function check(id, label, on, change) {
  return el("label", { class: "tick" }, el("input", { type: "checkbox", id, checked: on, onchange: event => change(event.target.checked) }), label);
}

function download(name, type, text) {
  const link = el("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// A spreadsheet runs a cell that begins with one of these.
function csvCell(value) {
  if (value === null || value === undefined || (typeof value === "number" && !finite(value))) return "";
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}
const csvText = (columns, rows) =>
  [columns.map(column => csvCell(column.title)), ...rows.map(row => columns.map(column => csvCell(column.value(row))))]
    .map(cells => cells.join(",") + "\r\n").join("");

const MOST_ROWS = 300;

// columns: {key, title, value(row), show(row)?, number?}. sort: "key" or "-key". Rows without a value come last.
function sortedRows(columns, rows, sort) {
  const down = sort.startsWith("-"), column = columns.find(one => one.key === sort.replace(/^-/, "")) || columns[0];
  const lacks = value => value === null || value === undefined || value === "" || Number.isNaN(value);
  return rows.map((row, at) => [column.value(row), at, row]).sort(([a, i], [b, j]) => {
    if (lacks(a) || lacks(b)) return lacks(a) - lacks(b) || i - j;
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return (down ? -order : order) || i - j;
  }).map(([, , row]) => row);
}

function table(id, columns, rows, sort, resort) {
  const head = columns.map(column => {
    const own = sort.replace(/^-/, "") === column.key, down = own && sort.startsWith("-");
    const next = own ? (down ? column.key : "-" + column.key) : (column.number ? "-" : "") + column.key;
    return el("th", { class: column.number ? "num" : "", scope: "col", "aria-sort": own ? (down ? "descending" : "ascending") : "none" },
      el("button", { class: "plain", "data-sort": column.key, onclick: () => resort(next) }, column.title + (own ? (down ? " ↓" : " ↑") : "")));
  });
  const body = sortedRows(columns, rows, sort).slice(0, MOST_ROWS).map(row => el("tr", {},
    columns.map(column => el("td", { class: column.number ? "num" : "", "data-label": column.title, "data-col": column.key },
      column.show ? column.show(row) : column.number ? figures(column.value(row), 6) : String(column.value(row) ?? "")))));
  const more = rows.length > MOST_ROWS
    ? el("p", { class: "sub" }, `The first ${MOST_ROWS} of ${rows.length.toLocaleString("en")} rows; the CSV has all.`) : null;
  return el("div", {}, el("div", { class: "wide" }, el("table", { id }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, body))), more);
}
