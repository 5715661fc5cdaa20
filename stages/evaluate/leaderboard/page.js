// The moving parts of the leaderboard: the scatter of clips, their values, and three videos that start together.
// Text of others is set as textContent, never as HTML.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const SIDE = 400, PAD = 60, SVG = "http://www.w3.org/2000/svg";

function make(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text !== undefined) element.textContent = text;
  return element;
}

function short(value) {
  return value === null ? "–" : Math.abs(value) < 1e-9 ? "0" : String(Number(value.toPrecision(4)));
}

function tick(range, share) {
  return String(Number((range.low + share * (range.high - range.low)).toPrecision(3)));
}

function axis(values) {
  const found = values.filter((value) => value !== null);
  let low = Math.min(...found), high = Math.max(...found);
  if (low === high) { low -= 0.5; high += 0.5; }
  const room = (high - low) * 0.06;
  return { low: low - room, high: high + room };
}

function onAxis(value, range, from, to) {
  return from + (to - from) * (value - range.low) / (range.high - range.low);
}

function column(metric, run) {
  return run === "" ? data.clips.map((clip) => clip.frames) : data.values[metric][run];
}

function drawScatter() {
  const [metric, xRun, yRun] = ["metric", "x", "y"].map((id) => document.getElementById("pick-" + id).value);
  const xs = column(metric, xRun), ys = column(metric, yRun);
  const svg = document.getElementById("scatter");
  svg.replaceChildren();
  const both = data.clips.map((_, i) => i).filter((i) => xs[i] !== null && ys[i] !== null);
  document.getElementById("told").textContent = both.length + " clips";
  if (!both.length) return;
  const xRange = axis(both.map((i) => xs[i])), yRange = axis(both.map((i) => ys[i]));
  if (xRun !== "" && yRun !== "") {
    xRange.low = yRange.low = Math.min(xRange.low, yRange.low);
    xRange.high = yRange.high = Math.max(xRange.high, yRange.high);
    svg.append(make("line", { x1: PAD, y1: SIDE - PAD, x2: SIDE - 10, y2: 10 }));
  }
  drawAxes(svg, xRange, yRange, xRun || "frames", yRun || "frames");
  for (const i of both) {
    const clip = data.clips[i];
    const place = { cx: onAxis(xs[i], xRange, PAD, SIDE - 10), cy: onAxis(ys[i], yRange, SIDE - PAD, 10) };
    const dot = make("circle", { class: "dot", r: 5, fill: "var(--" + (clip.attitude || "none") + ")", ...place });
    const words = clip.id + ": " + (xRun || "frames") + " " + short(xs[i]) + ", " + (yRun || "frames") + " " + short(ys[i]);
    dot.append(make("title", {}, words));
    dot.addEventListener("click", () => { document.getElementById("told").textContent = words; });
    svg.append(dot);
  }
}

function drawAxes(svg, xRange, yRange, xName, yName) {
  svg.append(make("line", { x1: PAD, y1: SIDE - PAD, x2: SIDE - 10, y2: SIDE - PAD }));
  svg.append(make("line", { x1: PAD, y1: SIDE - PAD, x2: PAD, y2: 10 }));
  for (const share of [0, 0.5, 1]) {
    const x = PAD + share * (SIDE - 10 - PAD), y = SIDE - PAD - share * (SIDE - 10 - PAD);
    const anchor = share === 1 ? "end" : share === 0 ? "start" : "middle";
    svg.append(make("text", { x, y: SIDE - PAD + 16, "text-anchor": anchor }, tick(xRange, share)));
    svg.append(make("text", { x: PAD - 4, y: share === 1 ? y + 10 : y, "text-anchor": "end" }, tick(yRange, share)));
  }
  svg.append(make("text", { x: (SIDE + PAD) / 2, y: SIDE - 10, "text-anchor": "middle" }, xName.slice(0, 40)));
  const middle = (SIDE - PAD) / 2;
  svg.append(make("text", { x: 14, y: middle, "text-anchor": "middle", transform: "rotate(-90 14 " + middle + ")" }, yName.slice(0, 40)));
}

function fillClip(details) {
  const body = details.querySelector("tbody");
  if (!details.open || !body || body.rows.length) return;
  const position = Number(details.dataset.clip);
  for (const metric in data.values) {
    const values = data.runs.map((run) => (data.values[metric][run] || [])[position]);
    if (values.every((value) => value === null || value === undefined)) continue;
    const row = body.insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = metric;
    row.append(head);
    for (const value of values) row.insertCell().textContent = short(value === undefined ? null : value);
  }
}

function playTogether(button) {
  const videos = [...button.closest("details").querySelectorAll("video")];
  const start = videos.some((video) => video.paused);
  for (const video of videos) {
    if (start) { video.currentTime = 0; video.play().catch(() => {}); } else video.pause();
  }
  button.textContent = start ? "Stop" : "Play together";
}

for (const select of document.querySelectorAll(".pick select")) select.addEventListener("change", drawScatter);
for (const details of document.querySelectorAll("details[data-clip]")) {
  details.addEventListener("toggle", () => fillClip(details));
  fillClip(details);
}
for (const button of document.querySelectorAll("button[data-play]")) button.addEventListener("click", () => playTogether(button));
if (document.getElementById("scatter")) drawScatter();
