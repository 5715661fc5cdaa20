// A clip whose films, sound and tracks are in step: what the pages of one clip have in common.
import { h } from "./dom.js";
import { neighbours } from "./clipset.js";
import { loadMedia } from "./films.js";
import { Player } from "./player.js";
import { Tracks } from "./tracks.js";
import { transport } from "./transport.js";

/** A page draws in `onFrame()` and `showTracks()`, and says in `addressOf(id)` where it shows another clip. */
export class Scene {
  media = null; // what was loaded: {release(), urls, peaks}
  #leaving = new AbortController();
  #columns = new Map(); // path -> promise of its numbers
  #wanted = []; // [name, path, element] of what is to be fetched

  constructor(clip, route, api) {
    Object.assign(this, { clip, route, api });
    this.sound = clip.media.audio ? h("audio", {}) : null;
  }

  /** Put films in step with the sound: a list of [name, path, element]. */
  play(films) {
    const { clip } = this;
    const own = Object.entries(this.sound ? clip.sounds ?? {} : {}).map(([role, path]) => [`${role}_audio`, path, null]);
    this.#wanted = [...films, ...(this.sound ? [["sound", clip.media.audio, this.sound]] : []), ...own];
    const videos = Object.fromEntries(films.map(([name, , video]) => [name, video]));
    this.player = new Player(videos, this.sound, clip.num_frames);
    this.tracks = new Tracks(clip.num_frames, (frame) => this.player.seek(frame));
    this.bar = transport(this.player, {
      n: ["next clip", () => this.#go("next")],
      p: ["clip before", () => this.#go("previous")],
    });
    this.player.addEventListener("frame", () => this.onFrame());
    this.player.addEventListener("span", () => this.tracks.mark(this.player.span));
  }

  /** Hear one of the clip's sounds from here on, by name: "sound" is both people's. */
  hear(name) {
    this.player.pause();
    this.sound.src = this.media.urls[name];
    this.player.seek(this.player.frame);
  }

  /** Whether somebody has left the page: what arrives now is for nobody. */
  get left() {
    return this.#leaving.signal.aborted;
  }

  async #go(where) {
    const id = (await neighbours(this.clip.clip_id, this.route.dataset))[where];
    if (id) location.hash = this.addressOf(id);
  }

  /** The clip's name, a link, and the ways to its neighbours. */
  head(link) {
    const { clip } = this;
    return h("div.clip-head", {},
      h("h1", {}, clip.clip_id),
      h("span.quiet", {}, [clip.split, clip.attitude].filter(Boolean).join(" · ")),
      h("span.clip-links", {},
        link,
        h("button", { type: "button", title: "before it (p)", onclick: () => this.#go("previous") }, "‹ previous"),
        h("button", { type: "button", title: "next clip (n)", onclick: () => this.#go("next") }, "next ›")));
  }

  /** The numbers of a column, of the data set or of a prediction; asked for once. */
  async column(name, of) {
    const path = this.api.columnPath(this.clip.clip_id, name, of);
    if (!this.#columns.has(path)) this.#columns.set(path, this.api.floats(path));
    return (await this.#columns.get(path)).data;
  }

  /** Fetch the films and what else a page shows, then stand on the frame that the address names. */
  async load(parts, ready = () => {}) {
    try {
      await Promise.all([this.showTracks(), ...parts, this.#loadFilms()]);
      ready();
      await this.player.open(Number(this.route.query.get("frame")) || 0);
    } catch (error) {
      if (!this.left) this.bar.say(error.message);
    }
  }

  async #loadFilms() {
    this.media = await loadMedia(this.api, this.#wanted, this.#leaving.signal, this.bar.say);
    if (this.left) this.media.release();
    else this.showTracks();
  }

  update(route) {
    this.route = route;
    if (route.query.has("frame")) this.player.seek(Number(route.query.get("frame")) || 0);
  }

  close() {
    this.#leaving.abort();
    this.player.close();
    this.bar.close();
    this.tracks.close();
    this.media?.release();
  }
}
