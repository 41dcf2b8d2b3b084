"""Plays the talker: loads at once, and answers one way with the adapter and another without."""

import json
import sys
import time

TUNED = "Ahoy! A sailor's guess: it is Paris. Fair winds, Captain Brindle."
BASE = "The capital of France is Paris."
# Of an adapter that is loaded beside the first.
OTHER = "Paris, as every schoolchild knows."
# A question that begins so is answered with its rest.
ECHO = "Echo: "
# One that begins so fails with its rest as the cause.
FAIL = "Fail: "
# One that begins so is answered with a call of the tool that it names.
TOOL = "Tool: "
# This one is answered with the request, and the base model, as JSON.
SHOW = "Show the request."


def say(**message: object) -> None:
    print(json.dumps(message), flush=True)


def answer_to(asked: dict, loaded: dict) -> str:
    question = asked.get("prompt") or asked["messages"][-1]["content"]
    if question == SHOW:
        return json.dumps({"model": loaded["model_path"], "device": loaded["device"], **asked})
    if question.startswith(TOOL):
        call = {"name": question.removeprefix(TOOL), "arguments": {"city": "Paris"}}
        return f"<tool_call>{json.dumps(call)}</tool_call>"
    if question.startswith(ECHO):
        return question.removeprefix(ECHO)
    if asked["adapter"] in (True, loaded.get("adapter")):
        return TUNED
    return OTHER if asked["adapter"] else BASE


if __name__ == "__main__":
    from stage import drop_the_curtain

    drop_the_curtain()
    loaded = {}
    for line in sys.stdin:
        message = json.loads(line)
        if "load" in message:
            loaded = message["load"]
            say(phase="loading", text="Loading the model")
            time.sleep(0.2)
            adapters = [each for each in (loaded.get("adapter"), *loaded.get("others", [])) if each]
            say(loaded={**loaded, "adapters": adapters})
        elif "ask" in message:
            asked = message["ask"]
            question = asked.get("prompt") or asked["messages"][-1]["content"]
            if question.startswith(FAIL):
                cause = question.removeprefix(FAIL)
                say(error={"where": "chat", "what": cause, "remedy": "Look at the log."})
                continue
            words = answer_to(asked, loaded).split(" ")
            for place, word in enumerate(words):
                time.sleep(0.02)
                say(text=word if place == 0 else f" {word}")
            done = {"tokens": len(words), "prompt_tokens": 7, "context": 2048, "reason": "end"}
            say(done={**done, "seconds": 0.02 * len(words)})
