// A selection leaves the tool as text: ids, lines of takedown.txt, a command. Builds stay pure: nothing is changed here.
import { h } from "./dom.js";
import { plural } from "./numbers.js";

const SHOWN_LINES = 200;

/** Buttons for a selection. ids() gives what is selected; commands are {label, name, note, text(ids)}. */
export function exits(ids, commands) {
  return commands.map((command) => h("button", { onclick: () => open(command, ids()) }, command.label));
}

export const IDS = { label: "ids", name: "ids.txt", note: () => "One id a line.", text: (ids) => `${ids.join("\n")}\n` };

export function takedown(address) {
  return {
    label: "takedown.txt",
    name: "takedown.txt",
    note: () => `Append these lines to ${address}/takedown.txt: the clips are then shown and read nowhere any more.`,
    text: (ids) => `${ids.join("\n")}\n`,
  };
}

function open(command, ids) {
  const text = command.text(ids);
  const lines = text.split("\n");
  const more = lines.length > SHOWN_LINES ? `\n… ${lines.length - SHOWN_LINES} lines more: copy or save` : "";
  const dialog = h("dialog", { onclose: () => dialog.remove() },
    h("h2", {}, `${command.label}: ${plural(ids.length, "clip")}`),
    h("p.quiet", {}, command.note(ids)),
    h("pre.lines", { tabindex: 0 }, lines.slice(0, SHOWN_LINES).join("\n") + more),
    h("div.actions", {},
      h("button", { onclick: (event) => copy(text, event.target) }, "copy"),
      h("button", { onclick: () => save(command.name, text) }, `save ${command.name}`),
      h("button", { autofocus: true, onclick: () => dialog.close() }, "close")));
  document.body.append(dialog);
  dialog.showModal();
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch (error) {
    button.textContent = "not allowed: save it instead";
  }
}

function save(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  const link = h("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
