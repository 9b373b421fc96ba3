// What is asked, as the page's address has it, and as the server takes it.

/** Every field, in the order of the address. */
const FIELDS = [
  "model", "task", "precision", "engine", "context", "sequences", "cache", "tensor", "pipeline", "args",
  "method", "optimizer", "length", "batch", "rank", "checkpointing", "attention", "gpus", "sharding",
  "margin", "card", "view",
];

export const DEFAULTS = { model: "llama-3.1-8b", task: "serve", engine: "vllm", context: "8192", sequences: "1", method: "lora", length: "2048", batch: "1" };

/** A model that is written out in the address: a config.json, or what the server remembers of a file. */
const WRITTEN = "json:";

export function read(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const state = { ...DEFAULTS };
  for (const field of FIELDS) if (given.has(field)) state[field] = given.get(field);
  return state;
}

export function write(state) {
  const given = new URLSearchParams();
  for (const field of FIELDS) {
    const value = state[field] ?? "";
    if (value !== (DEFAULTS[field] ?? "")) given.set(field, value);
  }
  return `#${given}`;
}

export const ofSource = (source) => WRITTEN + JSON.stringify(source);

/** The model as a source, where it needs nobody to say what it stands for. */
export function source(state) {
  if (!state.model.startsWith(WRITTEN)) return null;
  try {
    return JSON.parse(state.model.slice(WRITTEN.length));
  } catch {
    return null;
  }
}

const whole = (text) => {
  const trimmed = String(text ?? "").trim();
  if (trimmed === "") return undefined;
  const number = Number(trimmed);
  // What is no whole number is the server's to refuse, with its name.
  return Number.isSafeInteger(number) ? number : trimmed;
};
const text = (value) => (String(value ?? "").trim() === "" ? undefined : String(value).trim());

/** An object without the fields that are not set; nothing if none is. */
function set(fields) {
  const kept = Object.entries(fields).filter(([, value]) => value !== undefined);
  return kept.length ? Object.fromEntries(kept) : undefined;
}

/** Splits arguments as a shell does: blanks, and quotes that keep them. */
export function words(line) {
  const found = line?.match(/(?:[^\s"']+|"[^"]*"|'[^']*')+/g) ?? [];
  return found.map((word) => word.replace(/"([^"]*)"|'([^']*)'/g, "$1$2"));
}

/** The spec of a ModelDeployment that asks this. */
export function spec(state, model) {
  const common = { model, precision: text(state.precision), safetyMargin: text(state.margin) };
  if (state.task === "train") {
    const lora = state.method !== "full";
    return set({
      ...common,
      training: set({
        method: state.method,
        optimizer: text(state.optimizer),
        sequenceLength: whole(state.length),
        microBatch: whole(state.batch),
        loraRank: lora ? whole(state.rank) : undefined,
        gradientCheckpointing: text(state.checkpointing),
        attention: text(state.attention),
        gpus: whole(state.gpus),
        sharding: text(state.sharding),
      }),
    });
  }
  const args = words(state.args);
  return set({
    ...common,
    context: set({
      length: whole(state.context),
      sequences: whole(state.sequences),
      cachePrecision: text(state.cache),
    }),
    parallelism: set({ tensor: whole(state.tensor), pipeline: whole(state.pipeline) }),
    engine: set({ name: text(state.engine), args: args.length ? args : undefined }),
  });
}

/** Which control a field of the spec is, for what the server says of it. */
const CONTROLS = {
  precision: "precision", engine: "engine", "engine.name": "engine", "engine.args": "args",
  "context.length": "context", "context.sequences": "sequences", "context.cachePrecision": "cache",
  "parallelism.tensor": "tensor", "parallelism.pipeline": "pipeline",
  "training.method": "method", training: "method", "training.optimizer": "optimizer",
  "training.sequenceLength": "length", "training.microBatch": "batch", "training.loraRank": "rank",
  "training.gradientCheckpointing": "checkpointing", "training.attention": "attention",
  "training.gpus": "gpus", "training.sharding": "sharding", safetyMargin: "margin", fit: "card",
};

export function control(field) {
  if (field.startsWith("model")) return "model";
  if (field.startsWith("engine.args")) return "args";
  return CONTROLS[field] ?? null;
}

/** Which field a flag of the command line sets, for the changes that the server proposes. */
const FLAGS = {
  serve: { "--context": "context", "--sequences": "sequences", "--precision": "precision", "--tensor": "tensor", "--pipeline": "pipeline", "--cache-precision": "cache" },
  train: { "--context": "length", "--sequences": "batch", "--precision": "precision", "--training": "method", "--gpus": "gpus", "--sharding": "sharding", "--optimizer": "optimizer", "--gradient-checkpointing": "checkpointing" },
};

/** The state with the flags of a change in it; nothing if one of them is not on the page. */
export function changed(state, flags) {
  const found = flags.split(" ");
  const next = { ...state };
  for (let at = 0; at < found.length; at += 2) {
    const field = FLAGS[state.task][found[at]];
    if (!field || found[at + 1] === undefined) return null;
    next[field] = found[at + 1];
  }
  return next;
}
