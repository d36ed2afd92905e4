"use strict";
// The trials of this page: brushing on parallel coordinates, and one table that sorts and filters.
// All text reaches the page as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const svg = byId("coordinates");
  if (!svg || !data.trials.length) return;
  const SVG = "http://www.w3.org/2000/svg";
  // Sixteen axes and the value fit on the page side by side; more of them are scrolled to.
  const WIDTH = Math.max(1000, 62 * data.parameters.length), TOP = 34, BOTTOM = 312, HEIGHT = 336, SIDE = 42;

  const draw = (name, attributes, text) => {
    const node = document.createElementNS(SVG, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    svg.appendChild(node);
    return node;
  };
  const trim = (x) => String(Number(x.toPrecision(3)));

  // ---- axes: the parameters, and the value at the end
  const trials = data.trials;
  const values = trials.map((t) => t.value).filter((v) => v !== null);
  // A choice's options have places from 0 to 1; what is none of them is on no axis.
  const isChoice = (p) => Object.keys(p.options).length > 0;
  const axes = data.parameters.map((p, i) =>
    isChoice(p)
      ? { ...p, low: 0, high: 1, of: (t) => p.options[t.kernel[i]] }
      : { ...p, options: {}, of: (t) => t.kernel[i] });
  if (values.length)
    axes.push({
      name: data.value.name, options: {}, low: Math.min(...values), high: Math.max(...values),
      of: (t) => t.value, show: (v) => (data.value.scale * v).toFixed(data.value.digits),
    });
  const step = (WIDTH - 2 * SIDE) / Math.max(axes.length - 1, 1);
  axes.forEach((axis, i) => {
    axis.x = SIDE + i * step;
    axis.range = null; // the brush, as two heights
  });
  const height = (axis, v) => {
    if (!(axis.high > axis.low)) return (TOP + BOTTOM) / 2;
    const [low, high, at] = [axis.low, axis.high, v].map((x) => (axis.log ? Math.log(x) : x));
    return BOTTOM - ((at - low) / (high - low)) * (BOTTOM - TOP);
  };

  // ---- lines: bad ones first, so that the best lie on top
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.style.aspectRatio = `${WIDTH} / ${HEIGHT}`;
  if (WIDTH > 1000) svg.style.minWidth = `${WIDTH}px`;
  const ranked = trials.filter((t) => t.value !== null)
    .sort((a, b) => b.value - a.value || a.number - b.number);
  ranked.forEach((t, i) => (t.rank = i));
  const rank = (t) => (t.value === null ? Infinity : t.rank);
  [...trials].sort((a, b) => (rank(a) === rank(b) ? 0 : rank(b) > rank(a) ? 1 : -1)).forEach((t) => {
    const points = axes.map((a) => [a, a.of(t)]).filter((p) => p[1] !== null && p[1] !== undefined)
      .map(([a, v], i) => `${i ? "L" : "M"}${a.x.toFixed(1)} ${height(a, v).toFixed(1)}`);
    t.path = draw("path", { d: points.join("") });
    t.path.classList.add(t.state);
    if (rank(t) < data.highlight[0]) t.path.classList.add("first");
    else if (rank(t) < data.highlight[1]) t.path.classList.add("second");
    t.path.dataset.trial = t.number;
  });

  // ---- brushes
  const inside = (t) => axes.every((a) => {
    if (!a.range) return true;
    const v = a.of(t);
    if (v === null || v === undefined) return false;
    const y = height(a, v);
    return y >= a.range[0] - 0.01 && y <= a.range[1] + 0.01;
  });
  const place = (event) => {
    const box = svg.getBoundingClientRect();
    const point = svg.createSVGPoint();
    point.x = event.clientX; point.y = event.clientY;
    const matrix = svg.getScreenCTM();
    const y = matrix ? point.matrixTransform(matrix.inverse()).y : event.clientY - box.top;
    return Math.min(BOTTOM, Math.max(TOP, y));
  };
  const showBrush = (axis) => {
    axis.box.setAttribute("visibility", axis.range ? "visible" : "hidden");
    if (!axis.range) return;
    axis.box.setAttribute("y", axis.range[0]);
    axis.box.setAttribute("height", Math.max(axis.range[1] - axis.range[0], 1));
  };
  axes.forEach((axis) => {
    draw("line", { x1: axis.x, x2: axis.x, y1: TOP, y2: BOTTOM });
    draw("text", { x: axis.x, y: 14, class: "name" }, axis.name);
    const show = axis.show || trim;
    if (!isChoice(axis)) {
      draw("text", { x: axis.x, y: TOP - 5 }, show(axis.high));
      draw("text", { x: axis.x, y: BOTTOM + 14 }, show(axis.low));
    }
    for (const option in axis.options)
      draw("text", { x: axis.x, y: height(axis, axis.options[option]) + 4, class: "option" }, option);
    axis.box = draw("rect", { x: axis.x - 8, width: 16, y: 0, height: 0, class: "brush", visibility: "hidden" });
    const hit = draw("rect", {
      x: axis.x - 16, width: 32, y: TOP - 4, height: BOTTOM - TOP + 8, class: "hit",
      tabindex: 0, role: "slider", "aria-label": `select on ${axis.name}`,
      "aria-valuemin": axis.low, "aria-valuemax": axis.high, "aria-valuenow": axis.high,
    });
    hit.dataset.axis = axis.name;
    let from = null;
    hit.addEventListener("pointerdown", (event) => {
      from = place(event);
      hit.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    hit.addEventListener("pointermove", (event) => {
      if (from === null) return;
      const to = place(event);
      axis.range = Math.abs(to - from) < 2 ? null : [Math.min(from, to), Math.max(from, to)];
      showBrush(axis); refresh();
    });
    const end = (event) => {
      if (from !== null && event.type === "pointerup" && Math.abs(place(event) - from) < 2) {
        axis.range = null; showBrush(axis); refresh(); // a click takes the brush away
      }
      from = null;
    };
    hit.addEventListener("pointerup", end);
    hit.addEventListener("pointercancel", end);
    hit.addEventListener("keydown", (event) => {
      // Arrows take a fifth off one end of the range, so that a keyboard can brush too.
      const fifth = (BOTTOM - TOP) / 5, range = axis.range || [TOP, BOTTOM];
      const next = { ArrowUp: [range[0], range[1] - fifth], ArrowDown: [range[0] + fifth, range[1]], Escape: null }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      axis.range = next && next[1] - next[0] > 1 ? next : null;
      showBrush(axis); refresh();
    });
  });

  // ---- table
  const units = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const short = (v) => {
    for (const [size, unit] of units) if (v >= size) return trim(v / size) + unit;
    return trim(v);
  };
  const scaled = (measure, of) => ({
    name: measure.name, of, scale: measure.scale, first: -1,
    show: (v) => (measure.scale * v).toFixed(measure.digits),
  });
  const columns = [
    { name: "trial", of: (t) => t.number, show: String },
    scaled(data.value, (t) => t.value),
    ...(data.columns.includes("accuracy") ? [scaled(data.weighs, (t) => t.accuracy)] : []),
    ...(data.columns.includes("latency")
      ? [{ name: "latency_ms", of: (t) => t.latency, show: (v) => v.toFixed(2) }] : []),
    { name: "state", of: (t) => t.state, text: true },
    { name: "phase", of: (t) => t.phase, text: true },
    { name: "params", of: (t) => t.num_params, show: short },
    { name: "macs", of: (t) => t.macs, show: short },
    { name: "memory", of: (t) => t.activation_bytes, show: short },
    { name: "epochs", of: (t) => t.epochs, show: (v) => v.toFixed(1) },
    { name: "seconds", of: (t) => t.train_seconds, show: (v) => v.toFixed(1) },
    ...data.parameters.map((p, i) => ({
      name: p.name, of: (t) => t.kernel[i], text: isChoice(p),
      show: (v) => (p.whole ? String(v) : v.toFixed(3)),
    })),
    { name: "reason", of: (t) => t.reason, text: true },
  ];
  const table = byId("trials-table"), body = table.tBodies[0], headRow = table.tHead.rows[0];
  let sorted = { column: columns[0], sign: 1 };
  columns.forEach((column) => {
    const th = document.createElement("th"), button = document.createElement("button");
    if (column.text) th.className = "text";
    th.scope = "col";
    button.type = "button";
    button.textContent = column.name;
    button.addEventListener("click", () => {
      sorted = { column, sign: sorted.column === column ? -sorted.sign : column.first || 1 };
      order();
    });
    th.appendChild(button);
    headRow.appendChild(th);
    column.th = th;
  });
  trials.forEach((t) => {
    t.row = document.createElement("tr");
    t.row.className = t.state;
    t.row.dataset.trial = t.number;
    t.words = "";
    columns.forEach((column) => {
      const td = document.createElement("td"), v = column.of(t);
      const empty = v === null || v === undefined;
      td.textContent = empty ? "–" : column.text ? v : column.show(v);
      if (column.text) { td.className = "text"; if (!empty) t.words += `${v} `.toLowerCase(); }
      t.row.appendChild(td);
    });
    t.words += `#${t.number} `;
    t.row.addEventListener("pointerenter", () => t.path.classList.add("hot"));
    t.row.addEventListener("pointerleave", () => t.path.classList.remove("hot"));
  });
  const order = () => {
    const { column, sign } = sorted;
    const missing = (v) => v === null || v === undefined;
    const compare = (a, b) => {
      const x = column.of(a), y = column.of(b);
      if (missing(x) || missing(y)) return missing(x) - missing(y) || a.number - b.number;
      return (x < y ? -sign : x > y ? sign : 0) || a.number - b.number;
    };
    columns.forEach((c) => c.th.removeAttribute("aria-sort"));
    column.th.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const rows = document.createDocumentFragment();
    [...trials].sort(compare).forEach((t) => rows.appendChild(t.row));
    body.appendChild(rows);
  };

  // ---- filter: words that must occur, and comparisons such as accuracy>70, k<=3 or early=conv
  const TEST = /^([A-Za-z]\w*)(>=|<=|>|<|=)(-?[\d.]+(?:e-?\d+)?)([kMGT]?)$/;
  const SIZES = { "": 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12 };
  const parse = (word) => {
    const found = TEST.exec(word);
    const column = found && columns.find((c) => !c.text && c.name === found[1]);
    const [name, option] = word.split(/=(.*)/s);
    const named = option && columns.find((c) => c.text && c.name === name);
    if (named) return (t) => String(named.of(t)) === option;
    if (!column) return (t) => t.words.includes(word.toLowerCase());
    const bound = Number(found[3]) * SIZES[found[4]];
    const holds = {
      ">": (v) => v > bound, "<": (v) => v < bound, "=": (v) => v === bound,
      ">=": (v) => v >= bound, "<=": (v) => v <= bound,
    }[found[2]];
    return (t) => {
      const v = column.of(t);
      return v !== null && v !== undefined && holds(v * (column.scale || 1));
    };
  };
  const filter = byId("filter"), counter = byId("selected"), rejected = byId("show-rejected");
  const refresh = () => {
    const tests = filter.value.trim().split(/\s+/).filter(Boolean).map(parse);
    const narrowed = tests.length > 0 || axes.some((a) => a.range);
    let n = 0;
    trials.forEach((t) => {
      const on = (rejected.checked || t.value !== null || !/pruned|fail/.test(t.state))
        && inside(t) && tests.every((test) => test(t));
      t.row.hidden = !on;
      t.path.classList.toggle("on", on);
      n += on;
    });
    svg.classList.toggle("brushed", narrowed);
    svg.classList.toggle("no-rejected", !rejected.checked);
    counter.textContent = `${n} of ${trials.length} trials`;
  };
  filter.addEventListener("input", refresh);
  rejected.addEventListener("change", refresh);
  byId("clear").addEventListener("click", () => {
    filter.value = "";
    axes.forEach((axis) => { axis.range = null; showBrush(axis); });
    refresh();
  });
  sorted = { column: columns[1], sign: -1 };
  order();
  refresh();
})();
