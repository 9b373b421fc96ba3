// The page: language, theme, the two views, and the address that holds them.

import { startCluster } from "./cluster.js";
import { startEstimate } from "./estimate.js";
import { get } from "./server.js";
import { read, write } from "./state.js";
import english from "./words.en.js";

const LANGUAGES = { en: english };
const $ = (id) => document.getElementById(id);

/** What every part of the page shares. */
const page = {
  words: english,
  state: read(location.hash),
  choices: null,
  about: null,
  models: [],
  /** Takes a new state, and shows it. */
  set(state, { remember = "replace" } = {}) {
    page.state = state;
    history[remember === "push" ? "pushState" : "replaceState"](null, "", write(state));
    for (const show of page.shows) show();
  },
  shows: [],
};

// Storage may be refused; the page then forgets, and works.
const remembered = (key) => {
  try {
    return localStorage.getItem(key) ?? "";
  } catch {
    return "";
  }
};
const remember = (key, value) => {
  try {
    localStorage.setItem(key, value);
  } catch {
    // It is forgotten.
  }
};

function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  $("theme").value = name;
}

async function language(name) {
  LANGUAGES[name] ??= (await import(`./words.${name}.js`)).default;
  page.words = LANGUAGES[name];
  document.documentElement.lang = name;
  $("language").value = name;
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = page.words[element.dataset.word];
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", page.words[element.dataset.label]);
}

function view() {
  const cluster = page.state.view === "cluster" && page.about.cluster;
  $("estimate-view").hidden = cluster;
  $("cluster-view").hidden = !cluster;
  $("to-cluster").toggleAttribute("aria-current", cluster);
  $("to-estimate").toggleAttribute("aria-current", !cluster);
  for (const [id, is] of [["to-cluster", cluster], ["to-estimate", !cluster]]) {
    if (is) $(id).setAttribute("aria-current", "page");
    else $(id).removeAttribute("aria-current");
  }
}

async function start() {
  theme(remembered("theme"));
  const asked = new URLSearchParams(location.search).get("lang");
  const wanted = asked || remembered("language") || navigator.language.slice(0, 2);
  const spoken = wanted === "ko" ? "ko" : "en";
  [page.about, page.choices, page.models, page.gpus] = await Promise.all([
    get("api/v1/about"),
    get("api/v1/choices"),
    get("api/v1/models"),
    get("api/v1/gpus"),
    language(spoken),
  ]);
  $("version").textContent = `Loadline ${page.about.version}`;
  $("to-cluster").hidden = !page.about.cluster;
  $("theme").addEventListener("change", (event) => {
    theme(event.target.value);
    remember("theme", event.target.value);
  });
  $("language").addEventListener("change", async (event) => {
    remember("language", event.target.value);
    await language(event.target.value);
    for (const show of page.shows) show();
  });
  for (const [id, name] of [["to-estimate", ""], ["to-cluster", "cluster"]]) {
    $(id).addEventListener("click", (event) => {
      event.preventDefault();
      page.set({ ...page.state, view: name }, { remember: "push" });
    });
  }
  addEventListener("popstate", () => {
    page.state = read(location.hash);
    for (const show of page.shows) show();
  });
  page.shows.push(view);
  startEstimate(page);
  if (page.about.cluster) startCluster(page);
  for (const show of page.shows) show();
}

start().catch((error) => {
  $("problem").textContent = String(error.message ?? error);
});
