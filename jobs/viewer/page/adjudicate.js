// The page on which one person decides what the votes leave open: the same questions, with the votes side by side.
import { mountJudging } from "./annotate.js";
import { h } from "./dom.js";

export function mount(element, route, api) {
  return mountJudging(element, api, votes);
}

function votes(item, judging) {
  const rows = [
    ["valid", (vote) => (vote.valid ? "yes" : `no: ${vote.failed.map((one) => judging.number(one)).join(", ")}`)],
    ["frames", (vote) => (vote.valid ? times(vote, judging) : "")],
    item.asks_side && ["speaker", (vote) => vote.side ?? ""],
    ["attitude", (vote) => vote.attitude ?? ""],
    ["unsure", (vote) => (vote.unsure ? "yes" : "")],
    ["note", (vote) => vote.note],
  ].filter(Boolean);
  return [
    h("h2", {}, `The votes on ${item.clip_id}`),
    h("div.wide", {}, h("table.votes", {},
      h("thead", {}, h("tr", {}, h("th", {}), item.votes.map((_, place) =>
        h("th", { scope: "col" }, item.names ? item.names[place] : "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[place] ?? place + 1)))),
      h("tbody", {}, rows.map(([name, cell]) =>
        h("tr", {}, h("th", { scope: "row" }, name), item.votes.map((vote) => h("td", {}, cell(vote)))))))),
  ];
}

function times({ in_frame, out_frame }, judging) {
  return h("button", { type: "button", title: "take these times",
    onclick: () => judging.change({ in_frame, out_frame }) }, `${in_frame} to ${out_frame - 1}`);
}
