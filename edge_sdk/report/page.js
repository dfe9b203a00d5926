"use strict";
(() => {
  const json = id => JSON.parse(document.getElementById(id).textContent);
  const boxes = [...document.querySelectorAll("[data-plot]")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)");
  const tones = boxes.length ? json("tones") : null;
  const PRINT_WIDTH = 680;  // what fits on A4 and Letter with the margins that browsers use
  let printing = false;

  // A colour of a figure is the name of a tone, "@1", because only the reader's screen says light or dark.
  function painted(value, key, tone) {
    if (typeof value === "string") return /color(way)?$/i.test(key) && value[0] === "@" ? tone[value.slice(1)] : value;
    if (Array.isArray(value)) {
      if (typeof value[0] === "number") return value;
      return value.map(one => painted(one, key, tone));
    }
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, painted(one, name, tone)]));
  }

  // The label of a shaded stretch that is too narrow for it is shortened to its last word, then left out.
  function fit(layout, width) {
    const [start, end] = layout.xaxis.range || [0, 0];
    const plot = width - layout.margin.l - layout.margin.r;
    for (const shape of layout.shapes || []) {
      if (!shape.label || shape.xref !== "x" || shape.x0 === shape.x1) continue;
      const room = (shape.x1 - shape.x0) / (end - start) * plot;
      const words = [shape.label.text, shape.label.text.split(" ").pop(), ""];
      shape.label.text = words.find(word => word.length * 6.2 <= room);
    }
  }

  function draw(box) {
    const {data, layout, narrow} = painted(json(box.dataset.plot), "", tones[dark.matches && !printing ? "dark" : "light"]);
    const width = printing ? Math.min(PRINT_WIDTH, box.clientWidth || PRINT_WIDTH) : box.clientWidth;
    if (width < 560) {
      for (const [axis, more] of Object.entries(narrow || {})) Object.assign(layout[axis] ??= {}, more);
    }
    fit(layout, width);
    if (touch.matches) layout.dragmode = false;  // or a finger that scrolls the page would zoom the plot
    if (printing) Object.assign(layout, {width, autosize: false});
    // The buttons are named one by one: among Plotly's own is one that sends the data to its makers.
    return Plotly.react(box, data, layout, {
      responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "",
      modeBarButtons: [["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"], ["toImage"]],
    });
  }

  function drawAll() { boxes.forEach(draw); }

  function print(now) {
    if (printing !== now) { printing = now; drawAll(); }
  }

  if (boxes.length) {
    drawAll();
    dark.addEventListener("change", drawAll);
    addEventListener("beforeprint", () => print(true));
    addEventListener("afterprint", () => print(false));
    let width = innerWidth, timer = 0;
    addEventListener("resize", () => {
      clearTimeout(timer);
      timer = setTimeout(() => { if (innerWidth !== width && !printing) { width = innerWidth; drawAll(); } }, 200);
    });
  }

  // A column's cells have their sort value in data-sort; those without one come last either way.
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const numeric = head.classList.contains("number");
        const value = row => {
          const text = row.cells[column].dataset.sort;
          return text === undefined || text === "" ? null : numeric ? Number(text) : text;
        };
        const rows = [...body.rows].map(row => [value(row), row]);
        rows.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null);
          const order = numeric ? a - b : a.localeCompare(b, undefined, {numeric: true});
          return down ? -order : order;
        });
        body.append(...rows.map(([, row]) => row));
      });
    });
  }
})();
