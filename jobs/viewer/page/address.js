// The query behind # of the address: what a page shows, so that a link leads to the same place.

/** The value of a key, null without one. */
export function inQuery(key) {
  return new URLSearchParams(location.hash.split("?")[1] ?? "").get(key);
}

/** Put keys into it (arrays repeat the key, null takes it out) without leaving the page or filling the history. */
export function setQuery(changes) {
  const [path, text] = location.hash.split("?");
  const query = new URLSearchParams(text ?? "");
  for (const [key, value] of Object.entries(changes)) {
    query.delete(key);
    for (const one of [value].flat()) if (one !== null && one !== "") query.append(key, one);
  }
  history.replaceState(null, "", query.size ? `${path}?${query}` : path);
}
