"use strict";
(() => {
  const find = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const { names, confusion } = JSON.parse(find("#data").textContent);

  // The gallery. A filter is "" (all), a class id, or "label-prediction" for a cell of the matrix.
  const list = find("#cards");
  const cards = list ? [...list.children] : [];
  const pairs = new Map(cards.map((card) => [card, card.dataset.pairs.split(" ")]));
  const sort = find("#sort"), filter = find("#filter"), group = find("#group");
  const shows = (card, value) => !value || pairs.get(card).some(
    (pair) => pair === value || pair.split("-").includes(value));

  function describe(value) {
    const [label, prediction] = value.split("-");
    if (!value) return "";
    if (prediction === undefined) return ` with ${names[label]}`;
    if (label === prediction) return ` with ${names[label]} found`;
    return ` with ${names[label]} taken for ${names[prediction]}`;
  }

  function apply() {
    for (const card of cards) {
      const chosen = !group || !group.value || card.dataset.groups.split(" ").includes(group.value);
      card.hidden = !(chosen && shows(card, filter.value));
    }
    const shown = cards.filter((card) => !card.hidden).length;
    find("#shown").textContent = `${shown} of ${cards.length} pictures${describe(filter.value)}`;
    find("#reset").hidden = !filter.value && !(group && group.value);
    // Rows are labels; in the matrix, headings of columns are predictions.
    const [label, prediction = label] = filter.value.split("-");
    for (const part of all("[data-class]")) {
      part.classList.toggle("chosen", part.dataset.class === (part.tagName === "TH" ? prediction : label));
    }
    for (const link of all("a[data-filter]")) {
      if (link.dataset.filter === filter.value) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  // After filtering, the pictures may be above the visible part of the page.
  function change() {
    apply();
    if (list.getBoundingClientRect().top < 0) find("#pictures").scrollIntoView();
  }

  function choose(value) {
    for (const option of [...filter.options]) {
      if (option.value.includes("-") && option.value !== value) option.remove();
    }
    if (![...filter.options].some((option) => option.value === value)) {
      filter.add(new Option(describe(value).replace(" with ", ""), value));
    }
    filter.value = value;
    apply();
  }

  function order() {
    const key = sort.value.replace("-", ""), sign = sort.value.startsWith("-") ? -1 : 1;
    const compare = key === "name"
      ? (a, b) => a.dataset.name.localeCompare(b.dataset.name)
      : (a, b) => sign * (a.dataset[key] - b.dataset[key]);
    list.append(...cards.sort(compare));
  }

  if (list) {
    sort.addEventListener("change", order);
    filter.addEventListener("change", change);
    if (group) group.addEventListener("change", change);
    find("#reset").addEventListener("click", () => {
      if (group) group.value = "";
      choose("");
      change();
      filter.focus();
    });
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-filter]");
      if (link) choose(link.dataset.filter);
    });
  }

  // Tables are sorted by a click on a column's heading.
  for (const table of all("table.sortable")) {
    const body = table.tBodies[0], headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => heading.querySelector("button")?.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => Number(row.cells[column].dataset.value);
      body.append(...[...body.rows].sort((a, b) => (up ? 1 : -1) * (value(a) - value(b))));
    }));
  }

  // The confusion matrix is one stop of the tab key; arrow keys move between its cells.
  const matrix = find("table.matrix");
  if (matrix) {
    const grid = [...matrix.tBodies[0].rows].map((row) => [...row.cells].slice(1));
    const totals = confusion.map((row) => row.reduce((sum, count) => sum + count, 0));
    let current = grid[0][0];
    current.tabIndex = 0;
    const at = (cell) => [cell.parentElement.sectionRowIndex, cell.cellIndex - 1];

    function text(label, prediction) {
      const count = confusion[label][prediction];
      const share = totals[label] ? `${(100 * count / totals[label]).toFixed(1)} %` : "none";
      const what = label === prediction ? `${names[label]} found` : `${names[label]} taken for ${names[prediction]}`;
      return `${what}: ${share} of its pixels (${count.toLocaleString("en")})`;
    }

    function show(cell) {
      const [label, prediction] = at(cell), value = `${label}-${prediction}`;
      const found = cards.filter((card) => shows(card, value)).length;
      cell.title = text(label, prediction);
      find("#cell").textContent = `${cell.title}. `;
      if (!found) return;
      const link = Object.assign(document.createElement("a"), { href: "#pictures" });
      link.textContent = found === 1 ? "Show the picture" : `Show ${found} pictures`;
      link.dataset.filter = value;
      find("#cell").append(link);
    }

    const cellOf = (event) => event.target.closest("tbody td");
    matrix.addEventListener("pointerover", (event) => cellOf(event) && show(cellOf(event)));
    matrix.addEventListener("focusin", (event) => cellOf(event) && show(cellOf(event)));
    matrix.addEventListener("click", (event) => cellOf(event) && move(cellOf(event)));
    matrix.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && cellOf(event)) find("#cell a")?.click();
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step || !cellOf(event)) return;
      const [label, prediction] = at(current);
      const next = grid[label + step[0]]?.[prediction + step[1]];
      if (next) move(next);
      event.preventDefault();
    });

    function move(cell) {
      current.tabIndex = -1;
      current = cell;
      current.tabIndex = 0;
      current.focus();
      show(cell);
    }
  }
})();
