// What can be added to the app: the button that installs it, and how far that is.
face.actions["add-unsloth"] = async (button) => {
  const tell = (text) => { for (const one of face.all('[data-extra="unsloth"]')) one.textContent = text; };
  button.setAttribute("aria-disabled", "true");
  tell("Asking the package index …");
  try {
    const answer = await fetch("/face/extras/unsloth", { method: "POST" });
    if (!answer.ok) throw new Error("refused");
    for await (const said of face.lines(answer.body)) {
      if (said.progress) tell(said.progress);
      else if (said.error) tell(`${said.error.what} ${said.error.remedy ?? ""}`);
      else if (said.done) tell("Unsloth is installed. Choose it as the provider on the Train page.");
    }
  } catch { tell("The server does not answer."); }
  button.setAttribute("aria-disabled", "false");
};
