// Truth and predictions of one listener side by side, in step with the speaker: rendered where there is a video, drawn
// from the fitted model or from the head's angles where there is none; what differs as curves; the scores; and a blind
// choice, for which order and names are hidden until it is made.
import { setQuery } from "./address.js";
import { h, fill } from "./dom.js";
import { fetchClip } from "./clip.js";
import { neighbours } from "./clipset.js";
import { filmFrame } from "./films.js";
import { drawHead, drawModel } from "./overlays.js";
import { Picker } from "./picker.js";
import { Scene } from "./scene.js";
import { scoreTable } from "./scores.js";

const TRUTH = "truth";
const [MODEL, ANGLE] = ["listener_model", "listener_angle"];
const DIFFERENCE = "difference of ";
const FIRST_SHOWN = ["sound", "words", `${DIFFERENCE}listener_exp`, `${DIFFERENCE}listener_angle`, "listener_angle 0"];
const FEW_VALUES = 3; // a frame: each gets curves of its own beside the difference of all
const WAYS = ["film", "model", "head"]; // how a listener can be shown, from the most to the least that can be seen

const choices = []; // of blind comparisons while the page is open: names

export async function mount(element, route, api) {
  const clip = await fetchClip(route.id, api);
  const candidates = candidatesOf(clip);
  if (candidates.length < 2) {
    const { previous, next } = await neighbours(clip.clip_id, route.dataset);
    const link = (id, text) => id && h("a", { href: `#/compare/${encodeURIComponent(id)}` }, text);
    fill(element,
      h("p", {}, `No prediction of ${clip.clip_id} is here: python -m jobs.view DATA PREDICTION shows some beside it.`),
      h("p.clip-links", {},
        h("a", { href: `#/clip/${encodeURIComponent(clip.clip_id)}` }, "Clip"),
        link(previous, "‹ previous"), link(next, "next ›")));
    return {};
  }
  const page = { shown: null };
  const show = (blind) => {
    setQuery({ blind: blind ? 1 : null });
    page.shown?.close();
    page.shown = new ComparePage(clip, candidates, blind, route, api, show);
    fill(element, page.shown.element);
    page.shown.load();
  };
  show(route.query.has("blind"));
  return { unmount: () => page.shown.close(), update: (next) => page.shown.update(next) };
}

/** Truth and all predictions: {name, film, columns: Map of name -> column}. */
function candidatesOf(clip) {
  const names = new Set([...clip.columns.map((column) => column.of), ...Object.keys(clip.renders)]);
  names.delete("");
  return ["", ...names].map((of) => ({
    of,
    name: of || TRUTH,
    film: of ? clip.renders[of] && `${clip.renders[of]}?of=${encodeURIComponent(of)}` : clip.media.listener,
    columns: new Map(clip.columns.filter((column) => column.of === of).map((column) => [column.name, column])),
  }));
}

function waysOf({ film, columns }) {
  const can = { film, model: columns.has(MODEL), head: columns.has(ANGLE) };
  return WAYS.filter((way) => can[way]);
}

/** The colour of the k-th candidate; the second one is the speaker's. */
const colourAt = (k) => (k === 0 ? 0 : 2 + ((k - 1) % 4));

/** The same in another order, each as likely. */
function shuffled(list) {
  const rest = [...list];
  return list.map(() => rest.splice(crypto.getRandomValues(new Uint32Array(1))[0] % rest.length, 1)[0]);
}

class ComparePage extends Scene {
  #edges = null;

  constructor(clip, candidates, blind, route, api, show) {
    super(clip, route, api);
    Object.assign(this, { blind, show });
    const common = WAYS.filter((way) => candidates.every((one) => waysOf(one).includes(way)));
    this.alike = common.find((way) => way !== "film") ?? common[0]; // a rendering beside a film would give itself away
    const order = blind ? shuffled(candidates) : candidates;
    this.panels = order.map((one, k) => this.#panel(one, k));
    this.speaker = filmFrame("speaker", h("span.speaker", {}, "speaker"), { video: Boolean(clip.media.speaker) });
    const films = this.panels.filter(({ way }) => way === "film");
    this.play([
      ...(clip.media.speaker ? [["speaker", clip.media.speaker, this.speaker.video]] : []),
      ...films.map(({ name, candidate, video }) => [name, candidate.film, video]),
    ]);
    this.shared = this.#sharedColumns();
    this.picker = blind ? null : new Picker(this.#groups(), this.#firstTracks(), route.query, () => this.showTracks());
    this.element = this.#layout();
  }

  #panel(candidate, k) {
    const way = this.blind ? this.alike : waysOf(candidate)[0];
    const name = this.blind ? String.fromCharCode(65 + k) : candidate.name;
    const how = h("i.quiet", {}, way && way !== "film" ? ` ${way}` : "");
    const caption = h("span", { class: this.blind ? "" : `line-${colourAt(k)}` }, name, how);
    return { candidate, way, ...filmFrame(name, caption, { drawn: Boolean(way), video: way === "film" }) };
  }

  addressOf(id) {
    return `#/compare/${encodeURIComponent(id)}${this.blind ? "?blind=1" : ""}`;
  }

  #layout() {
    const { clip } = this;
    return h("div.clip", {},
      this.head(h("a", { href: `#/clip/${encodeURIComponent(clip.clip_id)}` }, "Clip")),
      h("div.stage", {},
        h("div.faces.compared", {}, this.speaker.element, this.panels.map((panel) => panel.element)),
        this.bar.element),
      this.#blindBar(),
      this.blind ? null : [scoreTable(clip.scores), this.picker.element],
      this.tracks.element);
  }

  // -- the blind choice --------------------------------------------------------------------------------------------

  #blindBar() {
    if (!this.blind) {
      const start = h("button", { type: "button", onclick: () => this.show(true) }, "Compare blindly");
      return this.alike ? h("div.blind", {}, start, h("span.quiet", {}, tally())) : null;
    }
    const bar = h("div.blind", {}, h("span", {}, "Which listener responds better?"));
    const choose = (panel) => {
      choices.push(panel?.candidate.name ?? "cannot tell");
      fill(bar,
        h("b", {}, panel ? `You chose ${panel.name}: ${panel.candidate.name}.` : "You chose none."),
        h("span", {}, this.panels.map((one) => `${one.name} is ${one.candidate.name}`).join(", ")),
        h("button", { type: "button", onclick: () => this.show(false) }, "Show with names"),
        h("span.quiet", {}, tally()));
    };
    bar.append(
      ...this.panels.map((panel) => h("button", { type: "button", onclick: () => choose(panel) }, panel.name)),
      h("button", { type: "button", onclick: () => choose(null) }, "cannot tell"),
      h("button", { type: "button", onclick: () => this.show(false) }, "stop"));
    return bar;
  }

  // -- curves ------------------------------------------------------------------------------------------------------

  /** Columns that the truth and at least one prediction have, of the same width. */
  #sharedColumns() {
    const candidates = this.panels.map((panel) => panel.candidate);
    const truth = candidates.find((one) => !one.of);
    const same = (column) => candidates.filter((one) => one.of && one.columns.get(column.name)?.width === column.width);
    return [...truth.columns.values()]
      .map((column) => ({ column, others: same(column) }))
      .filter(({ others }) => others.length);
  }

  #groups() {
    const own = [];
    if (this.clip.media.audio) own.push(["sound", "the sound's wave"]);
    if (this.clip.words.length) own.push(["words", "what is said"]);
    const columns = this.shared.map(({ column }) => column);
    const differences = columns.map(({ name, meaning }) =>
      [DIFFERENCE + name, `root mean square over its values; ${meaning}`]);
    const curves = columns.filter(({ width }) => width <= FEW_VALUES).flatMap(({ name, width, meaning }) =>
      Array.from({ length: width }, (_, k) => [`${name} ${k}`, meaning]));
    return [["speaker", own], ["difference", differences], ["curves", curves]].filter(([, keys]) => keys.length);
  }

  #firstTracks() {
    const all = this.#groups().flatMap(([, keys]) => keys.map(([key]) => key));
    return FIRST_SHOWN.filter((key) => all.includes(key));
  }

  async showTracks() {
    const chosen = this.picker ? this.picker.chosen : ["sound", "words"];
    const tracks = await Promise.all(chosen.map((key) => this.#track(key)));
    const isLate = this.left || (this.picker && chosen !== this.picker.chosen);
    if (!isLate) this.tracks.set(tracks.filter(Boolean));
  }

  async #track(key) {
    const { words } = this.clip;
    if (key === "words") return words.length ? { key, name: key, kind: "words", data: words } : null;
    if (key === "sound") return this.media?.peaks.sound && { key, name: key, kind: "wave", data: this.media.peaks.sound };
    for (const { column, others } of this.shared) {
      const { name, unit, meaning, width } = column;
      const all = () => Promise.all(["", ...others.map((one) => one.of)].map((of) => this.column(name, of)));
      const about = { key, kind: "lines", unit, title: meaning };
      const colours = others.map((one) => this.#colour(one));
      if (key === DIFFERENCE + name) {
        const [right, ...predicted] = await all();
        const lines = predicted.map((values) => distance(values, right, width));
        return { ...about, ...sideBySide(lines), colours, name: `Δ ${name}` };
      }
      const k = Array.from({ length: width }, (_, i) => i).find((i) => key === `${name} ${i}`);
      if (k === undefined) continue;
      const lines = (await all()).map((values) => values.filter((_, at) => at % width === k));
      return { ...about, ...sideBySide(lines), colours: [this.#colour({ of: "" }), ...colours], name: key };
    }
    return null;
  }

  #colour(candidate) {
    return colourAt(this.panels.findIndex((panel) => panel.candidate.of === candidate.of));
  }

  // -- faces -------------------------------------------------------------------------------------------------------

  async #loadModels() {
    const drawn = this.panels.filter(({ way }) => way && way !== "film");
    for (const panel of drawn) fill(panel.note, "loading …");
    if (this.panels.some((panel) => panel.way === "model")) this.#edges = await this.api.json("/api/mesh");
    await Promise.all(drawn.map(async (panel) => {
      const column = panel.candidate.columns.get(panel.way === "model" ? MODEL : ANGLE);
      panel.values = { data: await this.column(column.name, panel.candidate.of), width: column.width };
      fill(panel.note);
    }));
  }

  onFrame() {
    const { frame } = this.player;
    this.tracks.move(frame);
    const colour = getComputedStyle(this.element).getPropertyValue("--on-film");
    for (const { way, values, canvas, side } of this.panels) {
      if (!values) continue;
      if (way === "model") drawModel(canvas, values, this.#edges, frame, colour, side());
      else drawHead(canvas, values, frame, colour);
    }
  }

  // -- coming and going --------------------------------------------------------------------------------------------

  load() {
    return super.load([this.#loadModels()]);
  }
}

/** What was chosen so far. */
function tally() {
  if (!choices.length) return "";
  const counts = new Map();
  for (const name of choices) counts.set(name, (counts.get(name) ?? 0) + 1);
  return `chosen so far: ${[...counts].map(([name, count]) => `${name} ${count}`).join(", ")}`;
}

/** Root mean square of a difference over the values of a frame. */
function distance(values, truth, width) {
  return Float32Array.from({ length: truth.length / width }, (_, frame) => {
    let sum = 0;
    for (let k = frame * width; k < (frame + 1) * width; k += 1) sum += (values[k] - truth[k]) ** 2;
    return Math.sqrt(sum / width);
  });
}

/** Curves as one track: {data (frame, curve), width}. */
function sideBySide(lines) {
  const data = new Float32Array(lines.length * lines[0].length);
  lines.forEach((line, k) => line.forEach((value, frame) => (data[frame * lines.length + k] = value)));
  return { data, width: lines.length };
}
