// One clip: both faces in step with the sound, what the data set says of every frame, and what it says of the whole.
import { h, fill } from "./dom.js";
import { setQuery } from "./address.js";
import { filmFrame } from "./films.js";
import { OVERLAYS, drawOverlays } from "./overlays.js";
import { Picker } from "./picker.js";
import { Scene } from "./scene.js";
import { scoreTable, shortNumber } from "./scores.js";
import { kindOf } from "./tracks.js";

const ROLES = ["speaker", "listener"];
const FIRST_SHOWN = ["listener_angle", "speaker_angle", "listener_blink", "speaker_blink", "listener_exp", "acoustic"];
const FEW = 4; // columns that are shown where none of those exists
const FIRST_OVER = ["box", "axes"];

/** A clip; words without times cannot be shown. */
export async function fetchClip(id, api) {
  const clip = await api.json(`/api/clip/${encodeURIComponent(id)}`);
  return { ...clip, words: timed(clip.words) };
}

const timed = (words) => words.filter((word) => word.start_s !== null && word.end_s !== null);

export async function mount(element, route, api) {
  const clip = await fetchClip(route.id, api);
  const page = new ClipPage(clip, route, api);
  fill(element, page.element);
  page.load();
  return { unmount: () => page.close(), update: (next) => page.update(next) };
}

export const keyOf = ({ of, name }) => (of ? `${of}/${name}` : name);

class ClipPage extends Scene {
  #edges = null;

  constructor(clip, route, api) {
    super(clip, route, api);
    this.said = new Map(route.dataset.columns.map((column) => [column.name, column]));
    this.faces = ROLES.map((role) => ({
      ...filmFrame(role, h("span", { class: role }, role), { video: Boolean(clip.media[role]) }), columns: {},
    }));
    const filmed = this.faces.filter(({ name }) => clip.media[name]);
    this.play(filmed.map(({ name, video }) => [name, clip.media[name], video]));
    const over = route.query.getAll("over");
    this.overlays = new Set(over.length ? over : FIRST_OVER);
    this.picker = new Picker(this.#groups(), this.#firstTracks(), route.query, () => this.showTracks());
    this.element = this.#layout();
  }

  addressOf(id) {
    return `#/clip/${encodeURIComponent(id)}`;
  }

  #layout() {
    const { clip } = this;
    const there = new Set(clip.columns.filter((column) => !column.of).map((column) => column.name));
    const isThere = (name) => ROLES.some((role) => there.has(`${role}_${OVERLAYS[name][0]}`));
    const drawable = Object.keys(OVERLAYS).filter(isThere);
    const toggles = drawable.map((name) => {
      const onchange = (event) => this.#overlay(name, event.target.checked);
      return h("label.chip", {}, h("input", { type: "checkbox", checked: this.overlays.has(name), onchange }), name);
    });
    const compared = clip.columns.some((column) => column.of) || Object.keys(clip.renders).length > 0;
    return h("div.clip", {},
      this.head(compared && h("a", { href: `#/compare/${encodeURIComponent(clip.clip_id)}` }, "Compare")),
      h("div.clip-top", {},
        h("div.stage", {},
          h("div.faces", {}, this.faces.map((face) => face.element)), this.bar.element,
          h("div.toggles", {}, toggles, this.#whose())),
        h("div.facts", {}, this.#outcomes(), scoreTable(clip.scores), this.#facts())),
      this.picker.element,
      this.tracks.element);
  }

  /** A choice of what is heard, where people have a sound of their own. */
  #whose() {
    const roles = Object.keys(this.clip.sounds ?? {});
    if (!this.sound || !roles.length) return null;
    const names = { sound: "both", ...Object.fromEntries(roles.map((role) => [`${role}_audio`, role])) };
    const options = Object.entries(names).map(([name, said]) => h("option", { value: name }, said));
    const onchange = (event) => this.media && this.hear(event.target.value);
    return h("label.chip", {}, "heard: ", h("select", { name: "heard", onchange }, options));
  }

  #facts() {
    const { clip } = this;
    const people = [clip.speaker_id, clip.listener_id].filter(Boolean).join(" → ");
    const span = clip.start_s === null ? "" : `${clip.start_s} – ${clip.end_s} s`;
    const own = Object.entries(clip.values).filter(([name]) => !this.said.get(name)?.media);
    const rows = Object.entries({ people, source: clip.source_id, span, ...Object.fromEntries(own) });
    return h("dl", {}, rows.filter(([, value]) => value !== null && value !== "")
      .map(([key, value]) => [h("dt", { title: this.said.get(key)?.meaning }, key), h("dd", {}, shortNumber(value))]));
  }

  /** Why it was turned down, where it was. */
  #outcomes() {
    const bad = (this.clip.outcomes ?? []).filter((one) => one.reason || one.detail);
    const said = (one) => h("li", {}, h("b", {}, `${one.stage}: ${one.reason || one.kind}`), ` ${one.detail ?? ""}`);
    const look = h("a", { href: `#/rejects?${new URLSearchParams({ clip: this.clip.clip_id })}` }, "look at it in the picture of its source");
    return bad.length ? h("ul.outcomes", {}, bad.map(said), this.route.dataset.films && h("li", {}, look)) : null;
  }

  // -- tracks ------------------------------------------------------------------------------------------------------

  #firstTracks() {
    const own = this.clip.columns.filter((column) => !column.of && column.width < 100).map((column) => column.name);
    const usual = FIRST_SHOWN.filter((name) => own.includes(name));
    const always = [...(this.clip.media.audio ? ["sound"] : []), ...(this.clip.words.length ? ["words"] : [])];
    for (const role of Object.keys(this.clip.sounds ?? {})) always.push(`${role}_audio`, `${role}_words`);
    return [...always, ...(usual.length ? usual : own.slice(0, FEW))];
  }

  #groups() {
    const groups = new Map();
    const add = (group, key, title) => groups.set(group, [...(groups.get(group) ?? []), [key, title]]);
    if (this.clip.media.audio) add("sound", "sound", "the sound's wave");
    if (this.clip.words.length) add("sound", "words", "what is said");
    for (const role of Object.keys(this.clip.sounds ?? {})) add("sound", `${role}_audio`, "the wave of the own sound");
    for (const name of Object.keys(this.clip.own_words ?? {})) add("sound", name, this.said.get(name)?.meaning);
    for (const column of this.clip.columns) {
      add(column.of || (this.said.get(column.name)?.stage ?? "derived"), keyOf(column), column.meaning);
    }
    return [...groups];
  }

  async showTracks() {
    const { chosen } = this.picker;
    const tracks = await Promise.all(chosen.map((key) => this.#track(key)));
    if (chosen === this.picker.chosen && !this.left) this.tracks.set(tracks.filter(Boolean));
  }

  async #track(key) {
    if (key === "words") return { key, name: key, kind: "words", data: this.clip.words };
    if (this.clip.own_words?.[key]) return { key, name: key, kind: "words", data: timed(this.clip.own_words[key]) };
    if (this.media?.peaks[key]) return { key, name: key, kind: "wave", data: this.media.peaks[key] };
    const column = this.clip.columns.find((one) => keyOf(one) === key);
    if (!column) return null;
    const { name, of, unit, meaning, width } = column;
    const data = await this.column(name, of);
    return { key, name: key, kind: kindOf(column), unit, title: meaning, width, data };
  }

  // -- faces -------------------------------------------------------------------------------------------------------

  #overlay(name, shown) {
    this.overlays[shown ? "add" : "delete"](name);
    setQuery({ over: this.overlays.size ? [...this.overlays] : ["none"] });
    this.#loadOverlays();
  }

  async #loadOverlays() {
    const names = new Set([...this.overlays].flatMap((name) => OVERLAYS[name] ?? []));
    if (this.overlays.has("model")) this.#edges ??= await this.api.json("/api/mesh");
    await Promise.all(this.faces.flatMap((face) => [...names].map(async (name) => {
      const column = this.clip.columns.find((one) => !one.of && one.name === `${face.name}_${name}`);
      if (column) face.columns[name] = { data: await this.column(column.name, column.of), width: column.width };
    })));
    this.#drawFaces();
  }

  #drawFaces() {
    for (const face of this.faces) {
      const film = this.player.films.find((one) => one.name === face.name);
      const frame = film?.shown ?? this.player.frame; // what this film shows, not what the other does
      drawOverlays(face.canvas, { ...face.columns, edges: this.#edges }, this.overlays, frame, face.side());
    }
  }

  onFrame() {
    this.tracks.move(this.player.frame);
    this.#drawFaces();
  }

  // -- coming and going --------------------------------------------------------------------------------------------

  load() {
    const { query } = this.route;
    return super.load([this.#loadOverlays()], () => {
      if (query.has("in") && query.has("out")) this.bar.mark([Number(query.get("in")), Number(query.get("out"))]);
    });
  }
}
