// The estimate: what is asked, and what comes of it.

import { bar, curve, element, gib, image, marked, number, parts } from "./draw.js";
import { Refused, get, newest, post, upload } from "./server.js";
import { DEFAULTS, changed, control, ofSource, source, spec, write } from "./state.js";

const $ = (id) => document.getElementById(id);
/** Controls that hold what the state holds, by the field's own name. */
const PLAIN = [
  "precision", "engine", "context", "sequences", "cache", "tensor", "pipeline", "args", "method", "optimizer",
  "length", "batch", "rank", "checkpointing", "attention", "gpus", "sharding", "margin", "card",
];
/** Which closed list a select has, and whether it may be left to the model or the engine. */
const LISTS = {
  precision: ["precision", "own"], engine: ["engine", null], cache: ["cachePrecision", "standard"], method: ["method", null],
  optimizer: ["optimizer", "standard"], checkpointing: ["gradientCheckpointing", "standard"],
  attention: ["attention", "standard"], sharding: ["sharding", "standard"],
};
/** Sliders, and the numbers that they go through. */
const SLIDERS = { context: tokens, length: tokens, sequences: counts, batch: counts };
const MOST_SHOWN = 8;

function tokens(longest) {
  const found = new Set();
  for (let step = 0; ; step += 1) {
    const value = 256 * Math.round((512 * 2 ** (step / 4)) / 256);
    if (value >= longest) break;
    found.add(value);
  }
  return [...found, longest];
}

function counts() {
  return [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024];
}

export function startEstimate(page) {
  let shown = null;
  let longest = 131072;
  /** What names stand for, as the server has said. */
  const named = new Map();
  let measuredOf = null;

  const change = (fields, remember) => page.set({ ...page.state, ...fields }, { remember });

  // --- what is asked -------------------------------------------------------------------------------------------------

  function fill() {
    const { state, words } = page;
    for (const [id, [list, blank]] of Object.entries(LISTS)) {
      const names = page.choices[list].filter((name) => name !== "auto");
      const options = names.map((name) => element("option", { value: name }, name));
      if (blank) options.unshift(element("option", { value: "" }, words[blank]));
      $(id).replaceChildren(...options);
    }
    for (const id of PLAIN) {
      if (document.activeElement !== $(id) || $(id).tagName === "SELECT") $(id).value = state[id] ?? "";
    }
    for (const radio of document.querySelectorAll('[name="task"]')) radio.checked = radio.value === state.task;
    const training = state.task === "train";
    document.querySelector(".serve").hidden = training;
    document.querySelector(".train").hidden = !training;
    $("rank-row").hidden = state.method === "full";
    if (document.activeElement !== $("model")) $("model").value = source(state) ? state.name ?? describe(source(state)) : state.model;
    slide();
  }

  const describe = (model) => (model.config ? model.config._name_or_path || "config.json" : model.configMapRef ? "file" : "");

  function slide() {
    for (const [id, steps] of Object.entries(SLIDERS)) {
      const values = steps(longest);
      const slider = $(`${id}-slider`);
      slider.min = 0;
      slider.max = values.length - 1;
      const value = Number(page.state[id]) || values.at(-1);
      const near = values.findIndex((step) => step >= value);
      if (document.activeElement !== slider) slider.value = near < 0 ? values.length - 1 : near;
      slider.setAttribute("aria-valuetext", number(value));
    }
  }

  async function sourceOf(state) {
    const written = source(state);
    if (written) return written;
    if (!named.has(state.model)) named.set(state.model, (await post("api/v1/named", { text: state.model })).model);
    return named.get(state.model);
  }

  const ask = newest(
    async (state) => {
      const model = await sourceOf(state);
      const slow = setTimeout(() => model.huggingFace && say(page.words.reading), 400);
      try {
        return await post("api/v1/view", { spec: spec(state, model), fit: state.card || undefined });
      } finally {
        clearTimeout(slow);
      }
    },
    (view, state) => show(view, state),
    (error) => refuse(error),
  );

  const say = (text) => $("sentence").replaceChildren(...marked(text));

  function refuse(error) {
    const forgotten = error.field === "model.configMapRef";
    const id = error instanceof Refused ? control(error.field) : null;
    clear();
    document.body.classList.add("stale");
    const place = id === "model" ? "problem-model" : id === "card" ? "problem-card" : "problem";
    $(place).textContent = forgotten ? page.words.forgotten : error.message;
    if (id) {
      $(id).setAttribute("aria-invalid", "true");
      if (place === "problem") $(id).setAttribute("aria-errormessage", "problem");
    }
  }

  function clear() {
    document.body.classList.remove("stale");
    for (const id of ["problem", "problem-model", "problem-card"]) $(id).textContent = "";
    for (const wrong of document.querySelectorAll("[aria-invalid]")) {
      wrong.removeAttribute("aria-invalid");
      wrong.removeAttribute("aria-errormessage");
    }
  }

  // --- what comes of it ------------------------------------------------------------------------------------------------

  function sentence({ estimate }) {
    const { words } = page;
    const { model, workload, gpus, requiredPerGpu, cards } = estimate;
    const training = workload.training;
    const subject = training
      ? words.trains(model.name, training.method, number(workload.context), number(workload.sequences))
      : words.serves(model.name, workload.precision ?? words.own, workload.context && number(workload.context), number(workload.sequences));
    const needs = words.needs(subject, gib(requiredPerGpu), gpus);
    if (cards.smallest) return needs + words.smallest(cards.smallest.name, gib(cards.smallest.memory));
    if (cards.shared) return needs + words.several(cards.shared.gpus, cards.shared.smallest.name);
    return needs + words.nothing();
  }

  function show(view, state) {
    const { words } = page;
    const { estimate } = view;
    shown = view;
    clear();
    longest = view.longestContext ?? 131072;
    say(sentence(view));
    const { confidence, perGpu } = estimate;
    const name = confidence[0].toUpperCase() + confidence.slice(1);
    $("confidence").className = `badge ${confidence}`;
    $("confidence").textContent = words[`confidence${name}`];
    $("confidence").title = words[`${confidence}Says`];
    $("range").textContent = words.rangeSays(gib(perGpu.total), gib(view.range.low), gib(view.range.high), estimate.safetyMargin);
    bar($("bar"), $("legend"), estimate, names());
    showCards(view.cards, state);
    showFit(estimate, state);
    showParts(estimate);
    $("notes").replaceChildren(...estimate.notes.map((note) => element("li", {}, note)));
    curve($("curve"), view.curve.points, view.cards, estimate.workload.context, words);
    showMeasured(view);
    slide();
  }

  const names = () => ({ ...page.words, optimizer: page.words.optimizerState });

  function showCards(cards, state) {
    const { words } = page;
    const list = $("cards");
    // The buttons stay, so that whoever is on one stays there; only what they say changes.
    if (list.children.length !== cards.length) {
      list.replaceChildren(...cards.map((card) => element("li", {}, element("button", { type: "button", onclick: () => change({ card: page.state.card === card.name ? "" : card.name }) }, element("b"), element("small"), element("span", { class: "quiet" })))));
    }
    cards.forEach((card, at) => {
      const button = list.children[at].firstChild;
      button.className = card.fits ? "fits" : "";
      button.setAttribute("aria-pressed", String(state.card === card.name));
      const [name, memory, says] = button.children;
      name.textContent = card.name;
      memory.textContent = gib(card.memory);
      says.textContent = card.fits ? words.fits : words.tooSmall;
    });
  }

  function showFit({ fit }, state) {
    const { words } = page;
    if (!fit) {
      $("fit").replaceChildren(element("p", { class: "help" }, words.chooseCard));
      return;
    }
    const training = state.task === "train";
    const name = fit.gpu ?? state.card;
    const rows = [
      [training ? words.longestSequence : words.longestContext, fit.longestContext && words.tokens(number(fit.longestContext))],
      [training ? words.largestBatch : words.mostSequences, fit.mostSequences && number(fit.mostSequences)],
      fit.fits ? null : [words.bestPrecision, fit.finestPrecision],
      [words.fewestGpus, fit.fewestRanks ?? fit.fewestTrainingGpus],
      [words.largestMargin, fit.largestMargin],
    ].filter(Boolean);
    const list = element("dl", {}, ...rows.flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, String(value ?? words.none))]));
    const changes = fit.changes.map((found) => [found, changed(page.state, found.flags)]).filter(([, next]) => next);
    const buttons = changes.map(([found, next]) => {
      const text = `${found.flags.replaceAll("--", "")} → ${gib(found.requiredPerGpu)}${found.gpus > 1 ? ` × ${found.gpus}` : ""}`;
      return element("button", { type: "button", onclick: () => page.set(next, { remember: "push" }) }, text);
    });
    const says = fit.fits ? words.fitsOn : words.fitsNot;
    $("fit").replaceChildren(
      element("p", { class: `says ${fit.fits ? "yes" : "no"}` }, says(name, gib(fit.memory))),
      list,
      ...(buttons.length ? [element("p", { class: "help" }, words.wouldFit), element("div", { class: "changes" }, ...buttons)] : []),
    );
  }

  function showParts(estimate) {
    const words = names();
    const { perGpu, range, terms } = estimate;
    const key = { kvCache: "kvCache", weights: "weights", activations: "activations", overhead: "overhead", gradients: "gradients", optimizer: "optimizer" };
    const rows = parts(perGpu).map((part) => {
      const formulas = terms.filter((term) => (key[term.component] ?? term.component) === part);
      const between = range[part];
      return element(
        "tr",
        {},
        element("th", { scope: "row" }, element("span", { class: `swatch ${part}` }), words[part], ...formulas.map((term) => element("span", { class: "formula" }, `${term.formula} = ${gib(term.bytes)}`))),
        element("td", {}, gib(perGpu[part])),
        element("td", {}, between ? (between.low === between.high ? gib(between.low) : `${gib(between.low)} – ${gib(between.high)}`) : ""),
      );
    });
    const sum = (label, bytes, between) => element("tr", {}, element("th", { scope: "row" }, label), element("td", {}, element("b", {}, gib(bytes))), element("td", {}, between));
    const { low, high } = shown.range;
    rows.push(sum(words.total, perGpu.total, `${gib(low)} – ${gib(high)}`), sum(`${words.required} × ${estimate.safetyMargin}`, estimate.requiredPerGpu, ""));
    $("parts").replaceChildren(...rows);
  }

  async function showMeasured({ repository, estimate }) {
    const { words } = page;
    if (measuredOf?.repository !== repository) {
      measuredOf = { repository, rows: [] };
      if (repository) {
        try {
          measuredOf.rows = await get(`api/v1/measured?model=${encodeURIComponent(repository)}`);
        } catch {
          // The estimate stands without.
          return;
        }
      }
      if (measuredOf.repository !== shown.repository) return;
    }
    const { rows } = measuredOf;
    $("measured-section").hidden = rows.length === 0;
    const cell = (bytes) => element("td", {}, bytes ? gib(bytes) : "–");
    const run = (row) => [row.engine, row.version, row.gpu, row.format, row.context && words.tokens(number(row.context)), row.sequences && `× ${row.sequences}`, row.gpus > 1 && `${row.gpus} GPUs`].filter(Boolean).join(" · ");
    const { perGpu } = estimate;
    const ours = element("tr", {}, element("th", { scope: "row" }, words.ours), cell(perGpu.weights), cell(perGpu.kvCache), cell(perGpu.activations), cell(perGpu.total), element("td", {}));
    $("measured").replaceChildren(
      ours,
      ...rows.map((row) => element("tr", {}, element("th", { scope: "row" }, run(row)), cell(row.weights), cell(row.kvCache), cell(row.activations), cell(row.peak), element("td", {}, element("a", { href: row.source, rel: "noreferrer", "aria-label": `${words.log}: ${run(row)}` }, words.log)))),
    );
  }

  // --- the model -------------------------------------------------------------------------------------------------------

  const input = $("model");
  const list = $("models");
  let active = -1;

  function suggest() {
    const text = input.value.trim().toLowerCase();
    const pieces = text.split(/[\s/]+/).filter(Boolean);
    const matches = (entry) => pieces.every((piece) => `${entry.name} ${entry.repository}`.toLowerCase().includes(piece));
    // What begins so is meant before what has it somewhere.
    const rank = (entry) => (entry.name.startsWith(text) ? 0 : 1);
    const found = text ? page.models.filter(matches).sort((a, b) => rank(a) - rank(b) || a.name.length - b.name.length).slice(0, MOST_SHOWN) : [];
    active = -1;
    list.replaceChildren(
      ...found.map((entry, at) =>
        element(
          "li",
          { role: "option", id: `model-${at}`, "aria-selected": "false", "data-name": entry.name, onmousedown: (event) => (event.preventDefault(), take(entry.name)) },
          entry.name,
          element("small", {}, `${entry.repository} · ${(entry.parameters / 1e9).toPrecision(3)}B`),
        ),
      ),
    );
    open(found.length > 0);
  }

  function open(is) {
    list.hidden = !is;
    input.setAttribute("aria-expanded", String(is));
    if (!is) input.removeAttribute("aria-activedescendant");
  }

  function move(by) {
    const options = [...list.children];
    if (!options.length) return;
    active = (active + by + options.length) % options.length;
    options.forEach((option, at) => option.setAttribute("aria-selected", String(at === active)));
    options[active].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", options[active].id);
  }

  function take(name) {
    open(false);
    input.value = name;
    if (name.startsWith("{")) return give(new Blob([name]), "config.json");
    return change({ model: name }, "push");
  }

  async function give(file, name) {
    say(page.words.reading);
    try {
      const { model } = await upload(file, name.replace(/\.(gguf|safetensors|json)$/i, ""));
      input.value = name;
      input.blur();
      change({ model: ofSource(model), name }, "push");
    } catch (error) {
      refuse(error instanceof Refused ? Object.assign(error, { field: "model" }) : error);
    }
  }

  input.addEventListener("input", suggest);
  input.addEventListener("focus", () => input.select());
  input.addEventListener("blur", () => open(false));
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) suggest();
      else move(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Escape" && !list.hidden) {
      event.preventDefault();
      open(false);
    }
  });
  $("model-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const option = list.hidden ? null : list.children[active];
    take(option ? option.dataset.name : input.value.trim());
  });
  $("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) give(file, file.name);
    event.target.value = "";
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    addEventListener(kind, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dropping", kind === "dragover");
      const file = kind === "drop" ? event.dataTransfer.files[0] : null;
      if (file) give(file, file.name);
      else if (kind === "drop" && event.dataTransfer.getData("text")) take(event.dataTransfer.getData("text").trim());
    });
  }

  // --- the controls ----------------------------------------------------------------------------------------------------

  for (const id of PLAIN) {
    $(id).addEventListener("input", () => change({ [id]: $(id).value.trim() }));
  }
  for (const [id, steps] of Object.entries(SLIDERS)) {
    $(`${id}-slider`).addEventListener("input", (event) => change({ [id]: String(steps(longest)[event.target.value]) }));
  }
  for (const radio of document.querySelectorAll('[name="task"]')) {
    radio.addEventListener("change", () => change({ task: radio.value }, "push"));
  }
  for (const form of ["controls"]) $(form).addEventListener("submit", (event) => event.preventDefault());
  $("controls").addEventListener("reset", (event) => {
    event.preventDefault();
    page.set({ ...DEFAULTS, model: page.state.model }, { remember: "push" });
  });
  $("card-names").replaceChildren(...page.gpus.map((gpu) => element("option", { value: gpu.name })));

  // --- sharing ---------------------------------------------------------------------------------------------------------

  const dialog = $("dialog");
  const contents = {
    link: () => location.origin + location.pathname + write(page.state),
    yaml: () => shown.manifest,
    command: () => shown.command,
    json: () => JSON.stringify(shown.estimate, null, 2),
  };
  let copied = "";

  function offer(kind) {
    if (!shown) return;
    const { words } = page;
    const isImage = kind === "image";
    copied = isImage ? image(shown.estimate, sentence(shown), names()) : contents[kind]();
    $("dialog-title").textContent = words[`copy${kind[0].toUpperCase()}${kind.slice(1)}`];
    $("dialog-text").hidden = isImage;
    $("dialog-text").textContent = isImage ? "" : copied;
    $("dialog-image").hidden = !isImage;
    $("dialog-image").src = isImage ? copied : "";
    $("dialog-image").alt = isImage ? sentence(shown).replaceAll("**", "") : "";
    $("dialog-copy").textContent = isImage ? words.save : words.copy;
    $("dialog-said").textContent = "";
    dialog.dataset.kind = kind;
    dialog.showModal();
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => offer(button.dataset.copy));
  }
  $("dialog-close").addEventListener("click", () => dialog.close());
  $("dialog-copy").addEventListener("click", async () => {
    if (dialog.dataset.kind === "image") {
      element("a", { href: copied, download: "loadline.png" }).click();
      return;
    }
    try {
      await navigator.clipboard.writeText(copied);
      $("dialog-said").textContent = page.words.copied;
    } catch {
      getSelection().selectAllChildren($("dialog-text"));
      $("dialog-said").textContent = page.words.notCopied;
    }
  });

  page.sourceOf = sourceOf;
  page.shows.push(() => {
    fill();
    ask(page.state);
  });
}
