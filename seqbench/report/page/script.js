"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const all = (words, root = document) => [...root.querySelectorAll(words)];
  const make = (tag, text = "", more = {}) => Object.assign(document.createElement(tag), { textContent: text }, more);

  // the records, packed: dicts as [shape, values...], lists as [-1, values...], what occurs several times as {r: part}
  const packed = JSON.parse($("records").textContent || "{}");
  const unpack = (v) =>
    Array.isArray(v)
      ? v[0] < 0 ? v.slice(1).map(unpack) : Object.fromEntries(packed.shapes[v[0]].map((k, i) => [k, unpack(v[i + 1])]))
      : v && typeof v === "object" ? unpack(packed.parts[v.r]) : v;
  const record = (i) => { const [path, value] = packed.records[i]; return { path, ...unpack(value) }; };
  const number = (v) => {
    if (typeof v !== "number") return v === null || v === undefined ? "–" : typeof v === "boolean" ? (v ? "yes" : "no") : String(v);
    if (Number.isInteger(v)) return v.toLocaleString("en");
    return Math.abs(v) >= 1e-4 && Math.abs(v) < 1e15 ? v.toLocaleString("en", { maximumSignificantDigits: 5 }) : v.toExponential(3);
  };
  const flat = (v) => Array.isArray(v)
    ? v.map((x) => (x && typeof x === "object" ? JSON.stringify(x) : number(x))).join(", ") || "none"
    : v && typeof v === "object" ? Object.entries(v).map(([k, x]) => `${k}: ${flat(x)}`).join("; ") || "none" : number(v);
  const plain = (k, v) => (typeof v === "number" && /seed|version|year/.test(k) ? String(v) : flat(v));

  // theme
  const root = document.documentElement, theme = $("theme"), dark = matchMedia("(prefers-color-scheme: dark)");
  const kept = (value) => { try { return value ? localStorage.setItem("theme", value) : localStorage.getItem("theme"); } catch { return null; } };
  const now = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const say = () => { theme.textContent = now() === "dark" ? "Light theme" : "Dark theme"; };
  if (kept()) root.dataset.theme = kept();
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = now() === "dark" ? "light" : "dark"; kept(root.dataset.theme); say(); });
  dark.addEventListener("change", say);
  say();

  // what a point says, at once
  const tip = $("tip");
  let told = null;
  const untell = () => { if (told) { told.append(told.kept); told.classList.remove("at"); told = null; } tip.hidden = true; };
  const placed = (x, y) => {
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${y + 18 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 10 : y + 18}px`;
  };
  const tell = (mark, x, y) => {
    const title = mark.querySelector(":scope > title");
    told = mark; told.kept = title; title.remove(); // else the browser's own comes, too
    tip.textContent = title.textContent; tip.hidden = false;
    placed(x, y);
  };
  const middle = (mark) => { const box = mark.getBoundingClientRect(); return [box.left + box.width / 2, box.top + box.height / 2]; };
  document.addEventListener("pointerover", (event) => {
    const mark = event.target.closest("svg.chart [class]"), title = mark && mark.querySelector(":scope > title");
    if (mark === told) return;
    untell();
    if (title) tell(mark, event.clientX, event.clientY);
  });
  document.addEventListener("scroll", () => (told && told.classList.contains("at") ? placed(...middle(told)) : untell()), true);

  // the same from the keyboard: a picture is one stop, and arrows go from point to point of it
  const aloud = $("aloud");
  all("svg.chart:has(title)").forEach((chart) => {
    let marks = null, at = -1;
    const found = () => marks || (marks = all("[class]", chart).filter((mark) => mark === told || mark.querySelector(":scope > title")));
    const line = (mark) => mark.closest("g") || Math.round(mark.getBBox().y); // of points, or a row of cells
    const beside = (way) => { // in the next line the nearest
      const own = line(found()[at]), lines = [...new Set(found().map(line))], next = lines[lines.indexOf(own) + way];
      const near = (mark) => Math.abs(middle(mark)[0] - middle(found()[at])[0]);
      const other = found().filter((mark) => line(mark) === next).sort((a, b) => near(a) - near(b))[0];
      return other ? found().indexOf(other) : at;
    };
    const ways = { ArrowRight: () => at + 1, ArrowLeft: () => at - 1, Home: () => 0, End: () => found().length - 1, ArrowDown: () => (at < 0 ? 0 : beside(1)), ArrowUp: () => (at < 0 ? 0 : beside(-1)) };
    chart.setAttribute("tabindex", "0");
    chart.setAttribute("role", "application"); // else a screen reader would keep the arrows to itself
    chart.setAttribute("aria-roledescription", "picture with points");
    chart.setAttribute("aria-describedby", "hint");
    chart.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const mark = found()[at];
      if (event.key in ways) {
        event.preventDefault();
        at = Math.max(0, Math.min(found().length - 1, ways[event.key]()));
        untell();
        found()[at].scrollIntoView({ block: "nearest", inline: "nearest" });
        tell(found()[at], ...middle(found()[at]));
        told.classList.add("at");
        aloud.textContent = `${tip.textContent} (${at + 1} of ${found().length})`;
      } else if (event.key === "Escape") untell();
      else if ((event.key === "Enter" || event.key === " ") && mark && mark.dataset.open) { event.preventDefault(); show(mark.dataset.open.split(" ")); }
    });
    chart.addEventListener("blur", () => { untell(); aloud.textContent = ""; });
  });

  // a table that can be sorted: numbers by their size, what is missing last
  const value = (cell) => {
    const text = cell.textContent.trim(), found = /^[≥\s]*(-?[\d,]*\.?\d+(?:e[-+]?\d+)?)/i.exec(text);
    return [text, found ? parseFloat(found[1].replace(/,/g, "")) : NaN];
  };
  const compare = (a, b, way) => {
    const none = (v) => v[0] === "" || v[0] === "–";
    if (none(a) || none(b)) return none(a) - none(b);
    const numbers = !Number.isNaN(a[1]) && !Number.isNaN(b[1]);
    return way * (numbers ? a[1] - b[1] : a[0].localeCompare(b[0], "en", { numeric: true }));
  };
  const heads = (table, sort) => all("thead th", table).forEach((head, place) => {
    if (!head.textContent) return;
    const button = make("button", head.textContent, { type: "button" });
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      sort(place, way);
    });
  });
  all("table:not([data-lazy])").forEach((table) => heads(table, (place, way) => {
    const body = table.tBodies[0], rows = [...body.rows].map((row) => [value(row.cells[place]), row]);
    body.append(...rows.sort((a, b) => compare(a[0], b[0], way)).map(([, row]) => row));
  }));

  // a record, or several side by side
  const dialog = $("record"), title = $("record-title"), body = dialog.querySelector(".body");
  const grid = (headers, rows) => {
    const box = make("div", "", { className: "scroll" }), table = box.appendChild(make("table"));
    const line = (cells, tag) => { const tr = make("tr"); cells.forEach((cell, i) => { const c = make(tag); c.append(cell); if (!i || !headers) c.className = "left"; tr.append(c); }); return tr; };
    if (headers) table.appendChild(make("thead")).append(line(headers, "th"));
    table.appendChild(make("tbody")).append(...rows.map((row) => line(row, "td")));
    return box;
  };
  const what = (r) => (r.task ? r.task.dataset || r.task.name : `probe ${r.probe ? r.probe.name : ""}`);
  const who = (r) => (r.model ? r.model.name : (r.models || []).map((m) => m.name).join(", "));
  const seed = (r) => r.seed ?? (r.case && r.case.seed) ?? "";
  const size = (r) => (r.config && r.config.params ? `${number(r.config.params)} parameters` : r.model ? `hidden ${flat(r.model.hidden)}` : r.case && r.case.options && r.case.options.width ? `width ${r.case.options.width}` : "");
  const heading = (r) => `${what(r)} · ${who(r)} · seed ${seed(r)}`;
  const section = (name, content) => [make("h3", name.replace(/^./, (c) => c.toUpperCase())), content];
  const one = (r) => {
    const parts = [], rest = [];
    const both = r.metrics && Object.keys({ ...r.metrics.val, ...r.metrics.test });
    if (r.reason) parts.push(make("p", `${r.status}: ${r.reason}`));
    for (const [name, fact] of Object.entries(r)) {
      if (name === "metrics" && both.length) parts.push(...section("Metrics", grid(["", "validation", "test"], both.map((m) => [m, number(r.metrics.val?.[m]), number(r.metrics.test?.[m])]))));
      else if (fact && typeof fact === "object" && !Array.isArray(fact) && Object.keys(fact).length) parts.push(...section(name, grid(null, Object.entries(fact).map(([k, v]) => [k, plain(k, v)]))));
      else if (name !== "metrics") rest.push([name, plain(name, fact)]);
    }
    return [grid(null, rest), ...parts];
  };
  const button = (text, i) => { const b = make("button", text, { type: "button", className: "figure" }); b.dataset.open = i; return b; };
  const show = (tokens) => {
    const list = tokens.map((i) => [i, record(i)]);
    title.textContent = list.length === 1 ? heading(list[0][1]) : `${list.length} records`;
    body.replaceChildren(...(list.length === 1 ? one(list[0][1]) : [grid(["record", "status", "figure", "skill", "wall-clock s"], list.map(([i, r]) => [button(heading(r), i), r.status, ...figures(r).slice(0, 2), figures(r)[2]]))]));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    title.focus();
  };
  const figures = (r) => [r.primary ? `${r.primary.name} ${number(r.primary.value)}` : r.summary || "–", number(r.skill), r.cost ? number(Math.round(10 * r.cost.train_seconds) / 10) : number(r.seconds)];
  $("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.addEventListener("click", (event) => {
    const open = event.target.closest("[data-open]"), name = event.target.closest(".name");
    if (open) show(open.dataset.open.split(" "));
    if (name) light(name.textContent === select.value ? "" : name.textContent);
  });

  // one model brought out
  const select = $("highlight");
  const light = (model) => {
    select.value = model;
    all("svg [data-of], .keys [data-of]").forEach((mark) => mark.classList.toggle("dim", model !== "" && !mark.dataset.of.split("\n").includes(model)));
    all("tr[data-of]").forEach((row) => row.classList.toggle("lit", row.dataset.of === model));
    all(".name").forEach((name) => name.setAttribute("aria-pressed", name.textContent === model));
  };
  if (select) select.addEventListener("change", () => light(select.value));

  // the table of all records, made as far as it is looked at
  const table = $("all"), more = $("more");
  if (!table) return;
  const COLUMNS = ["record", "model", "size", "seed", "budget", "learning rate", "status", "figure", "skill", "wall-clock s"];
  const rows = packed.records.map((_, i) => {
    const r = record(i);
    const cells = [what(r), who(r), size(r), String(seed(r)), r.budget ?? (r.case && r.case.budget) ?? "", number(r.config && r.config.learning_rate), r.status, ...figures(r)];
    return { i, cells, text: cells.join(" ").toLowerCase() };
  });
  let shown = rows, count = 0;
  const add = (many) => {
    const next = shown.slice(count, count + many);
    count += next.length;
    table.tBodies[0].append(...next.map(({ i, cells }) => {
      const tr = make("tr");
      cells.forEach((cell, k) => { const td = make("td", k ? cell : ""); if (k < 3) td.className = "left"; if (!k) td.append(button(cell, i)); tr.append(td); });
      return tr;
    }));
    more.hidden = count >= shown.length;
    more.textContent = `Show more (${(shown.length - count).toLocaleString("en")} left)`;
  };
  const again = () => { table.tBodies[0].replaceChildren(); count = 0; add(50); };
  const row = table.tHead.rows[0];
  COLUMNS.forEach((name, k) => row.append(make("th", name, { scope: "col", className: k < 3 ? "left" : "" })));
  heads(table, (place, way) => {
    const keyed = new Map(rows.map((r) => [r, value({ textContent: r.cells[place].replace(/^[a-z_]+ (?=[\d.-]+$)/i, "") })]));
    rows.sort((a, b) => compare(keyed.get(a), keyed.get(b), way));
    find();
  });
  more.addEventListener("click", () => add(500));

  // rows in which, or in whose heading, all words are found
  const filter = $("filter"), found = $("found");
  const sections = all("section[data-filter]").map((part) => ({
    part, rows: all("tbody tr", part.querySelector("table")).map((tr) => [tr, `${part.querySelector("h2").textContent} ${tr.textContent}`.toLowerCase()]),
  }));
  const find = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean), has = (text) => words.every((word) => text.includes(word));
    let left = 0;
    for (const { part, rows: own } of sections) {
      let some = 0;
      for (const [tr, text] of own) { const good = has(text); tr.hidden = !good; some += good; }
      part.hidden = !some && words.length > 0;
      left += some;
    }
    shown = words.length ? rows.filter((r) => has(r.text)) : rows;
    again();
    found.textContent = words.length ? `With “${filter.value.trim()}”: ${left} rows of the tables, ${shown.length.toLocaleString("en")} records.` : "";
  };
  let waiting = 0;
  filter.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(find, 80); });
  find();
})();
