"""Style and script of an exported episode; nothing in here depends on the episode."""

# .p1 to .p5 colour tokens by their level, from nearly certain to improbable (`token_layout.level`); 0 has no colour.
# .live is set by the script: where scripts do not run, all steps stand one below the other
STYLE = """
:root { color-scheme: light dark; --back: #fcfcfa; --panel: #f0f0ec; --text: #1f2328; --faint: #667080;
  --good: #1a7f37; --bad: #c9252d; --warn: #9a6700; --heat: 200 60 20; --mark: #0a63c2; }
@media (prefers-color-scheme: dark) { :root { --back: #0d1117; --panel: #161c24; --text: #d7dde5;
  --faint: #8b949e; --good: #56d364; --bad: #ff7b72; --warn: #e3b341; --heat: 255 110 60; --mark: #58a6ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.2rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.25rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0; }
h3 { font-size: .8rem; margin: 1rem 0 .2rem; color: var(--faint); font-weight: 600; }
small, .faint, header p, footer { color: var(--faint); font-weight: 400; }
nav { display: flex; gap: .8rem; align-items: center; margin: .8rem 0; position: sticky; top: 0; padding: .4rem 0;
  background: var(--back); }
nav button { font: inherit; cursor: pointer; }
#play { border: 1px solid var(--faint); border-radius: .3rem; background: var(--panel); color: inherit;
  padding: .15rem .9rem; min-width: 5rem; }
#ticks { display: flex; flex: 1; gap: 2px; min-width: 0; }
#ticks button { flex: 1; min-width: 2px; height: 1rem; border: 0; padding: 0; background: var(--faint);
  opacity: .35; border-radius: 2px; }
#ticks button.good { background: var(--good); } #ticks button.bad { background: var(--bad); }
#ticks button.here { opacity: 1; outline: 2px solid var(--mark); }
section { display: grid; grid-template-columns: minmax(16rem, 2fr) 3fr; gap: 1.2rem; margin-bottom: 2rem; }
.live section { display: none; } .live section.here { display: grid; }
@media (max-width: 46rem) { section, .live section.here { grid-template-columns: 1fr; } }
figure { margin: 0; } img { width: 100%; image-rendering: auto; border-radius: .4rem; }
.action { margin: .3rem 0; } p.action { font-size: 1.4rem; font-weight: 700; overflow-wrap: anywhere; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); gap: .4rem; margin: .6rem 0; }
dl div { background: var(--panel); border-radius: .3rem; padding: .25rem .5rem; }
dt { font-size: .75rem; color: var(--faint); } dd { margin: 0; font-variant-numeric: tabular-nums; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font: 14px/1.6 ui-monospace, monospace;
  background: var(--panel); border-radius: .3rem; padding: .5rem .7rem; max-height: 24rem; overflow: auto; }
span.action { text-decoration: underline; font-weight: 700; }
.p1 { background: rgb(var(--heat) / .12); } .p2 { background: rgb(var(--heat) / .25); }
.p3 { background: rgb(var(--heat) / .4); } .p4 { background: rgb(var(--heat) / .6); }
.p5 { background: rgb(var(--heat) / .85); }
details { margin-top: 1rem; } summary { cursor: pointer; color: var(--faint); font-size: .8rem; }
"""

# while it plays, a step stays for 1200 ms; keys that move also pause
SCRIPT = """
"use strict";
const sections = [...document.querySelectorAll("section")];
const ticks = [...document.querySelectorAll("#ticks button")];
const play = document.getElementById("play");
let here = 0, timer = null;
function show(step) {
  here = Math.min(Math.max(step, 0), sections.length - 1);
  sections.forEach((section, k) => section.classList.toggle("here", k === here));
  ticks.forEach((tick, k) => tick.classList.toggle("here", k === here));
  document.getElementById("where").textContent = (here + 1) + " / " + sections.length;
}
function stop() { clearInterval(timer); timer = null; play.textContent = "play"; }
function toggle() {
  if (timer !== null) { stop(); return; }
  if (here === sections.length - 1) show(0);
  play.textContent = "pause";
  timer = setInterval(() => { show(here + 1); if (here === sections.length - 1) stop(); }, 1200);
}
document.body.classList.add("live");
play.addEventListener("click", toggle);
ticks.forEach((tick, k) => tick.addEventListener("click", () => { stop(); show(k); }));
document.addEventListener("keydown", event => {
  const moves = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: sections.length - 1 };
  if (event.key in moves) { stop(); show(moves[event.key]); event.preventDefault(); }
  else if (event.key === " " && event.target.tagName !== "BUTTON" && event.target.tagName !== "SUMMARY") {
    toggle(); event.preventDefault();
  }
});
show(0);
"""
