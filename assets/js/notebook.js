// The dialog Notebook: what a notebook for Colab or Kaggle holds, and its file.
import { actions, call, create, dialog, saveFile, toast, whileDisabled } from "./page.js";

/** @param {import("./page.js").Server} server @param {() => object} form */
export function openNotebook(server, form) {
  actions["notebook"] = (button) => whileDisabled(button, async () => {
    /** @type {import("./types").NotebookReply | undefined} */
    const reply = await call(server, "notebook", form());
    if (!reply) return;
    if (reply.problem) { toast(reply.problem, true); return; }
    const body = create("div", "", { className: "export-settings" });
    body.innerHTML = reply.shown;
    if (await dialog({ id: "notebook", title: "Notebook for Colab or Kaggle", body: [body], submit: "Download" })) saveFile(reply.file_name, reply.text);
  });
}
