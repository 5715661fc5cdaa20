// All clips with their measures, as typed arrays: filtering and sorting 100,000 of them is done here, not on the server.
// Every filter has a bit; a clip's mask holds the bits of the filters that it fails. So it is shown where its mask is 0,
// and a filter's own counts are those of clips that fail no other.
import * as api from "./api.js";

export const FACETS = ["split", "attitude", "predicted", "listener", "speaker", "source"];
export const SECONDS = { name: "seconds", unit: "s", meaning: "length of the clip", worst: "high", column: "" };
const UNKNOWN = "unknown";

let current = null; // the set that was loaded last
let order = null; // ids in the order in which they were listed last

export class ClipSet {
  constructor(raw) {
    this.version = raw.version;
    this.ids = raw.ids;
    this.size = raw.ids.length;
    this.facets = Object.fromEntries(FACETS.map((name) => [name, coded(raw[name] ?? new Array(this.size).fill(null))]));
    this.seconds = new Float32Array(raw.num_frames.map((frames) => (frames ? frames / 30 : NaN)));
    this.lower = null;
    this.loaded = new Map([["seconds", this.seconds]]);
    this.sorted = new Map();
  }

  /** Whether any clip has a known value of a facet, or a length: while a data set is built for the first time none has. */
  knows(name) {
    if (name === "seconds") return this.seconds.some((one) => one > 0);
    return this.facets[name].names.some((one) => one !== UNKNOWN);
  }

  /** Make sure that these measures are there. */
  async load(names) {
    const missing = names.filter((name) => !this.loaded.has(name));
    for (let i = 0; i < missing.length; i += 32) {
      const asked = missing.slice(i, i + 32);
      const found = await api.measures(asked, this.version);
      asked.forEach((name, k) => this.loaded.set(name, found[k]));
    }
  }

  /** Forget measures, because more of them are there now. */
  forget() {
    this.loaded = new Map([["seconds", this.seconds]]);
    this.sorted.clear();
  }

  values(name) {
    return this.loaded.get(name);
  }

  /** Masks of all clips under a view {text, facets: {name: Set of codes}, ranges: {measure: [low, high]}} and the bit of
   *  every filter. What is not a number lies in no range. */
  masks(view) {
    const mask = new Uint32Array(this.size);
    const bits = {};
    let bit = 1;
    const take = (key) => { // the next bit
      bits[key] = bit;
      bit <<= 1;
      return bits[key];
    };
    if (view.text) {
      this.lower = this.lower || this.ids.map((id) => id.toLowerCase());
      const wanted = view.text.toLowerCase();
      const own = take("text");
      for (let i = 0; i < this.size; i++) if (!this.lower[i].includes(wanted)) mask[i] |= own;
    }
    for (const [name, chosen] of Object.entries(view.facets)) {
      const { codes, names } = this.facets[name];
      const out = new Uint8Array(names.length).fill(1);
      for (const code of chosen) out[code] = 0;
      const own = take(`facet ${name}`);
      for (let i = 0; i < this.size; i++) if (out[codes[i]]) mask[i] |= own;
    }
    for (const [name, [low, high]] of Object.entries(view.ranges)) {
      const values = this.values(name);
      if (!values) continue;
      const own = take(`range ${name}`);
      for (let i = 0; i < this.size; i++) if (!(values[i] >= low && values[i] <= high)) mask[i] |= own;
    }
    return { mask, bits };
  }

  /** How many clips have each value of a facet, of those that no other filter takes out. */
  counts(name, { mask, bits }) {
    const { codes, names } = this.facets[name];
    const own = bits[`facet ${name}`] || 0;
    const found = new Uint32Array(names.length);
    for (let i = 0; i < this.size; i++) if ((mask[i] & ~own) === 0) found[codes[i]]++;
    return found;
  }

  /** All rows in order of a measure, or of ids where there is none; what is not a number stands last. */
  rows(sort, descending) {
    const key = `${sort} ${descending}`;
    if (!this.sorted.has(key)) {
      const values = this.values(sort);
      this.sorted.set(key, values ? ordered(values, descending) : Uint32Array.from({ length: this.size }, (_, i) => i));
    }
    return this.sorted.get(key);
  }

  /** Rows that are shown, in order; clips page from one to the next in it. */
  list(view, { mask }) {
    const all = this.rows(view.sort, view.descending);
    const found = new Uint32Array(this.size);
    let count = 0;
    for (let k = 0; k < all.length; k++) if (mask[all[k]] === 0) found[count++] = all[k];
    const rows = found.subarray(0, count);
    order = { set: this, rows };
    return rows;
  }
}

/** Rows in order of float32 values, NaN last, ties as they stand: a radix sort, which compares nothing. As integers the
 *  bits of floats order as the floats do, but for the sign: negative ones are turned over, the others set above them. */
function ordered(values, descending) {
  const size = values.length;
  const keys = new Uint32Array(new Float32Array(values).buffer);
  let rows = new Uint32Array(size);
  for (let row = 0; row < size; row++) { // loops, not callbacks: they are ten times as fast
    const bits = descending ? keys[row] ^ 0x80000000 : keys[row];
    keys[row] = Number.isNaN(values[row]) ? 0xffffffff : bits < 0 || bits > 0x7fffffff ? ~bits : bits | 0x80000000;
    rows[row] = row;
  }
  for (const shift of [0, 16]) {
    const starts = new Uint32Array(65537);
    for (let row = 0; row < size; row++) starts[((keys[row] >>> shift) & 0xffff) + 1]++;
    for (let k = 0; k < 65536; k++) starts[k + 1] += starts[k];
    const next = new Uint32Array(size);
    for (let k = 0; k < size; k++) next[starts[(keys[rows[k]] >>> shift) & 0xffff]++] = rows[k];
    rows = next;
  }
  return rows;
}

function coded(values) {
  const known = new Map();
  const names = [];
  const codes = new Uint32Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const name = values[i] === null || values[i] === "" ? UNKNOWN : String(values[i]);
    let code = known.get(name);
    if (code === undefined) known.set(name, (code = names.push(name) - 1));
    codes[i] = code;
  }
  return { names, codes };
}

/** The clips; asked for again where they have changed. */
export async function clipSet(dataset) {
  if (!current || current.version !== dataset.clips_version) current = new ClipSet(await api.json("/api/clips"));
  return current;
}

/** Ids before and after a clip in the list that was shown last, else in the data set's own order. */
export async function neighbours(id, dataset) {
  const set = order ? order.set : await clipSet(dataset);
  const rows = order ? order.rows : set.rows("", false);
  const place = rows.findIndex((row) => set.ids[row] === id);
  const at = (k) => (place >= 0 && k >= 0 && k < rows.length ? set.ids[rows[k]] : null);
  return { previous: at(place - 1), next: at(place + 1), place, count: rows.length };
}
