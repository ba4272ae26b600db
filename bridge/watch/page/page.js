// The status page: hears pictures of the bridge over /events, and shows them. Texts are set as texts, never as markup.
"use strict";
(() => {
  const SHOWN = 50, KEPT = 1000, RATE_S = 10, TREND_S = 60, SILENT_MS = 15000;
  const at = (id) => document.getElementById(id);
  const rows = { backends: new Map(), ledger: new Map() };
  const states = new Map();
  const samples = new Map(); // backend -> [{time, received, count, sum, buckets}]
  const events = [];
  let picture = null, skew = 0, heard = Date.now(), paused = false, stale = true, drawn = false;

  const now = () => Date.now() + skew;
  const whole = (number) => number.toLocaleString("en");
  const element = (name, text, attributes = {}) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };

  function span(seconds) {
    const s = Math.max(0, Math.round(seconds));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
  }
  const since = (text) => (now() - Date.parse(text)) / 1000;
  function clock(text) {
    const then = new Date(text), day = then.toDateString() === new Date(now()).toDateString() ? "" : `${then.toLocaleDateString("sv")} `;
    return day + then.toLocaleTimeString("en-GB");
  }
  function size(bytes) {
    for (const [unit, one] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]])
      if (bytes >= one) return `${(bytes / one).toFixed(1)} ${unit}`;
    return `${bytes} B`;
  }
  function seconds(value) {
    if (value < 0.001) return `${(value * 1e6).toFixed(0)} µs`;
    return value < 1 ? `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms` : `${value.toFixed(1)} s`;
  }

  // Rows: one per backend and table, made once; a cell is a text, and small print below it.

  function row(table, name, labels) {
    const known = rows[table].get(name);
    if (known) return known;
    const made = element("tr", undefined, { role: "row", "data-backend": name });
    const head = element("th", undefined, { role: "rowheader", scope: "row" });
    head.append(element("span", name), element("small"));
    const cells = labels.map((label) => {
      const cell = element("td", undefined, { role: "cell", "data-label": label });
      cell.append(element("span"), element("small"));
      made.append(cell);
      return cell;
    });
    made.prepend(head);
    rows[table].set(name, { made, head, cells });
    at(table).tBodies[0].append(made);
    return rows[table].get(name);
  }
  function fill(cell, text, small = "", title = "") {
    put(cell.firstChild, text);
    put(cell.children[1], small);
    if (cell.title !== title) cell.title = title;
  }
  function tidy(table) {
    const names = new Set(picture.backends.map((one) => one.name));
    for (const [name, { made }] of rows[table]) if (!names.has(name)) { made.remove(); rows[table].delete(name); states.delete(name); samples.delete(name); }
  }

  const BACKEND = ["State", "Events per second", "Latency", "Waiting", "Last event", "Last gap", "Next try"];
  function backend(one) {
    const { head, cells: [state, rate, latency, waiting, last, gap, next] } = row("backends", one.name, BACKEND);
    put(head.children[1], one.type);
    state.firstChild.className = "badge";
    state.firstChild.dataset.state = one.state;
    const age = one.since ? `for ${span(since(one.since))}` : "";
    fill(state, one.state.replace("_", " "), `${age}${one.mqtt ? "" : " · not connected to the broker"}`, one.since || "");
    if (state.children.length < 3) state.append(element("small", "", { class: "error" }));
    put(state.children[2], one.error || "");
    rateOf(one, rate);
    latencyOf(one, latency);
    fill(waiting, whole(one.waiting), one.waiting ? `${size(one.bytes)}, the oldest for ${span(since(one.oldest))}` : "");
    fill(last, one.last_event ? `${span(since(one.last_event))} ago` : "none yet", "", one.last_event || "");
    const missed = one.gap && (Date.parse(one.gap.to) - Date.parse(one.gap.from)) / 1000;
    fill(gap, one.gap ? `${span(missed)}, ${span(since(one.gap.to))} ago` : "none",
      one.gap ? `${one.gap.reason}; backfill: ${one.gap.backfill}` : "", one.gap ? `${one.gap.from} to ${one.gap.to}` : "");
    const wait = one.next_retry && -since(one.next_retry);
    fill(next, !one.next_retry ? "–" : wait > 0 ? `in ${span(wait)}` : "now", one.attempt ? `attempt ${one.attempt}` : "", one.next_retry || "");
  }

  function window_(name, length) {
    const all = samples.get(name) || [];
    const end = all[all.length - 1];
    const start = end && all.find((one) => one.time >= end.time - length * 1000);
    return start && start !== end ? [start, end] : null;
  }
  function rateOf(one, cell) {
    const found = window_(one.name, RATE_S);
    const rate = found && (found[1].received - found[0].received) / ((found[1].time - found[0].time) / 1000);
    fill(cell, rate === null ? "…" : rate >= 100 ? whole(Math.round(rate)) : rate.toFixed(1), "");
    if (cell.children.length < 3) cell.append(trend());
    const all = samples.get(one.name) || [];
    const steps = all.slice(1).map((s, i) => Math.max(0, s.received - all[i].received) / Math.max(0.001, (s.time - all[i].time) / 1000));
    const most = Math.max(0, ...steps);
    const path = (most ? steps : []).map((step, i) => `${i ? "L" : "M"}${TREND_S - steps.length + i} ${(19 - 18 * step / most).toFixed(1)}`).join("");
    cell.children[2].firstChild.setAttribute("d", path);
  }
  function trend() {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${TREND_S} 20`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
    return svg;
  }
  function latencyOf(one, cell) {
    const found = window_(one.name, TREND_S);
    const count = found ? found[1].count - found[0].count : 0;
    if (count <= 0) return fill(cell, "–", one.latency.count ? "no event within a minute" : "");
    const bounds = one.latency.bounds, marks = found[1].buckets.map((n, i) => n - found[0].buckets[i]);
    let sum = 0;
    const place = marks.findIndex((n) => (sum += n) >= 0.95 * count);
    const bound = place < bounds.length ? `95 % within ${seconds(bounds[place])}` : `5 % above ${seconds(bounds[bounds.length - 1])}`;
    fill(cell, seconds((found[1].sum - found[0].sum) / count), bound, "frame read to acknowledged by the broker, mean of the last minute");
  }

  const LEDGER = ["Received", "Recovered", "Published", "Dropped", "Waiting", "Balance", "Gaps", "Unread frames"];
  function ledger(one) {
    const { cells } = row("ledger", one.name, LEDGER);
    const dropped = Object.entries(one.dropped), lost = dropped.reduce((sum, [, count]) => sum + count, 0);
    const even = one.received + one.recovered === one.published + lost + one.waiting;
    const texts = [whole(one.received), whole(one.recovered), whole(one.published), whole(lost), whole(one.waiting),
      even ? "balanced" : "does not balance", whole(one.gaps), whole(one.unread)];
    texts.forEach((text, i) => fill(cells[i], text));
    fill(cells[0], texts[0], [one.ignored && `${whole(one.ignored)} ignored`, one.replayed && `${whole(one.replayed)} from history`].filter(Boolean).join(", "));
    fill(cells[3], texts[3], dropped.map(([reason, count]) => `${reason} ${whole(count)}`).join(", "));
    fill(cells[6], texts[6], one.gaps ? `${span(one.gap_seconds)} in all` : "");
  }

  function bridge() {
    const ready = picture.ready, standby = (picture.lease || "").startsWith("standby");
    put(at("version"), picture.version);
    put(at("ready"), picture.draining ? "stopping" : standby ? "standby" : ready ? "ready" : "not ready");
    at("ready").dataset.state = picture.draining ? "degraded" : standby ? "disabled" : ready ? "online" : "offline";
    const wait = ready || picture.draining ? "" : `waiting for ${picture.waiting.join(", ")} · `;
    const broker = standby ? "" : picture.mqtt ? "broker connected · " : "broker not connected · ";
    put(at("about"), `${wait}${broker}${picture.instance} · topics below ${picture.base_topic}/ · up ${span((now() - Number(picture.session)) / 1000)}`);
    put(at("lease"), picture.lease || "");
    put(at("none"), standby ? "Another replica is active: this one is connected nowhere." : "No backends are configured.");
    put(at("sum"), sum());
    const away = picture.backends.filter((one) => one.state !== "online" && one.state !== "disabled").length;
    const title = stale ? "? ws2mqtt" : away ? `(${away}) ws2mqtt` : "ws2mqtt";
    if (document.title !== title) document.title = title;
  }

  // `47 online, 2 offline, 1 auth failed`: with fifty backends nobody counts.
  function sum() {
    const counts = new Map();
    for (const one of picture.backends) counts.set(one.state, (counts.get(one.state) || 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1]).map(([state, count]) => `${whole(count)} ${state.replace("_", " ")}`).join(", ");
  }

  function draw() {
    if (!picture) return;
    if (!drawn) { at("backends").tBodies[0].replaceChildren(); drawn = true; } // what the page came with
    bridge();
    at("none").hidden = picture.backends.length > 0;
    for (const table of ["backends", "ledger"]) { at(table).hidden = !picture.backends.length; tidy(table); }
    for (const one of picture.backends) { backend(one); ledger(one); }
  }

  // What a screen reader is told by itself: changes of state, nothing else.
  function announce() {
    const told = [];
    for (const one of picture.backends) {
      const before = states.get(one.name);
      if (before !== undefined && before !== one.state) told.push(`${one.name} is ${one.state.replace("_", " ")}`);
      states.set(one.name, one.state);
    }
    if (told.length) put(at("news"), told.join(", "));
  }

  function sample() {
    if (!picture || stale) return;
    for (const { name, received, latency } of picture.backends) {
      const all = samples.get(name) || samples.set(name, []).get(name);
      if (all.length && received < all[all.length - 1].received) all.length = 0; // another start
      all.push({ time: Date.now(), received, count: latency.count, sum: latency.sum, buckets: latency.buckets });
      while (all.length > TREND_S + 1) all.shift();
    }
  }

  // Events

  function eventRow(one) {
    const made = element("tr", undefined, { role: "row" });
    const cell = (label, text, title) => {
      const td = element("td", undefined, { role: "cell", "data-label": label });
      td.append(element("span", text));
      if (title) td.title = title;
      made.append(td);
    };
    cell("Time", clock(one.time), one.time);
    cell("Backend", one.backend);
    cell("Type", one.replay ? `${one.type} (history)` : one.type);
    cell("Subject", one.subject || "–");
    return made;
  }
  function drawEvents() {
    const words = at("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = events.filter((one) => words.every((word) => one.text.includes(word)));
    const shown = fits.slice(0, SHOWN);
    at("events").tBodies[0].replaceChildren(...shown.map((one) => (one.row ||= eventRow(one))));
    const of = words.length ? ` of ${whole(events.length)} seen here` : "";
    put(at("count"), events.length ? `${whole(shown.length)} shown${of}${paused ? ", paused" : ""}` : "none yet");
  }

  at("filter").addEventListener("input", drawEvents);
  at("filter").addEventListener("keydown", (key) => {
    if (key.key === "Escape") { at("filter").value = ""; drawEvents(); }
  });
  document.addEventListener("keydown", (key) => {
    if (key.key !== "/" || key.ctrlKey || key.altKey || key.metaKey || key.target === at("filter")) return;
    key.preventDefault();
    at("filter").focus();
  });
  at("pause").addEventListener("click", () => {
    paused = !paused;
    at("pause").setAttribute("aria-pressed", String(paused));
    drawEvents();
  });

  // The link to the bridge; a browser comes back by itself, unless it was told no.

  function live(there) {
    stale = !there;
    document.body.classList.toggle("stale", stale);
    put(at("live"), there ? "live" : "no answer from the bridge, trying again");
    at("live").dataset.state = there ? "online" : "offline";
    draw();
  }
  function listen() {
    const source = new EventSource("/events");
    const alive = () => { heard = Date.now(); if (stale && picture) live(true); };
    source.addEventListener("beat", alive);
    source.addEventListener("picture", (message) => {
      const told = JSON.parse(message.data);
      skew = Date.parse(told.time) - Date.now();
      if (picture && picture.session !== told.picture.session) { samples.clear(); }
      picture = told.picture;
      alive();
      announce();
      draw();
    });
    source.addEventListener("recent", (message) => {
      for (const one of JSON.parse(message.data)) {
        one.text = `${one.backend} ${one.type} ${one.subject}`.toLowerCase();
        events.unshift(one);
      }
      events.length = Math.min(events.length, KEPT);
      if (!paused) drawEvents();
    });
    source.addEventListener("error", () => {
      live(false);
      if (source.readyState === EventSource.CLOSED) { source.close(); setTimeout(listen, 3000); }
    });
  }
  setInterval(() => {
    if (!stale && Date.now() - heard > SILENT_MS) live(false);
    sample();
    draw();
  }, 1000);
  drawEvents();
  listen();
})();
