// The router: the part of the address behind # names a page and what it shows, so that a link leads to a clip and frame.
//   #/overview  #/clips?...  #/clip/ID?frame=N  #/rejects  #/compare/ID?frame=N  #/annotate  #/adjudicate
// A page is a module with mount(element, route, api), which returns a function that unmounts. It may also return
// {unmount, update}: then update(route) is called when only the query changes.
import * as api from "./api.js";
import { h, fill } from "./dom.js";
import { mount as mountAnnotate } from "./annotate.js";
import { mount as mountAdjudicate } from "./adjudicate.js";
import { mount as mountClip } from "./clip.js";
import { mount as mountClips } from "./clips.js";
import { mount as mountCompare } from "./compare.js";
import { mount as mountOverview } from "./overview.js";
import { mount as mountRejects } from "./rejects.js";

const PAGES = {
  overview: { title: "Overview", mount: mountOverview },
  clips: { title: "Clips", mount: mountClips },
  rejects: { title: "Rejects", mount: mountRejects },
  compare: { title: "Compare", mount: mountCompare },
  annotate: { title: "Annotate", mount: mountAnnotate },
  adjudicate: { title: "Adjudicate", mount: mountAdjudicate },
  clip: { title: "Clip", mount: mountClip },
};

let shown = null; // {page, id, unmount, update}
let turn = 0; // counts visits: a page that comes late does not replace a newer one

function routeOf(hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  const [page, id] = path.split("/").map(decodeURIComponent);
  return { page: page || "", id: id || "", query: new URLSearchParams(query || "") };
}

async function go(dataset) {
  const route = routeOf(location.hash);
  if (!PAGES[route.page]) {
    location.replace(`#/${dataset.pages[0]}`);
    return;
  }
  if (shown && shown.page === route.page && shown.id === route.id && shown.update) {
    shown.update({ ...route, dataset });
    return;
  }
  if (shown && shown.unmount) shown.unmount();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  shown = null;
  const mine = ++turn;
  const element = document.getElementById("page");
  fill(element, h("p.quiet", {}, "…"));
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.page === route.page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${PAGES[route.page].title}${route.id ? ` ${route.id}` : ""} · ${dataset.name}`;
  const room = h("div", {});
  try {
    const made = await PAGES[route.page].mount(room, { ...route, dataset }, api);
    const page = typeof made === "function" ? { unmount: made } : made || {};
    if (mine !== turn) {
      if (page.unmount) page.unmount();
      return;
    }
    shown = { page: route.page, id: route.id, ...page };
  } catch (error) {
    if (mine !== turn) return;
    fill(room, h("p.trouble", { role: "alert" }, error.message));
    if (!(error instanceof api.ApiError)) console.error(error);
  }
  fill(element, room);
  element.dispatchEvent(new CustomEvent("shown"));
}

const SOON_MS = 700; // between questions while something is being built or measured
const LATER_MS = 15000;

function showState(dataset) {
  const { done, total } = dataset.index;
  const words = [dataset.building && "building", done < total && `measuring ${done} of ${total}`];
  document.getElementById("name").textContent = dataset.name;
  document.getElementById("state").textContent = words.filter(Boolean).join(" · ");
}

/** Ask again what the data set is, for it may be in the making; pages hear of it by the event "dataset". */
async function follow(holder) {
  const busy = holder.dataset.building || holder.dataset.index.done < holder.dataset.index.total;
  await new Promise((done) => setTimeout(done, busy ? SOON_MS : LATER_MS));
  if (!document.hidden) {
    try {
      holder.dataset = await api.json("/api/dataset");
      showState(holder.dataset);
      document.dispatchEvent(new CustomEvent("dataset", { detail: holder.dataset }));
    } catch (error) {
      document.getElementById("state").textContent = "the server does not answer";
    }
  }
  follow(holder);
}

async function start() {
  const holder = { dataset: await api.json("/api/dataset") };
  showState(holder.dataset);
  fill(
    document.getElementById("nav"),
    holder.dataset.pages.filter((page) => PAGES[page] && page !== "compare")
      .map((page) => h("a", { href: `#/${page}`, "data-page": page }, PAGES[page].title)),
  );
  addEventListener("hashchange", () => go(holder.dataset));
  await go(holder.dataset);
  if (!api.isStatic) follow(holder);
}

start().catch((error) => fill(document.getElementById("page"), h("p.trouble", { role: "alert" }, error.message)));
