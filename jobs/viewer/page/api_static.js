// Takes the place of api.js in an export: answers lie in files beside the page, each a script that calls `answer`, since
// a page that was opened from the disk may load scripts but not fetch. `files` (files.js) says which file has which.

export const isStatic = true;

export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

const answers = new Map();
window.answer = (path, value) => answers.set(path, value);

async function get(path) {
  const file = window.files[path];
  if (!file) throw new ApiError(404, "not part of this export");
  if (!answers.has(path)) {
    await new Promise((done, failed) => {
      const script = document.createElement("script");
      script.onload = done;
      script.onerror = () => failed(new ApiError(404, `${file} is missing`));
      script.src = file;
      document.head.append(script);
      script.remove();
    });
  }
  const value = answers.get(path);
  if (path.includes("/column/") || path.includes("/measures/")) answers.delete(path); // large: let go
  return value;
}

export async function json(path) {
  return get(path);
}

export async function floats(path) {
  const { shape, base64 } = await get(path);
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return { shape, data: new Float32Array(bytes.buffer) };
}

export async function measures(names) {
  return Promise.all(names.map(async (name) => (await floats(`/api/measures/${name}`)).data));
}

/** The file itself; a page from the disk may play it, but not read its bytes. */
export async function media(path) {
  if (!window.files[path]) throw new ApiError(404, "not part of this export");
  return { url: window.files[path], blob: null, release: () => {} };
}

export async function post() {
  throw new ApiError(405, "an export takes no votes");
}

export function columnPath(id, name, of = "") {
  return `/api/clip/${encodeURIComponent(id)}/column/${encodeURIComponent(name)}` +
    (of ? `?of=${encodeURIComponent(of)}` : "");
}
