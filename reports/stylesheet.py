"""Style of the HTML report; no font or script is fetched from elsewhere."""

STYLESHEET = """
:root {
  color-scheme: light;
  --ink: #1b2530; --muted: #56616c; --line: #dbe1e7; --soft: #f5f7f9;
  --blue: #0072b2; --red: #b34700; --green: #00694d; --grey: #66717c;
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 3.6rem; }
body {
  margin: 0; background: #fff; color: var(--ink);
  font: 15.5px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans",
    sans-serif;
}
main, header.top, footer { max-width: 78rem; margin: 0 auto; padding: 0 1.5rem; }
a { color: var(--blue); text-underline-offset: 2px; }
:focus-visible { outline: 3px solid #e69f00; outline-offset: 2px; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 1rem; top: 1rem; background: #fff; padding: .4rem .8rem; z-index: 9; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: .3rem 0 .5rem; letter-spacing: -.012em; }
h2 { font-size: 1.3rem; margin: 3.2rem 0 .8rem; padding-top: .8rem;
  border-top: 2px solid var(--ink); letter-spacing: -.008em; }
main > section:first-of-type h2 { margin-top: 1.2rem; border-top: 0; }
h3 { font-size: 1.12rem; margin: 1.9rem 0 .3rem; }
section.round { border-top: 1px solid var(--line); margin-top: 2rem; }
section.round h3 { margin-top: 1.3rem; }
h4 { font-size: .95rem; margin: 1.3rem 0 .3rem; color: var(--muted); font-weight: 600; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
header.top { padding-top: 2.2rem; }
.kicker { margin: 0; color: var(--muted); font-size: .9rem; }
.lead { font-size: 1.1rem; max-width: 50rem; }
nav { position: sticky; top: 0; background: #fffffff2; border-bottom: 1px solid var(--line);
  z-index: 5; margin-top: 1.2rem; }
nav ul { max-width: 78rem; margin: 0 auto; padding: .55rem 1.5rem; list-style: none;
  display: flex; flex-wrap: wrap; gap: .25rem 1.3rem; font-size: .9rem; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
.badge { display: inline-block; padding: .06rem .5rem; border-radius: .25rem; font-size: .82em;
  font-weight: 600; white-space: nowrap; border: 1px solid currentColor; }
.badge.done, .badge.improved { color: var(--blue); background: #eaf4fa; }
.badge.rejected, .badge.failed { color: var(--red); background: #fdf1e8; }
.badge.skipped, .badge.unchanged, .badge.incomplete, .badge.step {
  color: var(--grey); background: #f3f5f7; }
.scroll { overflow-x: auto; margin: .6rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums;
  line-height: 1.4; }
caption { text-align: left; color: var(--muted); padding: 0 0 .35rem; font-size: .875rem; }
th, td { padding: .34rem .55rem; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap; }
thead th { border-bottom: 1.5px solid var(--ink); vertical-align: bottom; font-weight: 600;
  background: #fff; }
th:first-child, td:first-child { padding-left: .1rem; }
th .unit { display: block; color: var(--muted); font-weight: 400; font-size: .92em; }
.text { text-align: left; }
.wrap { white-space: normal; min-width: 15rem; max-width: 30rem; overflow-wrap: anywhere; }
table.steps { width: 100%; font-size: .83rem; }
table.steps th, table.steps td { padding-left: .4rem; padding-right: .4rem; }
table.steps th:first-child { padding-left: .1rem; }
tbody th { text-align: left; font-weight: 600; }
tbody tr:hover { background: var(--soft); }
tr.rejected td, tr.skipped td, tr.failed td { background: none; }
tr.skipped, tr.skipped th { color: var(--muted); }
table.result { font-size: 1rem; }
table.result td.final { font-weight: 650; }
.better { color: var(--green); } .worse { color: var(--red); }
.warn { color: var(--red); font-weight: 600; }
figure { margin: 1rem 0 1.6rem; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--muted); font-size: .875rem; margin-top: .3rem; max-width: 52rem; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr));
  gap: .7rem 1.2rem; margin: .9rem 0 1.2rem; font-size: .9rem; }
dl.facts dt { color: var(--muted); font-size: .82rem; }
dl.facts dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
details { margin: .35rem 0; }
summary { cursor: pointer; color: var(--blue); font-size: .92rem; padding: .15rem 0; }
code, pre { font: .86em/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
pre { background: var(--soft); border: 1px solid var(--line); padding: .7rem .9rem;
  overflow-x: auto; white-space: pre-wrap; }
.note { border-left: 4px solid #e69f00; background: #fff9ec; padding: .6rem 1rem; margin: 1rem 0; }
.note p, .note ul { margin: .1rem 0; }
.bar { display: flex; width: 5.5rem; height: .7rem; background: var(--soft);
  margin-top: .2rem; }
.bar i { display: block; height: 100%; }
.imaging { background: #0072b2; } .solving { background: #e69f00; } .other { background: #b8c1ca; }
.key { display: inline-block; width: .75rem; height: .75rem; margin: 0 .3rem 0 .9rem;
  vertical-align: -.06rem; }
footer { margin-top: 3.5rem; padding-top: 1rem; padding-bottom: 2rem; color: var(--muted);
  font-size: .85rem; border-top: 1px solid var(--line); }
@media (max-width: 46rem) { main, header.top, footer { padding: 0 1rem; } h1 { font-size: 1.4rem; }
  nav { position: static; } nav ul { padding: .5rem 1rem; } }
@media print {
  @page { margin: 14mm; }
  body { font-size: 10pt; }
  nav, .skip { display: none; }
  main, header.top, footer { max-width: none; padding: 0; }
  h2, h3, h4, caption { break-after: avoid; }
  figure, tr { break-inside: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: .15rem .3rem; }
  .wrap { min-width: 13rem; }
  table.steps { font-size: 6.5pt; }
  table.steps .bar { display: none; }
  details::details-content { content-visibility: visible; display: block; block-size: auto; }
  a { color: inherit; text-decoration: none; }
}
"""
