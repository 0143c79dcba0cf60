"use strict";
// The gains: antenna against time as colours; an antenna's traces by window and hand beneath.
Page.ready(() => {
  const tables = Page.data("data-gains"), root = document.getElementById("gains-view");
  if (!tables || !tables.length || !root) return;
  root.hidden = false;
  const get = name => root.querySelector(`[name=${name}]`);
  const pick = get("table"), what = get("quantity"), order = get("order"), search = get("search");
  const list = root.querySelector(".antennas"), canvas = root.querySelector(".field canvas");
  const context = canvas.getContext("2d"), readout = root.querySelector("output"), trace = root.querySelector(".trace");
  const ROW = 14;
  tables.forEach((t, i) => Page.option(pick, i, t.step + (t.status === "rejected" ? " (rejected)" : "") + (t.ms ? ", " + t.ms : "")));
  const last = tables.map((t, i) => i).filter(i => tables[i].status === "done").pop();
  pick.value = last === undefined ? 0 : last;
  const decoded = {};
  function values(t, kind) {
    const key = tables.indexOf(t) + kind;
    if (!decoded[key]) decoded[key] = kind === "phase" ? Page.shortIntegers(t.phase, 0.01) : Page.halfFloats(t[kind]);
    return decoded[key];
  }
  function shape(t) { return [t.times.length, t.windows.length, t.antennas.length, t.hands.length]; }
  function at(t, i, w, a, h) { const [, W, A, H] = shape(t); return ((i * W + w) * A + a) * H + h; }
  function cell(t, kind, i, a) {  // of all windows and hands: mean phase, amplitude, median SNR, part flagged
    const [, W, , H] = shape(t), phase = values(t, "phase"), out = [];
    let re = 0, im = 0, bad = 0;
    const source = kind === "flags" || kind === "phase" ? phase : values(t, kind);
    for (let w = 0; w < W; w++) for (let h = 0; h < H; h++) {
      const v = source[at(t, i, w, a, h)];
      if (isNaN(v)) { bad++; continue; }
      if (kind === "phase") { re += Math.cos(v * Math.PI / 180); im += Math.sin(v * Math.PI / 180); }
      out.push(v);
    }
    if (kind === "flags") return bad / (W * H);
    if (!out.length) return NaN;
    if (kind === "phase") return Math.atan2(im, re) * 180 / Math.PI;
    if (kind === "amplitude") return out.reduce((x, y) => x + y) / out.length;
    out.sort((x, y) => x - y);
    return out[out.length >> 1];
  }
  const stats = {};
  function statistics(t) {
    const key = tables.indexOf(t);
    if (stats[key]) return stats[key];
    const [T, , A] = shape(t);
    return stats[key] = t.antennas.map((name, a) => {
      let flagged = 0, scatter = 0, count = 0, before = NaN;
      for (let i = 0; i < T; i++) {
        flagged += cell(t, "flags", i, a);
        const v = cell(t, "phase", i, a);
        if (!isNaN(v) && !isNaN(before)) { const d = ((v - before + 540) % 360) - 180; scatter += d * d; count++; }
        if (!isNaN(v)) before = v;
      }
      return { name, index: a, flagged: T ? flagged / T : 1, scatter: count ? Math.sqrt(scatter / count) : 0 };
    });
  }
  let rows = [], chosen = null, range = null, chart = null;
  function table() { return tables[+pick.value]; }
  function seen(t) {  // the times that the trace is zoomed to
    const T = t.times.length;
    if (!range) return [0, T];
    let low = t.times.findIndex(v => v >= range[0]), high = t.times.findIndex(v => v > range[1]);
    if (low < 0) low = 0;
    if (high < 0) high = T;
    return high > low ? [low, high] : [0, T];
  }
  function colour(kind, v, limits) {
    if (isNaN(v)) return [170, 170, 170];
    const map = Page.table({ phase: "circle", amplitude: "difference", snr: "brightness", flags: "flags" }[kind]);
    const [low, high] = limits;
    const part = kind === "phase" ? (v + 180) / 360 : kind === "snr"
      ? (Math.log(Math.max(v, 1e-3)) - Math.log(low)) / (Math.log(high) - Math.log(low) || 1) : (v - low) / (high - low || 1);
    const c = Math.max(0, Math.min(255, Math.round(255 * part)));
    return [map[3 * c], map[3 * c + 1], map[3 * c + 2]];
  }
  function limits(t, kind) {
    if (kind === "phase") return [-180, 180];
    if (kind === "flags") return [0, 1];
    const all = Array.from(values(t, kind)).filter(v => !isNaN(v) && v > 0).sort((x, y) => x - y);
    if (!all.length) return [0, 1];
    const q = p => all[Math.min(all.length - 1, Math.floor(p * all.length))];
    if (kind === "amplitude") { const m = Math.max(Math.abs(q(0.01) - 1), Math.abs(q(0.99) - 1), 0.01); return [1 - m, 1 + m]; }
    return [Math.max(q(0.02), 0.1), q(0.98)];
  }
  function draw() {
    const t = table(), kind = what.value, [low, high] = seen(t), box = canvas.parentElement.getBoundingClientRect();
    if (!box.width) return;
    const between = limits(t, kind), T = Math.max(1, high - low);
    const image = new ImageData(T, Math.max(1, rows.length));
    rows.forEach((row, y) => { for (let i = low; i < high; i++) {
      const c = colour(kind, cell(t, kind, i, row.index), between), k = 4 * (y * T + i - low);
      image.data[k] = c[0]; image.data[k + 1] = c[1]; image.data[k + 2] = c[2]; image.data[k + 3] = 255;
    } });
    const small = document.createElement("canvas");
    small.width = T; small.height = image.height;
    small.getContext("2d").putImageData(image, 0, 0);
    canvas.width = Math.max(1, Math.floor(canvas.getBoundingClientRect().width)); canvas.height = Math.max(1, rows.length) * ROW;
    canvas.style.height = canvas.height + "px";
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    const place = rows.findIndex(r => chosen !== null && r.index === chosen);
    if (place >= 0) { context.strokeStyle = "#e69f00"; context.lineWidth = 2; context.strokeRect(1, place * ROW + 1, canvas.width - 2, ROW - 2); }
    const unit = { phase: " deg", amplitude: "", snr: "", flags: "" }[kind];
    const say = v => kind === "flags" ? Math.round(100 * v) + " %" : Number(v.toPrecision(3)) + unit;
    root.querySelector(".low").textContent = say(between[0]);
    root.querySelector(".high").textContent = say(between[1]);
    const bar = root.querySelector(".colourbar"), c = bar.getContext("2d");
    bar.width = 256; bar.height = 10;
    for (let x = 0; x < 256; x++) {
      const part = x / 255;
      const v = kind === "snr" ? between[0] * (between[1] / between[0]) ** part : between[0] + part * (between[1] - between[0]);
      c.fillStyle = `rgb(${colour(kind, v, between).join()})`; c.fillRect(x, 0, 1, 10);
    }
  }
  function fill() {
    const t = table(), words = search.value.trim().toLowerCase();
    rows = statistics(t).filter(r => r.name.toLowerCase().includes(words));
    if (order.value === "flagged") rows.sort((x, y) => y.flagged - x.flagged);
    if (order.value === "scatter") rows.sort((x, y) => y.scatter - x.scatter);
    list.replaceChildren(...rows.map(r => {
      const button = document.createElement("button");
      button.type = "button"; button.textContent = r.name;
      button.title = `${Math.round(100 * r.flagged)} % flagged, ${r.scatter.toFixed(1)} deg from one solution to the next`;
      button.setAttribute("aria-pressed", String(r.index === chosen));
      button.addEventListener("click", () => choose(r.index));
      return button;
    }));
    root.querySelector(".none").hidden = rows.length > 0;
    draw();
  }
  const palette = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#999933", "#882255"];
  function choose(a) {
    chosen = a; fill();
    const t = table(), [T, W, , H] = shape(t), kind = what.value === "flags" ? "phase" : what.value, v = values(t, kind);
    // a line ends where nothing was observed for more than 2.5 intervals
    const steps = t.times.slice(1).map((x, i) => x - t.times[i]).sort((x, y) => x - y);
    const usual = steps.length ? steps[steps.length >> 1] : 0, places = [], minutes = [];
    t.times.forEach((x, i) => {
      if (i && x - t.times[i - 1] > 2.5 * usual) { places.push(-1); minutes.push((x + t.times[i - 1]) / 120); }
      places.push(i); minutes.push(x / 60);
    });
    const series = [{ label: "min" }], columns = [minutes];
    const most = Math.min(W, 8), stride = Math.max(1, Math.ceil(W / most));
    for (let w = 0; w < W; w += stride) for (let h = 0; h < H; h++) {
      const column = places.map(i => { const one = i < 0 ? NaN : v[at(t, i, w, a, h)]; return isNaN(one) ? null : one; });
      const name = (H > 1 ? t.hands[h] + " " : "") + (W > 1 ? t.windows[w] : "");
      series.push({ label: name.trim() || kind, stroke: palette[(series.length - 1) % palette.length], width: 1, points: { show: T < 200, size: 5 }, spanGaps: false });
      columns.push(column);
    }
    if (chart) chart.destroy();
    trace.replaceChildren();
    const title = document.createElement("p");
    const label = { phase: "Phase, deg", amplitude: "Amplitude", snr: "SNR" }[kind];
    title.className = "kicker"; title.textContent = `${t.antennas[a]}: ${label.toLowerCase()} against minutes from the first solution` + (stride > 1 ? `; every ${stride}th window` : "") + ". Drag to zoom, double-click to see all.";
    trace.append(title);
    const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim() || "#222";
    const line = getComputedStyle(document.documentElement).getPropertyValue("--line").trim() || "#ddd";
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line } };
    chart = new uPlot({
      width: Math.max(240, trace.clientWidth - 4), height: 230, series, axes: [axis, { ...axis, size: 60 }],
      scales: { x: { time: false }, y: kind === "phase" ? { range: (u, low, high) => [Math.max(-185, low - 5), Math.min(185, high + 5)] } : {} },
      legend: { show: series.length <= 9 }, cursor: { points: { size: 6 } },
      hooks: { setScale: [(u, key) => {
        if (key !== "x") return;
        const { min, max } = u.scales.x, whole = min <= columns[0][0] && max >= minutes[minutes.length - 1];
        range = whole ? null : [60 * min, 60 * max];
        draw();
      }] },
    }, columns, trace);
  }
  canvas.addEventListener("pointermove", e => {
    const t = table(), box = canvas.getBoundingClientRect(), [low, high] = seen(t);
    const row = rows[Math.floor((e.clientY - box.top) / ROW)], i = low + Math.floor((e.clientX - box.left) / box.width * (high - low));
    if (!row || i < low || i >= high) return;
    const v = cell(t, what.value, i, row.index);
    const said = isNaN(v) ? "flagged" : what.value === "flags" ? `${Math.round(100 * v)} % flagged` : Number(v.toPrecision(4)) + (what.value === "phase" ? " deg" : "");
    readout.textContent = `${row.name}, ${(t.times[i] / 60).toFixed(2)} min: ${said}`;
  });
  canvas.addEventListener("click", e => {
    const row = rows[Math.floor((e.clientY - canvas.getBoundingClientRect().top) / ROW)];
    if (row) choose(row.index);
  });
  for (const control of [pick, what, order, search]) control.addEventListener("input", () => {
    if (control === pick) { chosen = null; range = null; if (chart) { chart.destroy(); chart = null; } trace.replaceChildren(); }
    fill();
    if (chosen !== null) choose(chosen);
  });
  const t = table();
  if (!t.phases && t.amplitudes) what.value = "amplitude";
  new ResizeObserver(() => { draw(); if (chart) chart.setSize({ width: Math.max(240, trace.clientWidth - 4), height: 230 }); }).observe(canvas.parentElement);
  fill();
});
