// The server's endpoints. Every figure on the page is from here.

/** Why the server does not answer: its own words, and the field that they are about. */
export class Refused extends Error {
  constructor(status, body) {
    super(body.problem ?? `HTTP ${status}`);
    this.status = status;
    this.field = body.field ?? "";
  }
}

async function answer(response) {
  const text = await response.text();
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    // Whatever stands between here and the server said this.
    body = { problem: text.slice(0, 200) };
  }
  if (!response.ok) throw new Refused(response.status, body);
  return body;
}

export const get = async (path) => answer(await fetch(path));

export const post = async (path, body) =>
  answer(
    await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    }),
  );

const MOST = 32 << 20;

/** Gives a file to be read: as much of its beginning as the server needs, and never the weights. */
export async function upload(file, name) {
  const whole = (await file.slice(0, 1).text()) === "{";
  for (let size = whole ? MOST : 1 << 20; ; size *= 4) {
    const part = file.slice(0, Math.min(size, MOST));
    try {
      return await answer(
        await fetch(`api/v1/uploads?name=${encodeURIComponent(name)}`, {
          method: "POST",
          headers: { "content-type": "application/octet-stream" },
          body: part,
        }),
      );
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 422 || size >= file.size || size >= MOST) throw error;
    }
  }
}

/** Asks with the newest question only: one at a time, and one more when that is answered. */
export function newest(ask, show, fail) {
  let waiting = null;
  let asking = false;
  const next = async () => {
    asking = true;
    while (waiting) {
      const question = waiting;
      waiting = null;
      try {
        const answer = await ask(question);
        if (!waiting) show(answer, question);
      } catch (error) {
        if (!waiting) fail(error, question);
      }
    }
    asking = false;
  };
  return (question) => {
    const first = !waiting;
    waiting = question;
    // Once in a frame, however often a slider says that it has moved.
    if (first && !asking) requestAnimationFrame(() => !asking && next());
  };
}
