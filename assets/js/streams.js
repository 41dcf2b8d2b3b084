// Read streams of JSON lines.
import { problemText } from "./page.js";

/**
 * Post a request and yield the lines of the reply; raise an error if the server refuses it.
 * @template T
 * @param {string} path @param {object} [body] @param {AbortSignal} [signal]
 * @returns {AsyncGenerator<T>}
 */
export async function* postLines(path, body, signal) {
  const reply = await fetch(path, {
    method: "POST", headers: body ? { "Content-Type": "application/json" } : {}, body: body && JSON.stringify(body), signal,
  });
  if (!reply.ok || !reply.body) throw await refusal(reply);
  const reader = reply.body.pipeThrough(/** @type {any} */ (new TextDecoderStream())).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line) yield JSON.parse(line);
  }
}

/** An answer of the server that is not a stream. @typedef {Error & { status?: number }} Refusal */

/** @param {Response} reply @returns {Promise<Refusal>} */
async function refusal(reply) {
  let text = "";
  try { text = problemText(await reply.json()); } catch { /* no JSON */ }
  return Object.assign(new Error(text || "The server refused the request."), { status: reply.status });
}
