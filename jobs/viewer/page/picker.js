// Which tracks are shown: a list to tick, kept in the address.
import { setQuery } from "./address.js";
import { h } from "./dom.js";

export class Picker {
  /** `groups`: [[title, [[key, explanation], ...]], ...]; `usual` where the address names none; `onChange(keys)`. */
  constructor(groups, usual, query, onChange) {
    this.chosen = query.has("track") ? query.getAll("track") : usual;
    const box = (key) => h("input", {
      type: "checkbox", value: key, checked: this.chosen.includes(key),
      onchange: (event) => {
        const others = this.chosen.filter((one) => one !== key);
        this.chosen = event.target.checked ? [...others, key] : others;
        setQuery({ track: this.chosen.length ? this.chosen : ["none"] });
        onChange(this.chosen);
      },
    });
    this.element = h("details.picker", {}, h("summary", {}, "tracks"),
      groups.map(([title, keys]) => h("fieldset", {}, h("legend", {}, title),
        h("div", {}, keys.map(([key, why]) => h("label", { title: why }, box(key), key))))));
  }
}
