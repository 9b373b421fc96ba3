// The cluster: its GPUs, what is to run there, and why a node is or is not for it.

import { element, gib, number } from "./draw.js";
import { get, newest, post } from "./server.js";
import { spec } from "./state.js";

const $ = (id) => document.getElementById(id);
const MIB = 2 ** 20;
const CLASSES = { fits: "yes", rejected: "no", busy: "unsure", unknown: "unsure" };

export async function startCluster(page) {
  let objects = [];
  let results = [];
  let chosen = -1;
  let nodes = [];
  let problems = [];
  let answer = null;
  let ready = false;

  const tag = (verdict) =>
    element("span", { class: `tag ${CLASSES[verdict] ?? "unsure"}` }, page.words[`verdict${verdict[0].toUpperCase()}${verdict.slice(1)}`] ?? verdict);

  /** The object that is looked at, with what is changed of it. */
  async function asked() {
    const object = chosen < 0
      ? { namespace: "default", name: "estimate", spec: spec(page.state, await page.sourceOf(page.state)) }
      : structuredClone(objects[chosen]);
    if (!object.spec) return null;
    const [precision, context] = [$("whatif-precision").value, $("whatif-context").value];
    if (precision) object.spec.precision = precision;
    if (context) {
      if (object.spec.training) object.spec.training.sequenceLength = Number(context);
      else object.spec.context = { ...object.spec.context, length: Number(context) };
    }
    return object;
  }

  const ask = newest(
    async () => {
      const object = await asked();
      // What cannot be read cannot be changed: its own verdict says why.
      return object ? (await post("api/v1/plan", { objects: [object] })).results[0] : results[chosen];
    },
    (result) => {
      answer = result;
      show();
    },
    (error) => {
      answer = null;
      $("verdict").textContent = error.message;
      $("verdict-message").textContent = "";
      $("verdicts").replaceChildren();
      $("suggestions").replaceChildren();
    },
  );

  function show() {
    const { words } = page;
    const entry = (at, title, result) =>
      element(
        "button",
        { type: "button", "aria-pressed": String(chosen === at), onclick: () => choose(at) },
        element("b", {}, title),
        result ? tag(result.verdict) : element("small", {}, words.whatIf),
      );
    const buttons = [entry(-1, words.fromEstimate, null), ...results.map((result, at) => entry(at, `${result.namespace}/${result.name}`, result))];
    const focused = [...$("objects").querySelectorAll("button")].indexOf(document.activeElement);
    $("objects").replaceChildren(...buttons.map((button) => element("li", {}, button)));
    if (focused >= 0) buttons[focused]?.focus();

    if (answer) {
      const fitting = answer.nodes.filter((node) => node.verdict === "fits").length;
      $("verdict").replaceChildren(tag(answer.verdict), ` ${words.nodesFit(number(fitting), number(answer.nodes.length))}`);
      $("verdict-message").textContent = answer.message;
      $("suggestions").replaceChildren(...answer.suggestions.map((found) => element("li", {}, words.suggested(found.change, gib(found.requiredPerGpu), found.nodes))));
      const row = (node) =>
        element(
          "tr",
          {},
          element("th", { scope: "row" }, node.name),
          element("td", {}, tag(node.verdict)),
          element("td", {}, element("b", {}, node.reason), element("br"), node.message),
        );
      $("verdicts").replaceChildren(...answer.nodes.map(row));
    }
    showPools();
    const findings = problems.flatMap((node) => node.pools.map((pool) => element("li", {}, element("b", {}, node.name), ` ${pool.product ?? ""} ${pool.problem}`)));
    $("doctor").replaceChildren(...(findings.length ? findings : [element("li", {}, words.allWell)]));
  }

  /** The GPUs of one kind together, over the nodes that have them. */
  function showPools() {
    const { words } = page;
    const kinds = new Map();
    for (const node of nodes) {
      for (const pool of node.pools) {
        const key = `${pool.product ?? pool.resource}|${pool.memoryMiB}|${pool.sharing}`;
        const kind = kinds.get(key) ?? { pool, nodes: 0, gpus: 0, free: 0 };
        kinds.set(key, { ...kind, nodes: kind.nodes + 1, gpus: kind.gpus + pool.gpus, free: kind.free + pool.freeGpus });
      }
    }
    const row = ({ pool, nodes: count, gpus, free }) => {
      const meter = element("i");
      meter.style.width = `${gpus ? ((gpus - free) / gpus) * 100 : 0}%`;
      return element(
        "tr",
        {},
        element("th", { scope: "row" }, pool.product ?? pool.resource, pool.sharing === "exclusive" ? null : ` (${pool.sharing})`),
        element("td", {}, pool.memoryMiB ? gib(pool.memoryMiB * MIB) : words.unknown),
        element("td", {}, number(count)),
        element("td", {}, element("span", { class: "meter", "aria-hidden": "true" }, meter), `${number(gpus - free)} / ${number(gpus)}`),
        element("td", {}, number(free)),
      );
    };
    const sorted = [...kinds.values()].sort((a, b) => (b.pool.memoryMiB ?? 0) - (a.pool.memoryMiB ?? 0));
    $("pools").replaceChildren(...sorted.map(row));
  }

  function choose(at) {
    chosen = at;
    $("whatif-precision").value = "";
    $("whatif-context").value = "";
    answer = null;
    show();
    ask({});
  }

  for (const id of ["whatif-precision", "whatif-context"]) $(id).addEventListener("input", () => ask({}));
  $("whatif-form").addEventListener("submit", (event) => event.preventDefault());

  page.shows.push(() => {
    if (!ready || page.state.view !== "cluster") return;
    const kept = $("whatif-precision").value;
    $("whatif-precision").replaceChildren(element("option", { value: "" }, "–"), ...page.choices.precision.map((name) => element("option", { value: name }, name)));
    $("whatif-precision").value = kept;
    show();
    ask({});
  });

  const [there, doubted, given] = await Promise.all([get("api/v1/nodes"), get("api/v1/doctor"), get("api/v1/objects")]);
  [nodes, problems, objects] = [there.nodes, doubted.nodes, given];
  if (objects.length) {
    results = (await post("api/v1/plan", {})).results;
    chosen = 0;
  }
  ready = true;
  if (page.state.view === "cluster") for (const show of page.shows) show();
}
