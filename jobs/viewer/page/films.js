// Films on a page: a square each with a canvas over it, and fetching them whole, with the sound.
import { h } from "./dom.js";
import { wavePeaks } from "./tracks.js";

const WAVE_BINS = 4000;
export const SIDE_PX = 384; // of the crops, where there is no film that says so

/** A place for a film, or for a drawing where there is none. */
export function filmFrame(name, caption, { drawn = false, video = true } = {}) {
  const film = h("video", { playsinline: true, "data-role": name });
  const canvas = h("canvas.over", {});
  const nothing = h("p.quiet.no-film", {}, drawn ? "" : "no film");
  const element = h("figure.face", {}, h("div.face-film", {}, video ? film : nothing, canvas), h("figcaption", {}, caption));
  return { name, video: film, canvas, note: nothing, element, side: () => film.videoWidth || SIDE_PX };
}

/**
 * Give elements their media: `wanted` is a list of [name, path, element or null]. `say` hears how far it is. Returns
 * {release(), urls, peaks}: of every name its address, and of every sound whose bytes can be had its wave.
 */
export async function loadMedia(api, wanted, signal, say) {
  const share = {};
  const files = await Promise.all(wanted.map(async ([name, path, element]) => {
    const file = await api.media(path, signal, (part) => {
      share[name] = part;
      say(`loading ${Object.entries(share).map(([one, got]) => `${one} ${Math.floor(100 * got)} %`).join(", ")}`);
    });
    if (element) element.src = file.url;
    return { name, path, ...file };
  }));
  say("");
  const peaks = {};
  for (const { name, path: from, blob } of files) {
    if (blob && from.endsWith(".wav")) peaks[name] = wavePeaks(await blob.arrayBuffer(), WAVE_BINS);
  }
  return {
    release: () => files.forEach((file) => file.release()),
    urls: Object.fromEntries(files.map(({ name, url }) => [name, url])),
    peaks,
  };
}
