// A histogram with a brush: drag over it to choose a range, click to let it go. Heights are square roots of counts, so
// that a single clip far out is seen beside thousands.
import { h, fill } from "./dom.js";
import { countText, numberText } from "./numbers.js";

const BINS = 48;

export class Histogram {
  /** options: {label, title, unit, height, onrange([low, high] or null), onremove} */
  constructor(values, options) {
    this.options = options;
    [this.low, this.high] = extent(values);
    this.bins = binned(values, this.low, this.high);
    this.all = counted(this.bins);
    this.range = null;
    this.size = [0, 0]; // as observed; if a filter asked for it, the page would be laid out anew for every histogram
    this.canvas = h("canvas.histogram", { role: "img", "aria-label": options.label });
    this.canvas.style.height = `${options.height || 44}px`;
    this.note = h("span.quiet");
    this.fields = ["low", "high"].map((end) => h("input.range", {
      type: "text", inputmode: "decimal", "aria-label": `${options.label}: ${end}`, onchange: () => this.typed(),
    }));
    const head = h("div.histogram-head", { title: options.title || "" }, options.head || h("span", {}, options.label),
      options.onremove && h("button.plain", { title: "take away", "aria-label": `take away ${options.label}`,
        onclick: options.onremove }, "×"));
    const foot = options.onrange
      ? h("div.histogram-foot", {}, this.fields[0], this.note, this.fields[1])
      : h("div.histogram-foot", {}, h("span.quiet", {}, this.text(this.low)), this.note,
        h("span.quiet", {}, this.text(this.high)));
    this.element = h("div.histogram-box", {}, head, this.canvas, foot);
    if (options.onrange) {
      this.listen();
      this.setRange(null);
    }
    new ResizeObserver(([{ contentRect }]) => { this.size = [contentRect.width, contentRect.height]; this.paint(); })
      .observe(this.canvas);
    this.show(null, 0);
  }

  text(value) {
    return numberText(value, this.options.unit);
  }

  /** Count the clips whose mask is 0 without this histogram's own bit; null for all. */
  show(mask, own) {
    this.kept = mask ? counted(this.bins, mask, own) : this.all;
    const missing = this.kept[BINS]; // the last place, behind the bins
    fill(this.note, missing ? `${countText(missing)} without` : this.options.shownUnit || "");
    this.paint();
  }

  setRange(range) {
    this.range = range;
    const [low, high] = range || [this.low, this.high];
    this.fields[0].value = this.text(low);
    this.fields[1].value = this.text(high);
    this.paint();
  }

  typed() {
    const scale = this.options.unit === "share" ? 100 : 1;
    const read = (field, otherwise) => {
      const value = parseFloat(field.value.replace("−", "-").replace(",", ".")) / scale;
      return Number.isFinite(value) ? value : otherwise;
    };
    // What stands there was rounded: an end that was not touched stays open.
    const [low, high] = this.range || [-Infinity, Infinity];
    const next = [
      this.fields[0].value === this.text(this.range ? low : this.low) ? low : read(this.fields[0], -Infinity),
      this.fields[1].value === this.text(this.range ? high : this.high) ? high : read(this.fields[1], Infinity),
    ];
    this.options.onrange(next[0] === -Infinity && next[1] === Infinity ? null : next);
  }

  listen() {
    let start = null;
    const valueAt = (event) => {
      const box = this.canvas.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      return this.low + Math.round(share * BINS) * ((this.high - this.low) / BINS);
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      start = valueAt(event);
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (start === null) return;
      const now = valueAt(event);
      if (now !== start) this.setRange(this.open([Math.min(start, now), Math.max(start, now)]));
    });
    this.canvas.addEventListener("pointerup", (event) => {
      if (start === null) return;
      const moved = valueAt(event) !== start;
      start = null;
      this.options.onrange(moved ? this.range : null);
    });
  }

  /** A brush that reaches an end holds all that lies there, also what float32 rounds beyond it. */
  open([low, high]) {
    return [low <= this.low ? -Infinity : low, high >= this.high ? Infinity : high];
  }

  paint() {
    const [width, height] = this.size;
    if (!width || !this.kept) return;
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const pen = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas);
    pen.scale(scale, scale);
    const tallest = Math.sqrt(Math.max(1, ...this.all.subarray(0, BINS)));
    const step = width / BINS;
    const bars = (counts, colour) => {
      pen.fillStyle = colour;
      counts.subarray(0, BINS).forEach((count, k) => {
        const tall = count ? Math.max(2, (Math.sqrt(count) / tallest) * (height - 2)) : 0;
        pen.fillRect(k * step + 0.5, height - tall, Math.max(1, step - 1), tall);
      });
    };
    bars(this.all, style.getPropertyValue("--line"));
    bars(this.kept, style.getPropertyValue("--accent"));
    if (this.range) {
      const at = (value) => Math.min(1, Math.max(0, (value - this.low) / (this.high - this.low || 1))) * width;
      pen.fillStyle = style.getPropertyValue("--veil");
      pen.fillRect(0, 0, at(this.range[0]), height);
      pen.fillRect(at(this.range[1]), 0, width, height);
    }
  }
}

/** The bin of every value; `BINS` for what is not a number. */
function binned(values, low, high) {
  const scale = BINS / (high - low || 1);
  const found = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const bin = Math.min(BINS - 1, Math.floor((values[i] - low) * scale));
    found[i] = Number.isFinite(values[i]) ? bin : BINS;
  }
  return found;
}

/** How many lie in each bin, of all or of those whose mask is 0 without a bit. */
function counted(bins, mask, own) {
  const found = new Uint32Array(BINS + 1);
  const others = ~own;
  if (!mask) for (let i = 0; i < bins.length; i++) found[bins[i]]++;
  else for (let i = 0; i < bins.length; i++) if ((mask[i] & others) === 0) found[bins[i]]++;
  return found;
}

function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 1];
}
