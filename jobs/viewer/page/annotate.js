// The page on which one person judges films, by the keyboard alone if they like. Nothing of an answer is kept in the
// browser: what the page calls saved, the server has on its disk.
import { fill, h } from "./dom.js";
import { listen } from "./keys.js";
import { FPS, Player } from "./player.js";

const OUT_OF = { o: "to judge", d: "judged", s: "changed since you judged it" };

export function mount(element, route, api) {
  return mountJudging(element, api, () => null);
}

/** The page; `besides(item, judging)` makes what adjudicators see next to the film. */
export async function mountJudging(element, api, besides) {
  const judging = new Judging(element, api, besides);
  await judging.begin();
  return () => judging.end();
}

class Judging {
  item = null; // what the server says of the film that is shown
  answer = null;
  player = null;
  #closed = new AbortController();
  #visit = null; // aborts loading when another film is asked for
  #opened = 0;
  #sent = { uuid: "", text: "" };
  #saving = false;

  constructor(element, api, besides) {
    Object.assign(this, { element, api, besides });
  }

  async begin() {
    this.asked = await this.api.json("/api/annotate");
    this.places = [...this.asked.places];
    this.#layout();
    const { signal } = this.#closed;
    addEventListener("keydown", (event) => event.key === "Escape" && this.note.blur(), { signal });
    document.addEventListener("visibilitychange", () => document.hidden || this.#lookAgain(), { signal });
    const first = this.places.findIndex((state) => state !== "d");
    if (!this.places.length) this.say("Nothing is left to decide.");
    else await this.open(first < 0 ? 0 : first);
    if (first < 0 && this.places.length) this.say("All are judged. p and n lead through them.");
  }

  end() {
    this.#closed.abort();
    this.keys.close();
    this.#leave();
  }

  // -- one film ------------------------------------------------------------------------------------------------------

  async open(place, told = "") {
    this.#leave();
    const visit = (this.#visit = new AbortController());
    this.place = place;
    this.item = null;
    this.say(told);
    this.#draw();
    try {
      const item = await this.api.json(`/api/annotate/${place}`);
      if (visit.signal.aborted) return;
      this.item = item;
      this.answer = item.vote ?? {
        valid: null, failed: [], in_frame: 0, out_frame: item.num_frames, side: null, attitude: null, unsure: false, note: "",
      };
      if (!this.answer.valid && item.vote) Object.assign(this.answer, { in_frame: 0, out_frame: item.num_frames });
      this.#opened = performance.now();
      if (item.trouble) this.say(item.trouble, "trouble");
      else if (item.stale) this.say("This film has changed since you judged it: look again.", "trouble");
      this.#draw();
      if (!item.trouble) await this.#load(item, visit.signal);
    } catch (error) {
      if (!visit.signal.aborted) this.say(error.message, "trouble");
    }
  }

  async #load(item, signal) {
    const base = `/media/annotate/${item.place}`;
    const names = item.has_sound ? ["film.mp4", "sound.wav"] : ["film.mp4"];
    this.media = await Promise.all(names.map((name) => this.api.media(`${base}/${name}`, signal)));
    if (signal.aborted) return this.#release();
    const [film, sound] = this.media;
    this.video.src = film.url;
    const audio = sound ? h("audio", { src: sound.url, preload: "auto" }) : null;
    const player = (this.player = new Player({ film: this.video }, audio, item.frames));
    player.addEventListener("frame", () => this.#playhead());
    player.addEventListener("state", () => this.#playhead());
    this.#lock();
    await player.open(item.before + this.answer.in_frame);
    if (signal.aborted) return;
    this.#opened = performance.now();
    this.#playhead();
  }

  #leave() {
    if (this.#visit) this.#visit.abort();
    if (this.player) this.player.close();
    this.player = null;
    this.#release();
  }

  #release() {
    for (const one of this.media ?? []) one.release();
    this.media = [];
  }

  /** Another tab may have judged this film: then its vote is shown here. */
  async #lookAgain() {
    if (!this.item || this.#saving) return;
    try {
      this.places = [...(await this.api.json("/api/annotate")).places];
      const now = await this.api.json(`/api/annotate/${this.place}`);
      if (now.seen === this.item.seen) return this.#draw();
      await this.open(this.place);
      this.say("You judged this in another tab; that is what is shown.", "trouble");
    } catch (error) {
      this.say(error.message, "trouble");
    }
  }

  // -- answers -------------------------------------------------------------------------------------------------------

  change(said) {
    if (!this.item || this.item.trouble) return;
    Object.assign(this.answer, said);
    this.#lock();
    this.say("");
    this.#draw();
  }

  condition(number) {
    const [name] = this.asked.conditions[number] ?? [];
    if (!name) return;
    const failed = this.answer.failed.includes(name)
      ? this.answer.failed.filter((one) => one !== name) : [...this.answer.failed, name];
    this.change({ valid: false, failed });
  }

  /** Keys may come faster than frames: what counts is the frame that was asked for when the key was pressed. */
  edge(name) {
    if (!this.player) return;
    const frame = this.player.aim - this.item.before;
    this.change(name === "in" ? { in_frame: frame } : { out_frame: frame + 1 });
  }

  missing() {
    const { valid, failed, in_frame, out_frame, side, attitude } = this.answer;
    if (valid === null) return "Is it valid? a accepts, x rejects.";
    if (!valid) return failed.length ? "" : "Which conditions fail? 1 to 5.";
    if (in_frame >= out_frame) return "The last frame lies before the first: i and o set them.";
    if (this.item.asks_side && !side) return "On which side does the speaker sit? s";
    return attitude ? "" : "The listener's attitude? 1 2 3";
  }

  async save() {
    if (!this.item || this.item.trouble || this.#saving) return;
    const missing = this.missing();
    if (missing) return this.say(missing, "trouble");
    const { valid, failed, in_frame, out_frame, side, attitude, unsure, note } = this.answer;
    const only = valid ? { in_frame, out_frame, side: this.item.asks_side ? side : null, attitude, failed: [] }
      : { in_frame: null, out_frame: null, side: null, attitude: null, failed };
    const said = { valid, ...only, unsure, note };
    const text = JSON.stringify([this.place, said]);
    if (text !== this.#sent.text) this.#sent = { uuid: crypto.randomUUID(), text }; // sent again it is the same vote
    this.#saving = true;
    this.say("saving …");
    try {
      const answer = { ...said, seconds: Math.round(performance.now() - this.#opened) / 1000 };
      const { uuid } = this.#sent;
      const saved = await this.api.post(`/api/annotate/${this.place}`, { uuid, seen: this.item.seen, answer });
      this.places[saved.place] = saved.state;
      this.#sent = { uuid: "", text: "" };
      await this.#next(`Saved: film ${saved.place + 1}.`);
    } catch (error) {
      if (error.status === 409) await this.#conflict(error);
      else this.say(error.status ? error.message : "not saved: the server does not answer", "trouble");
    } finally {
      this.#saving = false;
    }
  }

  async #conflict(error) {
    const mine = this.answer;
    const now = await this.api.json(`/api/annotate/${this.place}`);
    this.item.seen = now.seen;
    this.answer = mine;
    this.say(`${error.message}. There: ${this.inWords(now.vote)}. Enter saves what is shown here.`, "trouble");
  }

  async #next(told) {
    const after = this.places.findIndex((state, place) => place > this.place && state !== "d");
    const first = after < 0 ? this.places.findIndex((state) => state !== "d") : after;
    if (first < 0) {
      this.item.seen = (await this.api.json(`/api/annotate/${this.place}`)).seen;
      this.#draw();
      return this.say(`${told} All are judged: thank you. p and n lead through them.`);
    }
    await this.open(first, told);
  }

  async undo() {
    if (this.#saving) return;
    try {
      const { place, state } = await this.api.post("/api/annotate/undo", { uuid: crypto.randomUUID() });
      if (place === null) return this.say("No vote is left to take back.");
      this.places[place] = state;
      await this.open(place, `Taken back: film ${place + 1}.`);
    } catch (error) {
      this.say(error.message, "trouble");
    }
  }

  inWords(vote) {
    if (!vote) return "no vote";
    if (!vote.valid) return `not valid: ${vote.failed.map((one) => this.number(one)).join(", ")}`;
    return [`valid, frames ${vote.in_frame} to ${vote.out_frame - 1}`, vote.side, vote.attitude]
      .filter(Boolean).join(", ");
  }

  number(condition) {
    return this.asked.conditions.findIndex(([name]) => name === condition) + 1;
  }

  // -- keys ----------------------------------------------------------------------------------------------------------

  #keys() {
    const film = (act) => () => this.player && act(this.player);
    const step = (by) => film((player) => player.step(by));
    const table = {
      " ": ["play, stop", film((player) => player.toggle())],
      ArrowLeft: ["a frame back", step(-1)],
      ArrowRight: ["a frame on", step(1)],
      "Shift+ArrowLeft": ["a second back", step(-FPS)],
      "Shift+ArrowRight": ["a second on", step(FPS)],
      i: ["the frame shown is the first", () => this.edge("in")],
      o: ["the frame shown is the last", () => this.edge("out")],
      l: ["play again and again", film(() => this.loop())],
      "-": ["slower", film((player) => player.faster(-1))],
      "=": ["faster", film((player) => player.faster(1))],
      a: ["accept: valid", () => this.change({ valid: true, failed: [] })],
      x: ["reject", () => this.change({ valid: false })],
      s: ["the speaker sits left, right", () => this.swap()],
      1: ["positive; of a rejected film: condition 1 fails", () => this.#digit(1)],
      2: ["neutral; of a rejected film: condition 2 fails", () => this.#digit(2)],
      3: ["negative; of a rejected film: condition 3 fails", () => this.#digit(3)],
      4: ["of a rejected film: condition 4 fails", () => this.#digit(4)],
      5: ["of a rejected film: condition 5 fails", () => this.#digit(5)],
      d: ["unsure", () => this.change({ unsure: !this.answer.unsure })],
      t: ["a note; Escape leaves it", () => this.note.focus()],
      Enter: ["save, next", () => this.save()],
      u: ["take back the last vote", () => this.undo()],
      n: ["next film", () => this.go(1)],
      p: ["previous film", () => this.go(-1)],
    };
    const once = ([meaning, act], key) => [meaning, (event) => (key.startsWith("Arrow") || !event.repeat) && act()];
    return listen(Object.fromEntries(Object.entries(table).map(([key, row]) => [key, once(row, key)])));
  }

  swap() {
    if (this.item?.asks_side) this.change({ side: this.answer.side === "left" ? "right" : "left" });
  }

  #digit(digit) {
    if (!this.item) return;
    if (this.answer.valid === false) this.condition(digit - 1);
    else if (digit <= this.asked.attitudes.length) this.change({ attitude: this.asked.attitudes[digit - 1][0] });
  }

  go(by) {
    const place = this.place + by;
    if (place >= 0 && place < this.places.length) this.open(place);
  }

  loop() {
    this.player.loop = !this.player.loop;
    this.#playhead();
  }

  /** Playing keeps to what is marked; frames of the margins are reached by stepping. */
  #lock() {
    const { in_frame, out_frame } = this.answer;
    if (!this.player) return;
    const [first, last] = [in_frame, out_frame - 1].map((frame) => frame + this.item.before);
    this.player.span = first <= last ? [first, last] : null;
  }

  // -- what is drawn -------------------------------------------------------------------------------------------------

  #layout() {
    this.video = h("video", { playsinline: true, preload: "auto", onclick: () => this.player?.toggle() });
    this.wait = h("p.quiet.wait", {}, "the film is being prepared …");
    this.here = h("div.here");
    this.marked = h("div.marked");
    this.bar = h("div.timeline", { onclick: (event) => this.#seekTo(event), title: "click: show that frame" },
      this.marked, this.here);
    this.clock = h("span.clock");
    this.message = h("p.message", { role: "status", "aria-live": "polite" });
    this.note = h("input", { type: "text", maxlength: 1000, "aria-label": "note", placeholder: "note (t)",
      oninput: () => { if (this.answer) this.answer.note = this.note.value; } });
    this.progress = h("p.progress");
    this.panel = h("div.questions");
    this.beside = h("div.beside");
    const button = (text, act, title) => h("button", { type: "button", title, onclick: act }, text);
    this.controls = h("div.controls", {},
      button("▶", () => this.player?.toggle(), "Space"),
      button("−1", () => this.player?.step(-1), "←"), button("+1", () => this.player?.step(1), "→"),
      button("set first", () => this.edge("in"), "i"), button("set last", () => this.edge("out"), "o"),
      (this.looping = button("loop", () => this.player && this.loop(), "l")));
    fill(this.element, h("div.judging", {},
      h("section.seen", {}, h("div.screen", {}, this.video, this.wait), this.bar,
        h("div.under", {}, this.controls, this.clock), this.beside),
      h("section.said", {}, this.progress, this.message, this.panel, this.note,
        h("div.controls", {}, button("Save (Enter)", () => this.save(), "Enter"), button("Undo", () => this.undo(), "u"),
          button("‹", () => this.go(-1), "p"), button("›", () => this.go(1), "n"),
          button("Keys (?)", () => this.keys.help(), "?")))));
    this.keys = this.#keys();
  }

  #draw() {
    const done = this.places.filter((state) => state === "d").length;
    const state = this.places[this.place];
    fill(this.progress, h("strong", {}, `Film ${this.place + 1} of ${this.places.length}`),
      ` · ${done} judged · this one: ${OUT_OF[state] ?? ""}`);
    const { item } = this;
    this.wait.hidden = !!item;
    this.video.classList.toggle("hidden", !item || !!item.trouble);
    if (!item) {
      fill(this.panel);
      fill(this.beside);
      this.clock.textContent = "";
      delete this.clock.dataset.frame;
      return;
    }
    const { answer } = this;
    const choice = (key, text, on, act, more = "") =>
      h("button.choice", { type: "button", "aria-pressed": String(on), onclick: act },
        h("kbd", {}, key), h("span", {}, text, more && h("small", {}, more)));
    fill(this.panel,
      h("h2", {}, "Is it a valid clip?"),
      h("div.pair", {}, choice("a", "valid", answer.valid === true, () => this.change({ valid: true, failed: [] })),
        choice("x", "not valid", answer.valid === false, () => this.change({ valid: false }))),
      answer.valid === true ? [] : h("ol.conditions", {}, this.asked.conditions.map(([name, text], place) =>
        h("li", {}, answer.valid === false
          ? choice(place + 1, text, answer.failed.includes(name), () => this.condition(place)) : text))),
      answer.valid === false ? [] : [
        h("h2", {}, "First and last frame"),
        h("p.frames", {}, `${answer.in_frame} to ${answer.out_frame - 1}`,
          h("span.quiet", {}, ` of the proposed 0 to ${item.num_frames - 1}`)),
        item.asks_side ? [h("h2", {}, "The speaker sits"), h("div.pair", {}, ["left", "right"].map((side) =>
          choice("s", side, answer.side === side, () => this.change({ side }))))] : [],
        h("h2", {}, "The listener's attitude"),
        h("div.trio", {}, this.asked.attitudes.map(([name, meaning], place) =>
          choice(place + 1, name, answer.attitude === name, () => this.change({ attitude: name }), meaning))),
      ],
      h("div.pair", {}, choice("d", "unsure", answer.unsure, () => this.change({ unsure: !answer.unsure }))));
    if (document.activeElement !== this.note) this.note.value = answer.note;
    fill(this.beside, this.besides(item, this) ?? "");
    this.#playhead();
  }

  #playhead() {
    const { item, answer, player } = this;
    if (!item || item.trouble) return;
    const part = (frame) => `${(100 * (frame + item.before)) / item.frames}%`;
    Object.assign(this.marked.style, { left: part(answer.in_frame), right: `calc(100% - ${part(answer.out_frame)})` });
    this.wait.hidden = !!player && player.state !== "loading";
    if (!player) return;
    const frame = player.frame - item.before;
    this.here.style.left = part(frame + 0.5);
    this.controls.firstChild.textContent = player.playing ? "❚❚" : "▶";
    this.looping.setAttribute("aria-pressed", String(player.loop));
    const speed = player.speed === 1 ? "" : ` · ${player.speed}×`;
    this.clock.textContent = `frame ${frame} · ${(frame / FPS).toFixed(2)} s${speed}` +
      (player.refused ? " · press again to play" : "");
    this.clock.dataset.frame = frame;
  }

  #seekTo(event) {
    const box = this.bar.getBoundingClientRect();
    if (this.player) this.player.seek(Math.floor(((event.clientX - box.left) / box.width) * this.item.frames));
  }

  say(text, kind = "") {
    this.message.className = `message ${kind}`;
    this.message.textContent = text;
  }
}
