"use strict";
// The image viewer: two steps beside a slider, image, residual or model, in Jy/beam or sigma.
Page.ready(() => {
  const all = Page.data("data-images"), root = document.getElementById("viewer");
  if (!all || !root) return;
  root.hidden = false;
  let data, width, height, frames, n, decoded, pictures;
  const get = name => root.querySelector(`[name=${name}]`);
  const canvas = root.querySelector(".picture"), context = canvas.getContext("2d");
  const readout = root.querySelector("output"), bar = root.querySelector(".colourbar");
  const left = get("left"), right = get("right"), what = get("what"), stretch = get("stretch");
  const common = get("common"), mask = get("mask"), beam = get("beam"), slider = get("slider");
  const area = get("area");
  if (!all.whole) area.closest("label").hidden = true;
  if (all.frames.length < 2) {  // nothing to compare
    for (const control of [right, slider, common]) control.closest("label").hidden = true;
    get("blink").hidden = true;
  }
  function use(chosen) {  // the part around the source, or the whole image of a few steps
    data = chosen; ({ width, height, frames } = data); n = width * height; decoded = {}; pictures = {};
    for (const select of [left, right]) {
      const before = select.selectedOptions.length ? select.selectedOptions[0].textContent : "";
      select.replaceChildren();
      frames.forEach((f, i) => Page.option(select, i, f.label + (f.status === "rejected" ? " (rejected)" : "")));
      const own = frames.map((f, i) => i).filter(i => frames[i].status === "done" && f(i));
      const same = frames.findIndex(one => one.label === before.replace(" (rejected)", ""));
      const last = [frames.findIndex(one => one.label === all.final), own.length ? own[own.length - 1] : -1, frames.length - 1];
      select.value = same >= 0 ? same : select === left ? 0 : last.find(i => i >= 0);
    }
    function f(i) { return frames[i].label !== "Untouched data" || frames.length === 1; }
  }
  use(all);
  function plane(i, kind) {  // Jy/beam, rows from the south
    const key = i + kind;
    if (decoded[key]) return decoded[key];
    const f = frames[i];
    let out;
    if (kind === "mask") out = f.mask ? Page.bits(f.mask, n) : null;
    else if (kind === "model") {
      const a = plane(i, "image"), b = plane(i, "residual");
      out = b ? a.map((v, k) => v - b[k]) : null;
    } else if (kind === "sigma") {
      const b = plane(i, "residual");
      out = b ? b.map(v => v / (f.sigma || 1)) : null;
    } else out = f[kind] ? Page.halfFloats(f[kind]).map(v => v * f.scale) : null;
    return decoded[key] = out;
  }
  function limits(i) {
    const kind = what.value;
    if (kind === "sigma") return [-5, 5];
    const chosen = common.checked ? [+left.value, +right.value] : [i];
    let low = Infinity, high = -Infinity, sigma = Infinity;
    for (const j of chosen) {
      const p = plane(j, kind);
      if (!p) continue;
      for (const v of p) { if (v < low) low = v; if (v > high) high = v; }
      sigma = Math.min(sigma, frames[j].sigma || Infinity);
    }
    if (kind === "residual") { const m = Math.max(-low, high); return [-m, m]; }
    if (!isFinite(sigma)) sigma = high / 100;
    return [Math.max(low, -3 * sigma), high, sigma];
  }
  function picture(i) {
    const kind = what.value, [low, high, sigma] = limits(i);
    const key = [i, kind, stretch.value, low, high].join();
    if (pictures[key]) return pictures[key];
    const p = plane(i, kind), image = new ImageData(width, height);
    const colours = Page.table(kind === "sigma" || kind === "residual" ? "difference" : "brightness");
    const soft = stretch.value === "asinh" && kind !== "sigma";
    const unit = kind === "residual" ? high / 10 : sigma || high / 100;
    const bend = v => soft ? Math.asinh(v / unit) : v, a = bend(low), b = bend(high);
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      const v = p ? p[y * width + x] : NaN, k = 4 * ((height - 1 - y) * width + x);
      const c = isNaN(v) ? -1 : Math.max(0, Math.min(255, Math.round(255 * (bend(v) - a) / (b - a || 1))));
      for (let j = 0; j < 3; j++) image.data[k + j] = c < 0 ? 150 : colours[3 * c + j];
      image.data[k + 3] = 255;
    }
    const element = document.createElement("canvas");
    element.width = width; element.height = height;
    element.getContext("2d").putImageData(image, 0, 0);
    element.scaleOf = { low, high, bend, a, b, colours };
    return pictures[key] = element;
  }
  let zoom = 1, panX = 0, panY = 0, blink = null, shown = 1, cursor = null;
  function place() {  // the image's corner and size on the canvas
    const side = Math.min(canvas.width / width, canvas.height / height) * zoom;
    return { side, x: canvas.width / 2 + panX - side * width / 2, y: canvas.height / 2 + panY - side * height / 2 };
  }
  function outline(i, at) {
    const m = mask.checked ? plane(i, "mask") : null;
    if (!m) return;
    context.strokeStyle = what.value === "image" || what.value === "model" ? "#5fd3ff" : "#111";
    context.lineWidth = Math.max(1, devicePixelRatio);
    context.beginPath();
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      const here = m[y * width + x];
      const sx = at.x + x * at.side, sy = at.y + (height - y) * at.side;
      if (here !== (x ? m[y * width + x - 1] : 0)) { context.moveTo(sx, sy); context.lineTo(sx, sy - at.side); }
      if (here !== (y ? m[(y - 1) * width + x] : 0)) { context.moveTo(sx, sy); context.lineTo(sx + at.side, sy); }
    }
    context.stroke();
  }
  function ellipse(i, at) {
    const b = frames[i].beam;
    if (!beam.checked || !b) return;
    const [l, r] = data.extent, cell = Math.abs(r - l) / width;
    const major = b[0] / cell * at.side / 2, minor = b[1] / cell * at.side / 2;
    const x = Math.max(at.x, 0) + major + 10, y = Math.min(at.y + height * at.side, canvas.height) - major - 10;
    context.beginPath();
    // north through east, east to the left
    context.ellipse(x, y, major, minor, -(b[2] + 90) * Math.PI / 180, 0, 2 * Math.PI);
    context.fillStyle = "#ffffffcc"; context.fill();
    context.strokeStyle = "#333"; context.lineWidth = 1; context.stroke();
  }
  function draw() {
    const ratio = devicePixelRatio || 1, box = canvas.getBoundingClientRect();
    if (!box.width) return;
    canvas.width = Math.round(box.width * ratio); canvas.height = Math.round(box.width * ratio * height / width);
    context.imageSmoothingEnabled = false;
    const at = place(), split = canvas.width * slider.value / 100;
    const half = (i, from, to) => {
      if (to <= from) return;
      context.save(); context.beginPath(); context.rect(from, 0, to - from, canvas.height); context.clip();
      context.drawImage(picture(i), at.x, at.y, at.side * width, at.side * height);
      outline(i, at); context.restore();
    };
    if (blink) half(+(shown ? right : left).value, 0, canvas.width);
    else {
      half(+left.value, 0, split); half(+right.value, split, canvas.width);
      if (split > 0 && split < canvas.width && left.value !== right.value) {
        context.fillStyle = "#fff"; context.fillRect(split - 1, 0, 2, canvas.height);
        context.fillStyle = "#333"; context.fillRect(split + 1, 0, 1, canvas.height);
      }
    }
    ellipse(+right.value, at);
    if (cursor) {
      const cx = at.x + (cursor[0] + 0.5) * at.side, cy = at.y + (height - cursor[1] - 0.5) * at.side;
      context.strokeStyle = "#fff"; context.lineWidth = 2 * ratio; context.strokeRect(cx - 6, cy - 6, 12, 12);
      context.strokeStyle = "#000"; context.lineWidth = ratio; context.strokeRect(cx - 8, cy - 8, 16, 16);
    }
    root.querySelector(".names").textContent = blink ? frames[+(shown ? right : left).value].label
      : slider.value <= 0 ? frames[+right.value].label : slider.value >= 100 ? frames[+left.value].label
      : left.value === right.value ? frames[+left.value].label
      : `${frames[+left.value].label} | ${frames[+right.value].label}`;
    legend(picture(+right.value).scaleOf);
  }
  function legend(s) {
    const c = bar.getContext("2d"), w = bar.width = 256, h = bar.height = 10;
    const image = c.createImageData(w, h);
    for (let x = 0; x < w; x++) for (let y = 0; y < h; y++) {
      for (let j = 0; j < 3; j++) image.data[4 * (y * w + x) + j] = s.colours[3 * x + j];
      image.data[4 * (y * w + x) + 3] = 255;
    }
    c.putImageData(image, 0, 0);
    const unit = what.value === "sigma" ? "" : "Jy/beam", say = v => unit ? Page.quantity(v, unit) : v + " sigma";
    root.querySelector(".low").textContent = say(s.low);
    root.querySelector(".high").textContent = say(s.high);
  }
  function two(v) { return String(v).padStart(2, "0"); }
  function position(x, y) {  // the tangent plane (SIN) of the image
    const [l0, r0, b0, t0] = data.extent, arcsec = Math.PI / 180 / 3600;
    const dl = l0 + (x + 0.5) * (r0 - l0) / width, dm = b0 + (y + 0.5) * (t0 - b0) / height;
    const offset = `${dl.toPrecision(4)}, ${dm.toPrecision(4)} arcsec`;
    if (!data.centre) return offset;
    const l = dl * arcsec, m = dm * arcsec, nn = Math.sqrt(Math.max(0, 1 - l * l - m * m));
    const [ra0, dec0] = data.centre.map(v => v * Math.PI / 180);
    const dec = Math.asin(m * Math.cos(dec0) + nn * Math.sin(dec0));
    const ra = ra0 + Math.atan2(l, nn * Math.cos(dec0) - m * Math.sin(dec0));
    const digits = Math.max(1, Math.min(6, Math.ceil(-Math.log10(Math.abs(r0 - l0) / width)) + 1));
    const parts = (v, d) => {
      let units = Math.round(v * 3600 * 10 ** d);
      const scale = 10 ** d, s = units / scale, whole = Math.floor(s / 60);
      return [Math.floor(whole / 60), whole % 60, (s - 60 * whole).toFixed(d).padStart(d ? d + 3 : 2, "0")];
    };
    const hours = ((ra * 12 / Math.PI) % 24 + 24) % 24, h = parts(hours, digits + 1), g = parts(Math.abs(dec) * 180 / Math.PI, digits);
    return `${two(h[0])}:${two(h[1])}:${h[2]} ${dec < 0 ? "−" : "+"}${two(g[0])}:${two(g[1])}:${g[2]} ${data.frame}`;
  }
  function tell(x, y) {
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    const value = i => {
      const p = plane(i, what.value);
      return !p ? "–" : what.value === "sigma" ? p[y * width + x].toFixed(1) + " sigma" : Page.quantity(p[y * width + x], "Jy/beam");
    };
    const a = +left.value, b = +right.value;
    readout.textContent = `${position(x, y)}: ${frames[a].label} ${value(a)}` + (a === b ? "" : `, ${frames[b].label} ${value(b)}`);
  }
  function pixel(event) {
    const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width, at = place();
    return [Math.floor(((event.clientX - box.left) * ratio - at.x) / at.side),
      height - 1 - Math.floor(((event.clientY - box.top) * ratio - at.y) / at.side)];
  }
  area.addEventListener("input", () => {
    use(area.value === "whole" ? all.whole : all);
    zoom = 1; panX = panY = 0; cursor = null; draw();
  });
  let drag = null;
  canvas.addEventListener("pointerdown", e => { drag = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
  canvas.addEventListener("pointerup", () => { drag = null; });
  canvas.addEventListener("pointermove", e => {
    if (drag && zoom > 1) {
      const ratio = canvas.width / canvas.getBoundingClientRect().width;
      panX += (e.clientX - drag[0]) * ratio; panY += (e.clientY - drag[1]) * ratio;
      drag = [e.clientX, e.clientY]; draw();
    }
    tell(...pixel(e));
  });
  function zoomed(factor) { zoom = Math.max(1, Math.min(40, zoom * factor)); if (zoom === 1) panX = panY = 0; draw(); }
  canvas.addEventListener("wheel", e => { if (e.ctrlKey || e.shiftKey || zoom > 1) { e.preventDefault(); zoomed(e.deltaY < 0 ? 1.25 : 0.8); } }, { passive: false });
  canvas.addEventListener("keydown", e => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (moves[e.key]) {
      cursor = cursor || [width >> 1, height >> 1];
      const far = e.shiftKey ? 10 : 1;
      cursor = [Math.max(0, Math.min(width - 1, cursor[0] + far * moves[e.key][0])),
        Math.max(0, Math.min(height - 1, cursor[1] + far * moves[e.key][1]))];
      tell(...cursor);
    } else if (e.key === "+" || e.key === "=") zoomed(1.25);
    else if (e.key === "-") zoomed(0.8);
    else if (e.key === "0") { zoom = 1; panX = panY = 0; cursor = null; }
    else return;
    e.preventDefault(); draw();
  });
  get("zoomin").addEventListener("click", () => zoomed(1.4));
  get("zoomout").addEventListener("click", () => zoomed(1 / 1.4));
  get("reset").addEventListener("click", () => { zoom = 1; panX = panY = 0; cursor = null; draw(); });
  get("blink").addEventListener("click", e => {
    if (blink) { clearInterval(blink); blink = null; }
    else blink = setInterval(() => { shown = 1 - shown; draw(); }, 700);
    e.target.setAttribute("aria-pressed", String(!!blink)); draw();
  });
  for (const control of [left, right, what, stretch, common, mask, beam, slider]) control.addEventListener("input", draw);
  new ResizeObserver(draw).observe(canvas.parentElement);
  draw();
});
