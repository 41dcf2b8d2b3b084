// The download of a Hub model on the Train page: its progress is asked for while it runs.
import { actions, call, patch, whileDisabled } from "./page.js";

const POLL_MS = 700;

/**
 * Return a function that follows a download in progress, to call when the page has changed.
 * @param {HTMLElement} root @param {import("./page.js").Server} server @param {() => void} onEnd
 */
export function openDownloads(root, server, onEnd) {
  let timer = 0;
  function follow() {
    if (!timer && root.querySelector("[data-downloading]")) timer = setTimeout(poll, POLL_MS);
  }
  async function poll() {
    /** @type {import("./types").PollReply | undefined} */
    const reply = await call(server, "show_download");
    timer = 0;
    patch(reply?.parts);
    if (reply?.poll) follow();
    else if (reply) onEnd();
  }
  actions["download-model"] = (button) => whileDisabled(button, async () => {
    patch((await call(server, "download_model", { name: button.dataset.name }))?.parts);
    follow();
  });
  actions["cancel-download"] = (button) => whileDisabled(button, async () => {
    await call(server, "cancel_download");
    onEnd();
  });
  return follow;
}
