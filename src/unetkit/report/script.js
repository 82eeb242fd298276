// The page is complete without this script; it adds sorting, mixing of overlays, enlarging and copying.
"use strict";
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const numeric = head.classList.contains("num");
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === ""); // what has no value stays last either way
        const order = numeric ? x - y : x.localeCompare(y, "en", { numeric: true });
        return down ? -order : order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}

const overlays = document.getElementById("overlays");
const tools = document.getElementById("tools");
if (overlays && tools) {
  tools.hidden = false;
  tools.addEventListener("input", () => {
    overlays.style.setProperty("--mix", tools.querySelector("[type=range]").value / 100);
    overlays.classList.toggle("contours", tools.querySelector("[value=contours]").checked);
  });
  const dialog = document.getElementById("large");
  for (const panel of overlays.querySelectorAll(".panel")) {
    const button = document.createElement("button");
    button.className = "zoom";
    button.type = "button";
    button.textContent = "+";
    button.setAttribute("aria-label", "Enlarge: " + panel.querySelector("title").textContent);
    button.addEventListener("click", () => {
      dialog.querySelector("strong").textContent = panel.querySelector("title").textContent;
      dialog.querySelector("div").replaceChildren(panel.querySelector("svg").cloneNode(true));
      dialog.showModal();
    });
    panel.append(button);
  }
  dialog.addEventListener("close", () => dialog.querySelector("div").replaceChildren());
}

for (const block of document.querySelectorAll(".command")) {
  if (!navigator.clipboard) break;
  const button = document.createElement("button");
  button.className = "plain";
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", () => navigator.clipboard.writeText(block.querySelector("code").textContent).then(
    () => { button.textContent = "Copied"; }, () => { button.textContent = "Select and copy"; }));
  block.append(button);
}

addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
