// A list of any length that holds in the document only the rows in sight.
import { h, fill } from "./dom.js";

const EXTRA = 8; // rows beyond either edge

export class Rows {
  /** make(index) gives the element of a row; all are `height` px tall. */
  constructor(height, make) {
    this.height = height;
    this.make = make;
    this.count = 0;
    this.inner = h("div.rows-inner", {});
    this.element = h("div.rows", { tabindex: 0 }, this.inner);
    this.element.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw(true)).observe(this.element);
  }

  /** Show so many rows; from the top, unless told to stay. */
  show(count, stay = false) {
    this.count = count;
    this.inner.style.height = `${count * this.height}px`;
    if (!stay) this.element.scrollTop = 0;
    this.draw(true);
  }

  draw(anew = false) {
    const first = Math.max(0, Math.floor(this.element.scrollTop / this.height) - EXTRA);
    const last = Math.min(this.count, Math.ceil((this.element.scrollTop + this.element.clientHeight) / this.height) + EXTRA);
    if (!anew && first === this.first && last === this.last) return;
    this.first = first;
    this.last = last;
    const made = [];
    for (let k = first; k < last; k++) {
      const row = this.make(k);
      row.style.top = `${k * this.height}px`;
      row.style.height = `${this.height}px`;
      made.push(row);
    }
    fill(this.inner, made);
  }
}
