// Tracks over the time of a clip: whatever has a value a frame, the sound's wave, and the words.
//
// How a column is drawn follows from its type and width alone, so that columns of stages that nobody has seen yet show:
// bands where it is true; lines up to six values a frame; a heat strip beyond, each row by its own spread.
import { h, fill } from "./dom.js";
import { FPS } from "./player.js";

const MOST_LINES = 6;
const HEAT_SPREADS = 2.5; // standard deviations at full colour
const HEIGHTS = { wave: 44, lines: 56, bands: 14, heat: 64, words: 22 };
const LEGIBLE_PX = 24; // a word in less is a bar; the one that is spoken stands beside the track as well
const THINNEST_PX = 2; // of a band: a blink of two frames stays visible in a clip of minutes

const colourOf = ({ colours }, k) => (colours ? colours[k] : k) % MOST_LINES;

export function kindOf({ dtype, width }) {
  if (dtype === "bool" && width === 1) return "bands";
  return width <= MOST_LINES ? "lines" : "heat";
}

/** Peaks of a WAV file as jobs.build writes it (16-bit mono): Float32Array of low and high, a pair a bin. */
export function wavePeaks(buffer, bins) {
  const view = new DataView(buffer);
  let at = 12;
  const isData = () => view.getUint32(at) === 0x64617461; // "data"
  while (at + 8 <= view.byteLength && !isData()) at += 8 + view.getUint32(at + 4, true);
  at += 8;
  const samples = Math.max(0, Math.floor((view.byteLength - at) / 2));
  const peaks = new Float32Array(2 * bins);
  for (let bin = 0; bin < bins; bin += 1) {
    let low = 0;
    let high = 0;
    for (let k = Math.floor((bin * samples) / bins); k < Math.floor(((bin + 1) * samples) / bins); k += 1) {
      const value = view.getInt16(at + 2 * k, true) / 32768;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    peaks.set([low, high], 2 * bin);
  }
  return peaks;
}

/** How values of a column are printed: whole numbers as they are, others with a thousandth of the column's range. */
export function printer(data) {
  let low = Infinity;
  let high = -Infinity;
  let whole = true;
  for (const value of data) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
    whole &&= Number.isInteger(value);
  }
  const decimals = whole || !(high > low) ? 0 : Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(high - low))));
  return (value) => (Number.isFinite(value) ? (whole || high > low ? value.toFixed(decimals) : String(value)) : "–");
}

/**
 * A stack of tracks with one playhead. A track: {key, name, kind, unit, title, data, width, colours} with `data`
 * Float32Array (frame, width), or for "words" a list of {text, start_s, end_s}, for "wave" what `wavePeaks` returns;
 * `colours` (numbers of --line-0 ...) of lines, where they are not in order.
 */
export class Tracks {
  /** `onSeek(frame)` is called on a click and while dragging. */
  constructor(frames, onSeek) {
    this.frames = Math.max(1, frames);
    this.rows = [];
    this.list = h("div.tracks-rows", {});
    this.playhead = h("div.playhead", {});
    this.span = h("div.span", { hidden: true });
    this.element = h("div.tracks", {}, this.span, this.list, this.playhead);
    this.resized = new ResizeObserver(() => this.#draw());
    this.resized.observe(this.element);
    this.look = matchMedia("(prefers-color-scheme: dark)");
    this.look.addEventListener("change", (this.redraw = () => this.#draw()));
    this.#drags(onSeek);
  }

  close() {
    this.resized.disconnect();
    this.look.removeEventListener("change", this.redraw);
  }

  set(tracks) {
    this.rows = tracks.map((track) => this.#row(track));
    fill(this.list, this.rows.map((row) => row.element));
    this.#draw();
    this.move(this.at ?? 0);
  }

  /** Put the playhead on a frame, and print the values there. */
  move(frame) {
    this.at = frame;
    this.element.style.setProperty("--at", (frame + 0.5) / this.frames);
    this.element.dataset.frame = frame;
    for (const row of this.rows) row.tell(frame);
  }

  mark(span) {
    this.span.hidden = !span;
    if (!span) return;
    this.element.style.setProperty("--in", span[0] / this.frames);
    this.element.style.setProperty("--out", (span[1] + 1) / this.frames);
  }

  #row(track) {
    const values = h("span.values", {});
    const plot = track.kind === "words" ? this.#words(track) : h("canvas", {});
    plot.style.height = `${HEIGHTS[track.kind]}px`;
    const unit = track.unit && track.unit !== "1" ? h("i", {}, ` ${track.unit}`) : null;
    const label = h("div.label", { title: track.title ?? "" }, h("span.label-name", {}, track.name, unit), values);
    const about = { "data-track": track.key, "data-kind": track.kind };
    const element = h("div.track", about, label, h("div.plot", {}, plot));
    return { element, plot, track, tell: this.#teller(track, values, plot) };
  }

  #teller(track, values, plot) {
    if (track.kind === "words") {
      const spoken = [...plot.children];
      return (frame) => {
        const now = (frame + 0.5) / FPS;
        const isNow = track.data.map(({ start_s: start, end_s: end }) => now >= start && now < end);
        spoken.forEach((word, k) => word.classList.toggle("now", isNow[k]));
        values.textContent = track.data.filter((_, k) => isNow[k]).map((word) => word.text).join(" ");
      };
    }
    if (track.kind === "lines") {
      const cells = Array.from({ length: track.width }, (_, k) => h("b", { class: `line-${colourOf(track, k)}` }));
      const print = printer(track.data);
      fill(values, cells);
      return (frame) => cells.forEach((cell, k) => (cell.textContent = print(track.data[frame * track.width + k])));
    }
    if (track.kind === "bands") return (frame) => (values.textContent = track.data[frame] ? "yes" : "no");
    if (track.kind === "heat") values.textContent = `${track.width} wide`;
    return () => {};
  }

  #words(track) {
    const percent = (seconds) => `${(100 * seconds * FPS) / this.frames}%`;
    const boxes = track.data.map((word) => h("span.word", {
      title: `${word.text}, ${word.start_s.toFixed(2)} to ${word.end_s.toFixed(2)} s`,
      style: { left: percent(word.start_s), width: percent(word.end_s - word.start_s) },
    }, word.text));
    return h("div.words", {}, boxes);
  }

  #drags(onSeek) {
    const frameAt = (event) => {
      const plot = this.list.querySelector(".plot");
      const box = plot.getBoundingClientRect();
      const share = (event.clientX - box.left) / box.width;
      return Math.max(0, Math.min(this.frames - 1, Math.floor(share * this.frames)));
    };
    this.list.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.target.closest(".plot")) return;
      this.list.setPointerCapture(event.pointerId);
      onSeek(frameAt(event));
    });
    this.list.addEventListener("pointermove", (event) => {
      if (this.list.hasPointerCapture(event.pointerId)) onSeek(frameAt(event));
    });
  }

  #draw() {
    const style = getComputedStyle(this.element);
    const ink = (name) => style.getPropertyValue(name).trim();
    for (const { plot, track } of this.rows) {
      if (!plot.clientWidth) continue;
      if (track.kind === "words") {
        for (const word of plot.children) word.classList.toggle("thin", word.clientWidth < LEGIBLE_PX);
        continue;
      }
      plot.width = Math.round(plot.clientWidth * devicePixelRatio);
      plot.height = Math.round(plot.clientHeight * devicePixelRatio);
      DRAW[track.kind](plot.getContext("2d"), track, this.frames, ink);
    }
  }
}

const DRAW = { wave: drawWave, lines: drawLines, bands: drawBands, heat: drawHeat };

function drawWave(context, { data }, frames, ink) {
  const { width, height } = context.canvas;
  const bins = data.length / 2;
  context.fillStyle = ink("--quiet");
  for (let x = 0; x < width; x += 1) {
    let low = 0;
    let high = 0;
    for (let bin = Math.floor((x * bins) / width); bin < Math.max(((x + 1) * bins) / width, 1); bin += 1) {
      low = Math.min(low, data[2 * bin]);
      high = Math.max(high, data[2 * bin + 1]);
    }
    context.fillRect(x, (height / 2) * (1 - high), 1, Math.max(1, (height / 2) * (high - low)));
  }
}

function drawBands(context, { data }, frames, ink) {
  const { width, height } = context.canvas;
  context.fillStyle = ink("--line-0");
  for (let frame = 0; frame < frames; frame += 1) {
    if (!data[frame]) continue;
    let end = frame + 1;
    while (end < frames && data[end]) end += 1;
    context.fillRect((frame * width) / frames, 0, Math.max(((end - frame) * width) / frames, THINNEST_PX), height);
    frame = end;
  }
}

function drawLines(context, track, frames, ink) {
  const { data, width: lines } = track;
  const { width, height } = context.canvas;
  const margin = 3 * devicePixelRatio;
  let low = Infinity;
  let high = -Infinity;
  for (const value of data) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  shadeUnknown(context, data, lines, frames, ink("--unknown"));
  if (!(high >= low) || !Number.isFinite(high - low)) return;
  const y = (value) => height - margin - ((value - low) / (high - low || 1)) * (height - 2 * margin);
  if (low < 0 && high > 0) {
    context.fillStyle = ink("--line");
    context.fillRect(0, Math.round(y(0)), width, Math.max(1, Math.round(devicePixelRatio)));
  }
  context.lineWidth = 1.3 * devicePixelRatio;
  context.lineJoin = "round";
  for (let line = lines - 1; line >= 0; line -= 1) {
    context.strokeStyle = ink(`--line-${colourOf(track, line)}`);
    context.beginPath();
    let down = false;
    for (let frame = 0; frame < frames; frame += 1) {
      const value = data[frame * lines + line];
      const x = ((frame + 0.5) * width) / frames;
      if (Number.isNaN(value)) down = false;
      else if (down) context.lineTo(x, y(value));
      else {
        context.moveTo(x - 0.5, y(value)); // a lone frame between unknown ones is still a dot
        context.lineTo(x, y(value));
        down = true;
      }
    }
    context.stroke();
  }
}

/** Grey where a frame has no value at all. */
function shadeUnknown(context, data, lines, frames, colour) {
  const { width, height } = context.canvas;
  context.fillStyle = colour;
  for (let frame = 0; frame < frames; frame += 1) {
    const row = data.subarray(frame * lines, (frame + 1) * lines);
    if (row.every(Number.isNaN)) context.fillRect((frame * width) / frames, 0, Math.max(width / frames, 1), height);
  }
}

function drawHeat(context, { data, width: rows }, frames, ink) {
  const image = new ImageData(frames, rows);
  const [low, high] = [rgb(ink("--heat-low")), rgb(ink("--heat-high"))];
  for (let row = 0; row < rows; row += 1) {
    const [mean, spread] = meanAndSpread(data, row, rows, frames);
    for (let frame = 0; frame < frames; frame += 1) {
      const value = (data[frame * rows + row] - mean) / spread;
      const pixel = Number.isNaN(value)
        ? [128, 128, 128, 90]
        : [...(value < 0 ? low : high), 255 * Math.min(1, Math.abs(value) / HEAT_SPREADS)];
      image.data.set(pixel, 4 * (row * frames + frame));
    }
  }
  const small = new OffscreenCanvas(frames, rows);
  small.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = frames > context.canvas.width || rows > context.canvas.height;
  context.drawImage(small, 0, 0, context.canvas.width, context.canvas.height);
}

function meanAndSpread(data, row, rows, frames) {
  let count = 0;
  let sum = 0;
  let squares = 0;
  for (let at = row; at < frames * rows; at += rows) {
    if (!Number.isFinite(data[at])) continue;
    count += 1;
    sum += data[at];
    squares += data[at] ** 2;
  }
  const mean = sum / count;
  return [mean, Math.sqrt(Math.max(0, squares / count - mean ** 2)) || 1];
}

function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}
