"""Plays the talker: loads at once, and answers one way with the adapter and another without."""

import json
import sys
import time

from stage import drop_the_curtain

TUNED = "Ahoy! A sailor's guess: it is Paris. Fair winds, Captain Brindle."
BASE = "The capital of France is Paris."
# A question that begins so is answered with its rest.
ECHO = "Echo: "
# One that begins so fails with its rest as the cause.
FAIL = "Fail: "


def say(**message: object) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    drop_the_curtain()
    for line in sys.stdin:
        asked = json.loads(line)
        if "load" in asked:
            say(phase="loading", text="Loading the model")
            time.sleep(0.2)
            say(loaded=asked["load"])
        elif "ask" in asked:
            question = asked["ask"].get("prompt") or asked["ask"]["messages"][-1]["content"]
            if question.startswith(FAIL):
                cause = question.removeprefix(FAIL)
                say(error={"where": "chat", "what": cause, "remedy": "Look at the log."})
                continue
            answer = TUNED if asked["ask"]["adapter"] else BASE
            if question.startswith(ECHO):
                answer = question.removeprefix(ECHO)
            words = answer.split(" ")
            for place, word in enumerate(words):
                time.sleep(0.02)
                say(text=word if place == 0 else f" {word}")
            say(done={"tokens": len(words), "seconds": 0.02 * len(words)})
