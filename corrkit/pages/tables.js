// Sorting by a click on a column's head, and filtering by the selects of a page. Without JavaScript all rows are there.
for (const head of document.querySelectorAll("th[data-sort]")) {
  head.querySelector("button").addEventListener("click", () => {
    const table = head.closest("table"), column = head.cellIndex;
    const first = head.dataset.sort === "number" ? "descending" : "ascending";
    const other = first === "descending" ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const one of table.querySelectorAll("th[aria-sort]")) one.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const missing = (value) => value === "" || (head.dataset.sort === "number" && Number.isNaN(Number(value)));
    for (const body of table.tBodies) {
      const rows = [...body.rows];
      rows.sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (missing(x) || missing(y)) return missing(x) - missing(y); // what has no value stays below
        const difference = head.dataset.sort === "number" ? Number(x) - Number(y) : x.localeCompare(y);
        return order === "ascending" ? difference : -difference;
      });
      body.append(...rows);
    }
  });
}
for (const select of document.querySelectorAll("select[data-filter]")) {
  select.addEventListener("change", () => {
    const chosen = [...document.querySelectorAll("select[data-filter]")].map((one) => [one.dataset.filter, one.value]);
    for (const part of document.querySelectorAll("[data-filtered]")) {
      part.hidden = chosen.some(([name, value]) => value && !part.dataset[name].split(" ").includes(value));
    }
  });
}
