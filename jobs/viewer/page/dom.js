// Elements from code. Text of data sets is other people's: it becomes text nodes, never markup.

/** h("p.note", {title: "x", onclick: f}, "text", child): an element. */
export function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value") element.value = value;
    else if (key === "style") Object.assign(element.style, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...present(children));
  return element;
}

/** Replace all that an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...present(children));
}

/** Children without what stands for "nothing here", so that conditions can be written in place. */
function present(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}
