// What the pages ask the server for. Pages use nothing else to get data, so that an export can answer from files.

export const isStatic = false;

export class ApiError extends Error {
  constructor(status, text) {
    super(text || `status ${status}`);
    this.status = status;
  }
}

async function get(path, signal) {
  const answer = await fetch(path, { credentials: "same-origin", signal });
  if (!answer.ok) throw new ApiError(answer.status, await answer.text());
  return answer;
}

/** The JSON behind a path. */
export async function json(path) {
  return (await get(path)).json();
}

/** Raw float32 behind a path: {shape, data}; a cell that is not a number is NaN. */
export async function floats(path) {
  const answer = await get(path);
  const shape = (answer.headers.get("X-Shape") || "").split(",").map(Number);
  return { shape, data: new Float32Array(await answer.arrayBuffer()), headers: answer.headers };
}

/** Measures of the clips, a Float32Array each, in the order of that version of /api/clips. */
export async function measures(names, version) {
  const { shape, data } = await floats(`/api/measures?${new URLSearchParams([...names.map((name) => ["name", name]), ["version", version]])}`);
  return names.map((_, k) => data.subarray(k * shape[1], (k + 1) * shape[1]));
}

/** A media file, fetched whole so that a stalled answer is seen before anything plays and the browser's six connections
 *  stay free: {url, blob, release()}. `progress` is called with the share that has come. */
export async function media(path, signal, progress = () => {}) {
  const answer = await get(path, signal);
  const total = Number(answer.headers.get("Content-Length")) || Infinity;
  const pieces = [];
  let bytes = 0;
  const reader = answer.body.getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    pieces.push(piece.value);
    bytes += piece.value.length;
    progress(bytes / total);
  }
  const blob = new Blob(pieces, { type: answer.headers.get("Content-Type") });
  const url = URL.createObjectURL(blob);
  return { url, blob, release: () => URL.revokeObjectURL(url) };
}

/** Send JSON, get JSON. */
export async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    credentials: "same-origin",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new ApiError(answer.status, await answer.text());
  return answer.json();
}

export function columnPath(id, name, of = "") {
  return `/api/clip/${encodeURIComponent(id)}/column/${encodeURIComponent(name)}` +
    (of ? `?of=${encodeURIComponent(of)}` : "");
}
