// The bar under the films: play, step, frame, speed, in and out, what each medium shows, and the keys for all of it.
import { inQuery, setQuery } from "./address.js";
import { h } from "./dom.js";
import { listen } from "./keys.js";
import { FPS, SPEEDS } from "./player.js";

const LINK_MS = 150; // browsers refuse an address that changes a hundred times in a few seconds

/** `more`: further keys. Returns {element, loading(text), close()}. */
export function transport(player, more = {}) {
  const button = (label, title, onclick) => h("button", { type: "button", title, "aria-label": title, onclick }, label);
  const play = button("▶", "play or pause (Space)", () => player.toggle());
  const loop = button("loop", "loop (l)", () => toggleLoop());
  const speed = h("select", { title: "speed (- =)", onchange: () => player.setSpeed(Number(speed.value)) },
    SPEEDS.map((one) => h("option", { value: one }, `${one} ×`)));
  const number = h("output.frame", { "data-frame": "" });
  const time = h("span.quiet", {});
  const media = h("span.media", { "data-media": "" });
  const message = h("span.message", { role: "status" });
  const spanText = h("button.span-text", { type: "button", title: "clear in and out", onclick: () => mark(null) });

  function mark(span) {
    player.span = span;
    spanText.hidden = !span;
    if (span) spanText.textContent = `${span[0]}–${span[1]} ×`;
    setQuery({ in: span ? span[0] : null, out: span ? span[1] : null });
    player.dispatchEvent(new Event("span"));
  }
  function markIn() {
    mark([player.frame, Math.max(player.frame, player.span?.[1] ?? player.frames - 1)]);
  }
  function markOut() {
    mark([Math.min(player.frame, player.span?.[0] ?? 0), player.frame]);
  }
  function toggleLoop() {
    player.loop = !player.loop;
    loop.setAttribute("aria-pressed", player.loop);
  }

  const keys = listen({
    " ": ["play, pause", () => player.toggle()],
    ArrowLeft: ["a frame back", () => player.step(-1)],
    ArrowRight: ["a frame on", () => player.step(1)],
    "Shift+ArrowLeft": ["a second back", () => player.step(-FPS)],
    "Shift+ArrowRight": ["a second on", () => player.step(FPS)],
    i: ["in: play from here", markIn],
    o: ["out: play to here", markOut],
    l: ["loop", toggleLoop],
    "-": ["slower", () => player.faster(-1)],
    "=": ["faster", () => player.faster(1)],
    ...more,
  });

  const bar = h("div.transport", {},
    play,
    button("‹", "a frame back (←)", () => player.step(-1)),
    button("›", "a frame on (→)", () => player.step(1)),
    h("span.where", {}, number, time),
    speed, loop,
    button("in", "play from here (i)", markIn), button("out", "play to here (o)", markOut), spanText,
    button("?", "keys (?)", () => keys.help()),
    message, media);

  let link = 0;
  function onFrame() {
    number.textContent = player.frame;
    number.dataset.frame = player.frame;
    time.textContent = `/ ${player.frames - 1} · ${(player.frame / FPS).toFixed(2)} s`;
    showMedia();
    bar.dataset.correcting = player.correcting;
    if (player.playing || player.state === "loading") return; // films show their first frame before the one sought
    clearTimeout(link);
    const named = inQuery("frame"); // a link that is followed meanwhile names another one, and stays
    link = setTimeout(() => inQuery("frame") === named && setQuery({ frame: player.frame }), LINK_MS);
  }

  /** The frame of each medium; amber where they are not the playhead's, by more than one while playing. */
  function showMedia() {
    const slack = player.state === "playing" ? 1 : 0;
    const cells = player.films.filter((film) => !film.broken).map((film) => [film.name, film.shown]);
    cells.push(["sound", Math.floor(player.heard + 1e-3)]);
    const shown = cells.map(([name, frame]) => {
      const apart = frame !== null && Math.abs(frame - player.frame) > slack;
      return h(apart ? "span.apart" : "span", {}, `${name} ${player.exact ? "" : "~"}${frame ?? "–"}`);
    });
    const broken = player.films.filter((film) => film.broken);
    media.replaceChildren(...shown, ...broken.map((film) => h("span.apart", {}, `${film.name} cannot be played`)));
    media.title = player.exact ? "the frame that each shows" : "this browser does not say what it shows: by its clock";
  }

  function onState() {
    play.textContent = player.playing ? "❚❚" : "▶";
    speed.value = player.speed;
    const said = { waiting: "waiting for media", loading: "loading" }[player.state] ?? "";
    message.textContent = player.refused ? "the browser refused to play sound: press play once more" : said;
    bar.dataset.state = player.state;
    if (player.state === "standing") onFrame();
  }

  player.addEventListener("frame", onFrame);
  player.addEventListener("state", onState);
  spanText.hidden = true;
  onState();
  return {
    element: bar,
    mark,
    say: (text) => (message.textContent = text),
    close: () => {
      clearTimeout(link);
      keys.close();
    },
  };
}
