"use strict";
// Draws the plots, sorts the leaderboard, keeps the page of a running search fresh. No network: the page's policy forbids it.

const figures = JSON.parse(document.getElementById("figures").textContent);
const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "toImage", "autoScale2d"] };
// What all plots share; a plot's own settings come on top.
const axis = { automargin: true, zeroline: false, showline: true, ticks: "outside" };
const shared = {
  font: { family: "system-ui, sans-serif", size: 12 },
  margin: { l: 10, r: 10, t: 12, b: 10 },
  paper_bgcolor: "rgba(0,0,0,0)",
  plot_bgcolor: "rgba(0,0,0,0)",
  showlegend: false,
  legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
};
const drawn = Object.entries(figures).map(([name, { data, layout }]) => {
  const axes = { xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis } };
  return Plotly.newPlot(document.getElementById(name), data, { ...shared, ...layout, ...axes }, config);
});
Promise.all(drawn).then(() => document.body.setAttribute("data-drawn", String(drawn.length)));

// A page on paper is narrower than the window.
const plots = () => document.querySelectorAll(".plot");
window.addEventListener("beforeprint", () => plots().forEach((plot) => Plotly.relayout(plot, { width: plot.classList.contains("half") || plot.classList.contains("small") ? 330 : 680 })));
window.addEventListener("afterprint", () => plots().forEach((plot) => Plotly.relayout(plot, { width: null, autosize: true })));

// The column that the reader sorts by survives a reload, if the browser has a storage for pages from files.
const memory = {
  get(key) { try { return JSON.parse(sessionStorage.getItem(document.title + key)); } catch { return null; } },
  set(key, value) { try { sessionStorage.setItem(document.title + key, JSON.stringify(value)); } catch { /* it has none */ } },
};

const table = document.getElementById("leaderboard");
const worth = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
function sort(column, ascending) {
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => {
    const [x, y] = [worth(a, column), worth(b, column)];
    if (x === "" || y === "") return (x === "") - (y === ""); // empty cells are always last
    const [m, n] = [Number(x), Number(y)];
    const order = Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y) : m - n;
    return ascending ? order : -order;
  });
  table.tBodies[0].append(...rows);
  [...table.tHead.rows[0].cells].forEach((cell, i) => {
    if (i === column) cell.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
  });
}
if (table) {
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    cell.firstElementChild.addEventListener("click", () => {
      const ascending = cell.getAttribute("aria-sort") !== "ascending";
      sort(column, ascending);
      memory.set("sort", [column, ascending]);
    });
  });
  const chosen = memory.get("sort");
  if (chosen && chosen[0] < table.tHead.rows[0].cells.length) sort(...chosen);
}

// The file is replaced in one step: a reload never meets half a page. A hidden page, or one with its details open, does not reload.
const every = Number(document.body.dataset.reload);
if (every) {
  setInterval(() => { if (!document.hidden && !document.querySelector("details[open]")) location.reload(); }, every * 1000);
}
