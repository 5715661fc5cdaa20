// Keys of a page: a table of key -> [what it does, action], and "?" shows the table.
import { h } from "./dom.js";

const NAMES = {
  " ": "Space", ArrowLeft: "←", ArrowRight: "→", "Shift+ArrowLeft": "Shift ←", "Shift+ArrowRight": "Shift →",
};

function isTextField(target) {
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "button", "range"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable;
}

/** Listen until the returned function is called. No key works inside a text field, or with Ctrl, Alt or Meta. */
export function listen(table) {
  const row = (key, meaning) => h("tr", {}, h("td", {}, h("kbd", {}, NAMES[key] ?? key)), h("td", {}, meaning));
  const rows = Object.entries(table).map(([key, [meaning]]) => row(key, meaning));
  const close = h("button", { type: "button", onclick: () => help.close() }, "Close");
  const help = h("dialog.keys", {}, h("table", {}, rows, row("?", "this list")), close);
  const heard = (event) => {
    if (isTextField(event.target) || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "?") {
      if (!help.open) help.showModal();
      return;
    }
    const action = table[event.shiftKey && event.key.startsWith("Arrow") ? `Shift+${event.key}` : event.key]?.[1];
    if (!action || help.open) return;
    event.preventDefault(); // Space would also press the button that has the focus
    action(event);
  };
  document.body.append(help);
  addEventListener("keydown", heard);
  return {
    help: () => help.showModal(),
    close: () => {
      removeEventListener("keydown", heard);
      help.remove();
    },
  };
}
