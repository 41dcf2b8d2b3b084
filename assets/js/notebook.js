// The dialog Notebook: what a notebook for Colab or Kaggle holds, and its file.
import { actions, call, create, dialog, saveFile, whileDisabled } from "./page.js";

/** @param {import("./page.js").Server} server @param {() => object} form */
export function openNotebook(server, form) {
  actions["notebook"] = (button) => whileDisabled(button, async () => {
    /** @type {import("./types").NotebookReply | undefined} */
    const reply = await call(server, "notebook", form());
    if (!reply) return;
    const body = create("div", "", { className: "export-settings notebook" });
    body.innerHTML = reply.shown;
    const submit = reply.text ? "Download" : "Close";
    if ((await dialog({ id: "notebook", title: "Notebook for Colab or Kaggle", body: [body], submit })) && reply.text) saveFile(reply.file_name, reply.text);
  });
}
