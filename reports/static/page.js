"use strict";
// What both the image viewer and the gains need: decoding of numbers, colours, and the page's own
// controls. Nothing is fetched from anywhere.
const Page = (() => {
  function bytes(text) {
    const raw = atob(text), out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return out;
  }
  // 16-bit floats, which not every browser reads by itself
  function halfFloats(text) {
    const raw = bytes(text), n = raw.length >> 1, out = new Float32Array(n);
    for (let i = 0; i < n; i++) {
      const h = raw[2 * i] | (raw[2 * i + 1] << 8);
      const sign = h & 0x8000 ? -1 : 1, power = (h >> 10) & 31, part = h & 1023;
      out[i] = power === 31 ? (part ? NaN : sign * Infinity)
        : power ? sign * (1 + part / 1024) * 2 ** (power - 15) : sign * part * 2 ** -24;
    }
    return out;
  }
  function shortIntegers(text, step) {
    const raw = bytes(text), n = raw.length >> 1, out = new Float32Array(n);
    for (let i = 0; i < n; i++) {
      const v = ((raw[2 * i] | (raw[2 * i + 1] << 8)) << 16) >> 16;
      out[i] = v === -32768 ? NaN : v * step;
    }
    return out;
  }
  function bits(text, n) {
    const raw = bytes(text), out = new Uint8Array(n);
    for (let i = 0; i < n; i++) out[i] = (raw[i >> 3] >> (7 - (i & 7))) & 1;
    return out;
  }
  function data(id) {
    const element = document.getElementById(id);
    return element ? JSON.parse(element.textContent) : null;
  }
  let maps = null;
  const tables = {};
  function table(name) {  // 256 colours between the stops
    maps = maps || data("data-colours");
    if (!tables[name]) {
      const stops = maps[name].map(c => [1, 3, 5].map(i => parseInt(c.slice(i, i + 2), 16)));
      const out = new Uint8Array(768);
      for (let i = 0; i < 256; i++) {
        const place = i / 255 * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2);
        for (let k = 0; k < 3; k++)
          out[3 * i + k] = Math.round(stops[low][k] + (place - low) * (stops[low + 1][k] - stops[low][k]));
      }
      tables[name] = out;
    }
    return tables[name];
  }
  const prefixes = [[1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];
  function quantity(value, unit) {
    const size = Math.abs(value);
    const [scale, prefix] = prefixes.find(([s]) => size >= s * 0.9995) || prefixes[3];
    return Number((value / scale).toPrecision(4)).toString().replace("-", "−") + " " + prefix + unit;
  }
  function option(select, value, text) {
    const element = document.createElement("option");
    element.value = value; element.textContent = text; select.append(element);
  }
  function sortable(one) {  // by a click or a key on a column's heading
    const value = (row, column) => {
      const cell = row.cells[column], given = cell.dataset.value;
      const text = cell.textContent.trim();
      const number = given !== undefined ? parseFloat(given) : parseFloat(text.replace(/\s/g, "").replace("−", "-"));
      return isNaN(number) ? text : number;
    };
    [...one.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button"; button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const up = heading.getAttribute("aria-sort") !== "ascending";
        for (const other of one.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
        const body = one.tBodies[0], rows = [...body.rows];
        rows.sort((x, y) => {
          const a = value(x, column), b = value(y, column);
          if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;  // what is missing comes last
          const order = typeof a === "number" ? a - b : a.localeCompare(b);
          return up ? order : -order;
        });
        body.append(...rows);
      });
    });
  }
  function ready(run) {
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", run);
    else run();
  }
  ready(() => {
    const root = document.documentElement;
    const theme = document.getElementById("theme");
    if (theme) {
      const dark = () => root.dataset.theme ? root.dataset.theme === "dark"
        : matchMedia("(prefers-color-scheme: dark)").matches;
      theme.hidden = false;
      theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; });
    }
    for (const button of document.querySelectorAll("button[data-copy]")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        const text = button.dataset.copy;
        try { await navigator.clipboard.writeText(text); }
        catch {  // pages from a disk may not have a clipboard: the text is selected instead
          const code = button.parentElement.querySelector("code");
          getSelection().selectAllChildren(code);
          document.execCommand("copy");
        }
        button.textContent = "copied";
        setTimeout(() => { button.textContent = "copy"; }, 1500);
      });
    }
    for (const one of document.querySelectorAll("table.sortable")) sortable(one);
    // a page of a run that goes on shows the next one by itself while somebody looks at it
    if (root.dataset.live) setInterval(() => { if (!document.hidden) location.reload(); }, 5000);
  });
  return { halfFloats, shortIntegers, bits, data, table, quantity, option, ready };
})();
