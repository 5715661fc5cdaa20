// One frame clock for several films and a sound.
//
// Every film has frame k at k/30 s. Standing, each film is sought to the middle of the frame, and only what the browser
// says it has drawn (requestVideoFrameCallback) counts as shown. Playing, the sound is the clock: films that stray from
// it by more than half a frame run 3 % faster or slower until they are back, by more than six and all stop, seek and
// start together. A browser without that callback: the shown frame is then reckoned from the film's own clock, which
// may be a frame late while playing, and `exact` is false.

export const FPS = 30;
const STRAY_FRAMES = 0.5; // of each film from the sound, so that two films are at most one frame apart
const BACK_FRAMES = 0.15;
const LOST_FRAMES = 6;
const NUDGE = 0.03;
const DRAWING_MS = 1000; // how long after `seeked` a visible page may take to draw
const SAME_MS = 100; // the same, where the frame sought is the one that was shown: browsers need not draw it again
const ENOUGH_TO_PLAY = HTMLMediaElement.HAVE_FUTURE_DATA;

export const SPEEDS = [0.1, 0.25, 0.5, 1, 1.5, 2];

// The middle: exactly k/30 may draw the frame before.
const middleOf = (frame) => (frame + 0.5) / FPS;

const event = (target, ...names) =>
  new Promise((resolve) => names.forEach((name) => target.addEventListener(name, resolve, { once: true })));

const within = (ms, promise) => Promise.race([promise, new Promise((resolve) => setTimeout(resolve, ms))]);

const nextPicture = () => new Promise(requestAnimationFrame);

/** A film and the frame of it that is on the screen; null while that is not known. Once closed it lets the element be:
 *  another player may have it by then. */
class Film {
  constructor(name, video, closed) {
    Object.assign(this, { name, video, closed, shown: null, broken: false });
    this.exact = "requestVideoFrameCallback" in video;
    this.presented = new EventTarget();
    if (this.exact) this.listen();
  }

  /** Always waiting for the next frame: asked for after a seek, the callback could miss the frame. */
  listen() {
    this.video.requestVideoFrameCallback((_, frame) => {
      if (this.closed.aborted) return;
      this.listen();
      this.shown = Math.round(frame.mediaTime * FPS);
      this.presented.dispatchEvent(new Event("frame"));
    });
  }

  async ready() {
    const { video } = this;
    while (!this.broken && video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) {
      if (video.error) this.broken = true;
      else await event(video, "loadeddata", "error");
    }
    // A frame that is drawn before we have heard of the one before it is never told: not to be sought in between.
    if (this.exact && !this.broken && !document.hidden && this.shown === null) {
      await within(SAME_MS, event(this.presented, "frame"));
    }
  }

  /** Show a frame; ends when it is drawn. */
  async seek(frame) {
    for (let tries = 0; tries < 2 && !this.broken && !this.closed.aborted; tries += 1) {
      await this.#sought(frame);
      if (this.shown === frame) return;
    }
  }

  async #sought(frame) {
    const drawn = this.exact && !document.hidden ? this.#drawn(frame) : null;
    const patience = this.shown === frame ? SAME_MS : DRAWING_MS;
    this.shown = null;
    this.video.currentTime = middleOf(frame);
    await event(this.video, "seeked");
    if (drawn) await within(patience, drawn);
    this.shown ??= this.reckoned();
  }

  async #drawn(frame) {
    do await event(this.presented, "frame");
    while (this.shown !== frame);
  }

  reckoned() {
    return Math.floor(this.video.currentTime * FPS + 1e-3);
  }
}

/** The clock where there is no sound. */
export class Metronome {
  #from = 0;
  #since = null;
  #rate = 1;

  get currentTime() {
    return this.#since === null ? this.#from : this.#from + ((performance.now() - this.#since) / 1000) * this.#rate;
  }

  set currentTime(seconds) {
    this.#from = seconds;
    if (this.#since !== null) this.#since = performance.now();
  }

  set playbackRate(rate) {
    this.currentTime = this.currentTime;
    this.#rate = rate;
  }

  async play() {
    this.#since ??= performance.now();
  }

  pause() {
    this.#from = this.currentTime;
    this.#since = null;
  }
}

/**
 * Plays and steps. Events: `frame` whenever another frame is shown, `state` when anything else has changed.
 *
 * `state`: "loading", "standing", "playing", or "waiting" for a film or sound that has run dry while playing.
 * `frame`: the playhead, the least of the frames shown. `correcting`: a film is being brought back to the sound.
 */
export class Player extends EventTarget {
  state = "loading";
  frame = 0;
  speed = 1;
  loop = false;
  span = null; // [first, last] frame of the part that is played
  refused = false; // the browser wants a click before it plays sound
  corrections = 0;
  starts = 0; // times that all were started together
  #target = 0;
  #seeking = null; // a promise while films are being sought
  #wish = false; // to play
  #together = false; // being stopped, sought and started
  #closed = new AbortController();

  /** `videos`: name -> element, each muted here; `sound`: an element, or null; `frames`: number of them. */
  constructor(videos, sound, frames) {
    super();
    this.frames = Math.max(1, frames);
    this.films = Object.entries(videos).map(([name, video]) => new Film(name, video, this.#closed.signal));
    this.sound = sound ?? new Metronome();
    const { signal } = this.#closed;
    for (const film of this.films) {
      film.video.muted = true;
      film.presented.addEventListener("frame", () => this.#shown(), { signal });
    }
    for (const media of this.#media()) {
      media.preservesPitch = true;
      media.addEventListener("waiting", () => this.#dry(), { signal });
    }
    document.addEventListener("visibilitychange", () => this.#visible(), { signal });
  }

  get closed() {
    return this.#closed.signal.aborted;
  }

  get exact() {
    return this.films.every((film) => film.exact);
  }

  get playing() {
    return this.#wish;
  }

  get correcting() {
    return this.#together || this.films.some((film) => film.straying);
  }

  /** The frame that was asked for last and is being sought, else the one that is shown. */
  get aim() {
    return this.#seeking ? this.#target : this.frame;
  }

  /** The frame that is heard, not rounded. */
  get heard() {
    return this.sound.currentTime * FPS;
  }

  /** Films, and the sound where it is an element. */
  #media() {
    return [...this.films.map((film) => film.video), this.sound].filter((one) => one instanceof HTMLMediaElement);
  }

  /** Wait for all films and show a frame. */
  async open(frame = 0) {
    await Promise.all(this.films.map((film) => film.ready()));
    if (this.closed) return;
    this.state = "standing"; // said once the frame is there
    await this.seek(frame);
  }

  close() {
    this.#wish = false;
    this.#closed.abort();
    for (const media of this.#media()) {
      media.pause();
      media.removeAttribute("src");
      media.load(); // lets go of decoder and buffers
    }
  }

  /** Show a frame in all films. Calls that come meanwhile end up at the last one's frame. */
  seek(frame) {
    this.#target = Math.max(0, Math.min(this.frames - 1, Math.round(frame)));
    if (this.state === "loading" || this.closed) return Promise.resolve();
    this.#seeking ??= this.#settle();
    return this.#seeking;
  }

  step(by) {
    if (this.#wish) this.pause();
    return this.seek(this.aim + by);
  }

  async #settle() {
    this.#stop();
    let frame;
    do {
      frame = this.#target;
      this.sound.currentTime = middleOf(frame);
      await Promise.all(this.films.map((film) => film.seek(frame)));
    } while (frame !== this.#target && !this.closed);
    this.#seeking = null;
    if (this.closed) return;
    this.#shown(frame);
    if (this.#wish) await this.#start();
    else this.#change("standing");
  }

  async play() {
    if (this.state === "loading") return;
    const [first, last] = this.span ?? [0, this.frames - 1];
    this.#wish = true;
    this.refused = false;
    await this.seek(this.frame < first || this.frame >= last ? first : this.frame);
  }

  /** Stop, and show exactly the frame at which the playhead stands. */
  pause() {
    this.#wish = false;
    return this.seek(this.frame);
  }

  toggle() {
    return this.#wish ? this.pause() : this.play();
  }

  setSpeed(speed) {
    this.speed = speed;
    for (const media of [this.sound, ...this.films.map((film) => film.video)]) media.playbackRate = speed;
    this.#change(this.state);
  }

  faster(steps) {
    const place = SPEEDS.indexOf(this.speed) + steps;
    this.setSpeed(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, place))]);
  }

  #change(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  #stop() {
    for (const film of this.films) {
      film.video.pause();
      film.straying = false;
    }
    this.sound.pause();
  }

  async #start() {
    const start = (this.starts += 1);
    await this.#wet();
    if (!this.#wish || this.#seeking || start !== this.starts) return;
    this.setSpeed(this.speed);
    try {
      await this.#sounding();
      if (this.closed) return;
      await Promise.all(this.#films().map((film) => film.video.play()));
    } catch (error) {
      if (this.closed || error.name === "AbortError") return; // paused meanwhile
      this.refused = error.name === "NotAllowedError";
      this.#wish = false;
      this.#stop();
      this.#change("standing");
      return;
    }
    if (this.closed) return;
    if (!this.#wish) return this.#stop();
    this.#change("playing");
    this.#watch();
  }

  /** Start the sound and wait until it is heard: a device may take a tenth of a second. */
  async #sounding() {
    const before = this.sound.currentTime;
    await this.sound.play();
    while (this.#wish && !this.sound.paused && this.sound.currentTime === before) await nextPicture();
  }

  #films() {
    return this.films.filter((film) => !film.broken);
  }

  /** Until all have enough to play. */
  async #wet() {
    for (const media of this.#media()) {
      while (this.#wish && media.readyState < ENOUGH_TO_PLAY && !media.error && !media.ended) {
        if (this.state !== "waiting") this.#change("waiting");
        await event(media, "canplay", "error", "emptied");
      }
    }
  }

  /** One of them has run dry: all stop, and go on together when all can. */
  #dry() {
    if (this.state !== "playing" || this.#seeking || this.heard >= this.frames - 1) return;
    this.#change("waiting");
    this.seek(this.frame);
  }

  #visible() {
    if (document.hidden && this.#wish) this.pause(); // hidden films are not drawn
    else if (!document.hidden && this.state === "standing") this.seek(this.#target);
  }

  /** Once a picture of the screen while playing. */
  #watch() {
    if (this.state !== "playing" || this.#seeking || this.closed) return;
    if (!this.exact) {
      for (const film of this.films.filter((one) => !one.exact)) film.shown = film.reckoned();
      this.#shown();
    }
    const [first, last] = this.span ?? [0, this.frames - 1];
    if (this.heard >= last + 0.9 || this.sound.ended) {
      if (!this.loop) this.#wish = false;
      this.seek(this.loop ? first : last);
      return;
    }
    this.#correct();
    if (!this.films.length) this.#shown(Math.floor(this.heard));
    requestAnimationFrame(() => this.#watch());
  }

  #correct() {
    for (const film of this.#films()) {
      if (film.video.ended || film.video.seeking) continue;
      const stray = film.video.currentTime * FPS - this.heard;
      if (Math.abs(stray) > LOST_FRAMES) {
        this.#again();
        return;
      }
      if (!film.straying && Math.abs(stray) > STRAY_FRAMES) this.corrections += 1;
      film.straying = Math.abs(stray) > (film.straying ? BACK_FRAMES : STRAY_FRAMES);
      const rate = this.speed * (film.straying ? 1 - NUDGE * Math.sign(stray) : 1);
      if (film.video.playbackRate !== rate) film.video.playbackRate = rate;
    }
  }

  /** Stop all, seek all to the sound, start together. */
  async #again() {
    this.#together = true;
    await this.seek(Math.floor(this.heard));
    this.#together = false;
  }

  #shown(frame = null) {
    const shown = this.#films().map((film) => film.shown);
    if (shown.includes(null)) return; // one is being sought
    this.frame = shown.length ? Math.min(...shown) : frame ?? this.frame;
    this.dispatchEvent(new Event("frame"));
  }
}
