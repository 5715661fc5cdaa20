// Rejects: the clips that are not in the data set, with stage, reason and what was found.
//   #/rejects?stage=face&reason=x&clip=ID
import { h, fill } from "./dom.js";
import { countText, plural } from "./numbers.js";
import { Rows } from "./rows.js";
import { exits, IDS } from "./selection.js";

const RETRIED = ["failed", "crashed", "timed_out", "out_of_memory"]; // outcomes that `jobs.retry` takes back
const RETRIED_REASONS = ["decoder_crashed", "timed_out", "out_of_memory"]; // and rejects that a busy machine may cause
const REASONS_SHOWN = 12;

export async function mount(element, route, api) {
  const page = new RejectsPage(element, route.dataset, api);
  [page.rejects, page.overview] = await Promise.all([api.json("/api/rejects"), api.json("/api/overview")]);
  page.read(route.query);
  page.build();
  return { unmount: () => {}, update: (next) => { page.read(next.query); page.build(); } };
}

class RejectsPage {
  constructor(element, dataset, api) {
    Object.assign(this, { element, dataset, api, opened: null });
  }

  read(query) {
    this.filter = Object.fromEntries(["stage", "reason", "kind"].map((key) => [key, query.get(key) || ""]));
    this.text = query.get("q") || "";
    this.clip = query.get("clip") || "";
  }

  address() {
    const said = Object.entries({ ...this.filter, q: this.text, clip: this.clip }).filter(([, value]) => value);
    return `#/rejects${said.length ? `?${new URLSearchParams(said)}` : ""}`;
  }

  build() {
    const all = this.rejects;
    this.search = h("input", { type: "search", placeholder: "clip id or words of the detail", "aria-label": "search",
      value: this.text, oninput: () => { this.text = this.search.value.trim(); this.apply(); } });
    this.chips = h("div.chips", {});
    this.summary = h("span.count", { "aria-live": "polite" });
    const ids = () => this.listed.map((row) => all.clip_id[row]);
    this.retry = h("span", {}, exits(ids, [this.command()]));
    this.rows = new Rows(56, (k) => this.row(this.listed[k]));
    this.detail = h("section.panel.detail", { hidden: true });
    fill(this.element, h("div.rejects", {},
      h("div.actions", {}, this.search, this.summary, h("span.push"),
        h("span.quiet.wide", {}, "take along as"), exits(ids, [IDS]), this.retry),
      this.chips, this.detail, h("div.table", {}, this.rows.element)));
    this.apply();
  }

  command() {
    const classes = () => [...new Set(this.listed.map((row) => retryClass(this.rejects, row)).filter(Boolean))];
    return {
      label: "jobs.retry",
      name: "retry.txt",
      note: () => (classes().length
        ? "Save the ids as ids.txt, run this, then the same jobs.build again."
        : "Nothing to try again: these clips were rejected for what they show, and would be again. Other settings may let them by."),
      text: () => (classes().length ? `python -m jobs.retry ${quoted(this.dataset.address)} --class ${classes().join(",")} --clips ids.txt\n` : "\n"),
    };
  }

  apply() {
    const all = this.rejects;
    const words = this.text.toLowerCase();
    const fits = (row) => (!this.filter.stage || all.stage[row] === this.filter.stage) &&
      (!this.filter.reason || all.reason[row] === this.filter.reason) &&
      (!this.filter.kind || all.kind[row] === this.filter.kind) &&
      (!words || `${all.clip_id[row]} ${all.detail[row]}`.toLowerCase().includes(words));
    this.listed = [];
    for (let row = 0; row < all.clip_id.length; row++) if (fits(row)) this.listed.push(row);
    const narrowed = this.listed.length !== all.clip_id.length;
    fill(this.summary, narrowed ? `${countText(this.listed.length)} of ${plural(all.clip_id.length, "clip")} that fell out`
      : `${plural(all.clip_id.length, "clip")} fell out`);
    this.drawChips();
    this.retry.hidden = !this.listed.some((row) => retryClass(all, row));
    this.rows.show(this.listed.length);
    this.rows.element.hidden = !this.listed.length;
    this.select(this.listed.find((row) => all.clip_id[row] === this.clip) ?? (this.listed.length === 1 ? this.listed[0] : null));
  }

  drawChips() {
    const counts = new Map();
    this.rejects.clip_id.forEach((_, row) => {
      const key = JSON.stringify([this.rejects.stage[row], this.rejects.reason[row] || "", this.rejects.kind[row]]);
      counts.set(key, (counts.get(key) || 0) + 1);
    });
    const sorted = [...counts].sort((a, b) => b[1] - a[1]).slice(0, REASONS_SHOWN);
    const { stage, reason } = this.filter;
    fill(this.chips, sorted.map(([key, count]) => {
      const [ofStage, ofReason, kind] = JSON.parse(key);
      const mine = stage === ofStage && (reason ? reason === ofReason : true) && (stage || reason);
      return h("button.chip", { "aria-pressed": String(Boolean(mine)), title: this.meaning(ofStage, ofReason),
        onclick: () => {
          this.filter = mine ? { stage: "", reason: "", kind: "" } : { stage: ofStage, reason: ofReason, kind: ofReason ? "" : kind };
          this.apply();
        } }, h("span.quiet", {}, `${ofStage} `), `${ofReason || kind} ${countText(count)}`);
    }));
  }

  meaning(stage, reason) {
    return (this.overview.reasons[stage] || {})[reason] || "";
  }

  row(row) {
    const all = this.rejects;
    const element = h("button.reject", { onclick: () => this.select(row), "aria-pressed": String(this.opened === row) },
      h("span.id", {}, all.clip_id[row]),
      h("span.why", {}, h("span.quiet", {}, `${all.stage[row]} `), all.reason[row] || all.kind[row]),
      h("span.quiet.found", {}, lastLine(all.detail[row])));
    return element;
  }

  async select(row) {
    this.opened = row;
    this.clip = row === null ? "" : this.rejects.clip_id[row];
    history.replaceState(null, "", this.address());
    this.detail.hidden = row === null;
    for (const one of this.rows.inner.children) one.setAttribute("aria-pressed", "false");
    if (row === null) return;
    const all = this.rejects;
    const id = all.clip_id[row];
    const link = h("a.button", { href: `#/clip/${encodeURIComponent(id)}` }, "open the clip");
    fill(this.detail,
      h("h2", {}, id, h("span.quiet", {}, ` ${all.kind[row]} by ${all.stage[row]}`)),
      h("p", {}, h("strong", {}, all.reason[row] || all.kind[row]), this.meaning(all.stage[row], all.reason[row])
        ? ` – ${this.meaning(all.stage[row], all.reason[row])}` : ""),
      all.detail[row] && h("pre.lines", {}, all.detail[row]),
      h("div.actions", {}, link, h("button", { onclick: () => this.select(null) }, "close")));
    this.rows.draw(true);
    const none = () => null;
    const { frames } = (await this.api.json(`/api/reject/${encodeURIComponent(id)}`).catch(none)) || { frames: [] };
    if (this.opened !== row) return; // another one, meanwhile
    if (this.dataset.films) await this.film(id, frames, link);
    else link.after(...frames.map((frame) => h("a.button", { href: `#/clip/${encodeURIComponent(id)}?frame=${frame}` }, `frame ${frame}`)));
    if (!this.dataset.films && !this.api.isStatic) {
      this.detail.append(h("p.quiet", {}, "To see it in the picture of its source, start jobs.view with --manifest and what the data set was built from."));
    }
  }

  /** The whole picture of the source, and the frames at which a stage says that it goes wrong. */
  async film(id, frames, link) {
    const note = h("p.quiet", {}, "the film is being written …");
    this.detail.append(note);
    try {
      const film = await this.api.json(`/api/film/${encodeURIComponent(id)}`);
      if (this.opened === null || this.rejects.clip_id[this.opened] !== id) return;
      const video = h("video.film", { src: film.video, controls: true, muted: true, preload: "auto" });
      const seek = (frame) => { video.currentTime = (film.before + frame + 0.5) / 30; };
      seek(frames.length ? frames[0] : 0);
      const buttons = frames.map((frame) => h("button", { onclick: () => { video.pause(); seek(frame); } }, `frame ${frame}`));
      link.after(...buttons, h("button", { onclick: () => { video.pause(); seek(0); } }, "the clip's beginning"));
      note.replaceWith(video);
    } catch (error) {
      fill(note, `no film: ${error.message}`);
    }
  }
}

function retryClass(all, row) {
  if (RETRIED.includes(all.kind[row])) return all.kind[row];
  return RETRIED_REASONS.includes(all.reason[row]) ? all.reason[row] : "";
}

function lastLine(text) {
  return text.trim().split("\n").pop();
}

function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
