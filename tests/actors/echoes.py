"""A companion that repeats what it hears, between noise."""

import json
import sys

import stage

stage.drop_the_curtain()
print("ready in words only", flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if "leave" in message:
        print("some last words", file=sys.stderr, flush=True)
        sys.exit(message["leave"])
    if "hang" in message:
        stage.sleep_for_ever()
    print("noise \x1b[31m{half", flush=True)
    print(json.dumps(message), flush=True)
