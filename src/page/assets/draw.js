// What is drawn: the bar, the curve, and the image of an answer.

const GIB = 2 ** 30;
const MIB = 2 ** 20;
const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** A text in which **this** is strong. */
export const marked = (text) =>
  text.split("**").map((part, at) => (at % 2 ? element("strong", {}, part) : part));

export const gib = (bytes) => {
  const amount = bytes / GIB;
  if (bytes > 0 && amount < 0.1) return `${Math.ceil(bytes / MIB)}\u00a0MiB`;
  return `${amount.toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: amount < 10 ? 2 : 1 })}\u00a0GiB`;
};

export const number = (value) => value.toLocaleString("en");

/** The parts that an estimate has, in the order in which they are drawn. */
export const PARTS = ["weights", "kvCache", "activations", "overhead", "gradients", "optimizer"];
export const parts = (components) => PARTS.filter((part) => components[part] > 0);

export function bar(target, legend, estimate, words) {
  const { perGpu, requiredPerGpu } = estimate;
  const pieces = parts(perGpu).map((part) => [part, perGpu[part]]);
  const said = pieces.map(([part, bytes]) => `${words[part]} ${gib(bytes)}`);
  pieces.push(["marginal", requiredPerGpu - perGpu.total]);
  target.setAttribute("aria-label", `${said.join(", ")}; ${words.margin} ${estimate.safetyMargin}`);
  target.replaceChildren(
    ...pieces.map(([part, bytes]) => {
      const piece = element("i", { class: part, title: `${words[part] ?? words.margin} ${gib(bytes)}` });
      piece.style.flexGrow = bytes / requiredPerGpu;
      return piece;
    }),
  );
  const entry = ([part, bytes]) => element("li", {}, element("span", { class: `swatch ${part}` }), `${words[part] ?? words.margin} ${gib(bytes)}`);
  legend.replaceChildren(...pieces.map(entry));
}

/** Round numbers up to a largest one. */
function ticks(most, count) {
  const rough = most / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, at) => at * step);
}

const short = (tokens) => (tokens >= 1024 && tokens % 1024 === 0 ? `${tokens / 1024}K` : number(tokens));

export function curve(target, points, cards, here, words) {
  if (points.length < 2) {
    target.replaceChildren(element("p", { class: "help" }, words.noCurve));
    return;
  }
  const [width, height, left, right, top, bottom] = [760, 300, 58, 118, 14, 34];
  const longest = points.at(-1).context;
  const most = Math.max(...points.map((point) => point.requiredPerGpu));
  // The first card above the curve belongs to it.
  const above = cards.find((card) => card.memory >= most);
  const highest = (above ? Math.max(most, above.memory) : most) * 1.04;
  const x = (context) => left + (context / longest) * (width - left - right);
  const y = (bytes) => height - bottom - (bytes / highest) * (height - top - bottom);
  const line = (key) => points.map((point) => `${x(point.context).toFixed(1)},${y(point[key]).toFixed(1)}`).join(" ");

  const drawn = [];
  for (const tick of ticks(highest / GIB, 6)) {
    drawn.push(svg("line", { class: "axis", x1: left, x2: width - right, y1: y(tick * GIB), y2: y(tick * GIB) }));
    drawn.push(svg("text", { x: left - 8, y: y(tick * GIB) + 4, "text-anchor": "end" }, `${number(tick)}`));
  }
  drawn.push(svg("text", { x: left - 8, y: height - 10, "text-anchor": "end" }, "GiB"));
  for (const share of [0.25, 0.5, 0.75, 1]) {
    const context = Math.round(longest * share);
    drawn.push(svg("text", { x: x(context), y: height - 10, "text-anchor": "middle" }, short(context)));
  }
  let last = Infinity;
  for (const card of cards.filter((card) => card.memory <= highest)) {
    const at = y(card.memory);
    if (last - at < 17) continue;
    last = at;
    drawn.push(svg("line", { class: "card", x1: left, x2: width - right, y1: at, y2: at }));
    drawn.push(svg("text", { x: width - right + 8, y: at + 4 }, card.name));
  }
  const floor = `${x(longest)},${y(0)} ${x(points[0].context)},${y(0)}`;
  drawn.push(svg("polygon", { class: "held", points: `${line("totalPerGpu")} ${floor}` }));
  drawn.push(svg("polyline", { class: "estimated", points: line("totalPerGpu") }));
  drawn.push(svg("polyline", { class: "needed", points: line("requiredPerGpu") }));
  const current = points.find((point) => point.context === here);
  if (current) drawn.push(svg("circle", { class: "here", cx: x(here), cy: y(current.requiredPerGpu), r: 6 }));

  const first = points[0];
  const label = words.curveSays(number(first.context), gib(first.requiredPerGpu), number(longest), gib(points.at(-1).requiredPerGpu));
  target.replaceChildren(
    svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...drawn),
    element("figcaption", { class: "help" }, words.curveHelp),
  );
}

/** The answer as an image: a PNG. */
export function image(estimate, sentence, words) {
  const [width, height, edge] = [1200, 630, 72];
  const canvas = element("canvas", { width, height });
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  // The colours of the page as they are now: a variable that holds light-dark() is resolved by an element that uses it.
  const probe = document.body.appendChild(element("span", { hidden: "" }));
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const font = (size, weight = 400) => `${weight} ${size}px ${style.fontFamily}`;
  pen.fillStyle = colour("sheet");
  pen.fillRect(0, 0, width, height);

  pen.font = font(44, 600);
  let line = "";
  let top = edge + 44;
  const put = () => {
    pen.fillStyle = colour("ink");
    pen.fillText(line.trim(), edge, top);
    top += 62;
    line = "";
  };
  for (const word of sentence.replaceAll("**", "").split(" ")) {
    if (line && pen.measureText(`${line} ${word}`).width > width - 2 * edge) put();
    line = `${line} ${word}`;
  }
  put();

  const { perGpu, requiredPerGpu } = estimate;
  let left = edge;
  top = Math.max(top + 4, 330);
  const scale = (width - 2 * edge) / requiredPerGpu;
  pen.fillStyle = colour("line");
  pen.fillRect(edge, top, width - 2 * edge, 64);
  for (const part of parts(perGpu)) {
    pen.fillStyle = colour(part);
    pen.fillRect(left, top, perGpu[part] * scale, 64);
    left += perGpu[part] * scale;
  }
  left = edge;
  top += 116;
  pen.font = font(24);
  for (const part of parts(perGpu)) {
    const text = `${words[part]} ${gib(perGpu[part])}`;
    const room = pen.measureText(text).width + 66;
    if (left + room > width - edge) [left, top] = [edge, top + 40];
    pen.fillStyle = colour(part);
    pen.fillRect(left, top - 19, 22, 22);
    pen.fillStyle = colour("ink");
    pen.fillText(text, left + 32, top);
    left += room;
  }
  pen.font = font(22);
  pen.fillStyle = colour("soft");
  pen.fillText(`Loadline · ${words.imageSays(estimate.safetyMargin)}`, edge, height - 44);
  probe.remove();
  return canvas.toDataURL("image/png");
}
