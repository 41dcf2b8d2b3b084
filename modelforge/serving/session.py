"""A served model from its start to its stop, and what is shown of it."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from modelforge.config.schema.base import about
from modelforge.errors import BusyError, Problem
from modelforge.serving.targets import Target

if TYPE_CHECKING:
    from modelforge.serving.server import ServerThread

# The messages of a reply of the chat process: {"phase"}, {"text"} and at last {"done"}.
Parts = Generator[dict[str, Any], None, None]

IDLE_MINUTES = 10.0
MASK = "••••••••"


class ServingState(StrEnum):
    """State of the API server. `idle`: it listens, and the next request loads the model."""

    OFF = "off"
    STARTING = "starting"
    ON = "on"
    IDLE = "idle"
    FAILED = "failed"


@dataclass(frozen=True)
class ServingView:
    """The API server, or with the state `off` or `failed` the last one."""

    state: ServingState
    what: Annotated[str, about("Id of the run or export, or name of the base model.")] = ""
    name: Annotated[str, about("The name of the model for people.")] = ""
    kind: Annotated[str, about("`gguf`, `adapter` or `model`; empty if off.")] = ""
    model: Annotated[str, about("The name of the model in the API.")] = ""
    address: Annotated[str, about("The base address for clients.")] = ""
    is_local: Annotated[bool, about("Whether only this computer can reach it.")] = True
    key: Annotated[str, about("The API key, masked.")] = ""
    idle_minutes: Annotated[float, about("Minutes until an idle model is unloaded; 0: never.")] = (
        IDLE_MINUTES
    )
    since: Annotated[float | None, about("Unix seconds of the start.")] = None
    requests: Annotated[int, about("Requests that were answered.")] = 0
    tokens: Annotated[int, about("Tokens that were generated.")] = 0
    last_request: Annotated[float | None, about("Unix seconds of the last request.")] = None
    tokens_per_second: Annotated[float | None, about("Speed of all replies together.")] = None
    unloads_in: Annotated[float | None, about("Seconds until the model is unloaded.")] = None
    load_seconds: Annotated[float | None, about("How long it took to load the model.")] = None
    memory_bytes: Annotated[int | None, about("Memory of the process of the model.")] = None
    problem: Annotated[Problem | None, about("Why the model could not be loaded.")] = None
    elsewhere: Annotated[str, about("What another process of this home serves.")] = ""
    log: Annotated[str, about("The file with the log.")] = ""
    vllm: Annotated[str, about("A command to serve it with the installed vLLM instead.")] = ""


@dataclass
class Session:
    """A model that is served. `active` counts the uses of the model in progress."""

    target: Target
    key: str
    host: str
    port: int
    idle_s: float = IDLE_MINUTES * 60
    # A command to serve it with an installed vLLM.
    vllm: str = ""
    server: ServerThread | None = None
    since: float = field(default_factory=time.time)
    state: ServingState = ServingState.STARTING
    problem: Problem | None = None
    active: int = 0
    last_used: float = field(default_factory=time.monotonic)
    load_seconds: float | None = None
    # What has been answered so far.
    requests: int = 0
    tokens: int = 0
    seconds: float = 0.0
    last_request: float | None = None

    @property
    def address(self) -> str:
        """The base address for clients."""
        return url(self.host, self.port)

    @property
    def unused_s(self) -> float:
        """Seconds since the model was used last; 0 while it is."""
        return 0.0 if self.active else time.monotonic() - self.last_used

    def refusal(self, where: str, remedy: str) -> BusyError:
        """Return the error for what cannot be done while this model is served."""
        what = f"{self.target.name} is served at {self.address}."
        return BusyError(Problem(where, what, remedy), "serving")

    def note_load(self, loaded: dict[str, Any]) -> None:
        """Note that the model is loaded; `loaded` is the message of the chat process."""
        seconds = loaded.get("seconds")
        self.load_seconds = seconds if isinstance(seconds, float | int) else None
        self.state, self.problem = ServingState.ON, None

    def note_reply(self, done: dict[str, Any], seconds: float) -> None:
        """Count a reply; `done` is the message of the chat process, `seconds` with the waiting."""
        self.requests += 1
        self.tokens += int(done.get("tokens", 0))
        self.seconds += float(done.get("seconds") or seconds)
        self.last_request = time.time()

    def view(self, state: ServingState, log: str, memory_bytes: int | None) -> ServingView:
        """Return what is shown of it."""
        is_served = self.server is not None
        unloads = state is ServingState.ON and self.idle_s > 0
        return ServingView(
            state=state,
            what=self.target.id,
            name=self.target.name,
            kind=self.target.kind,
            model=self.target.model,
            address=self.address,
            is_local=is_loopback(self.host),
            key=masked(self.key) if is_served else "",
            idle_minutes=self.idle_s / 60,
            since=self.since,
            requests=self.requests,
            tokens=self.tokens,
            last_request=self.last_request,
            tokens_per_second=round(self.tokens / self.seconds, 1) if self.seconds else None,
            unloads_in=max(0.0, self.idle_s - self.unused_s) if unloads else None,
            load_seconds=self.load_seconds,
            memory_bytes=memory_bytes,
            problem=self.problem,
            log=log,
            vllm=self.vllm if is_served else "",
        )


def is_loopback(host: str) -> bool:
    """Return whether only this computer can reach a server on this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def url(host: str, port: int) -> str:
    """Return the address of the API for clients; on all interfaces that of this computer."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}/v1" if ":" in shown else f"http://{shown}:{port}/v1"


def masked(key: str) -> str:
    """Return an API key with its last characters only."""
    return f"{'mf-' if key.startswith('mf-') else ''}{MASK}{key[-4:]}"


def curl_example(view: ServingView) -> str:
    """Return a request of curl; the key is the variable KEY."""
    return (
        f"curl {view.address}/chat/completions \\\n"
        '  -H "Authorization: Bearer $KEY" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"""  -d '{{"model": "{view.model}", "messages":\n"""
        """       [{"role": "user", "content": "Hello"}]}'"""
    )


def python_example(view: ServingView) -> str:
    """Return a program for OpenAI's client in Python; the key is the variable KEY."""
    return (
        "from openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{view.address}",\n'
        "                api_key=KEY)\n"
        "answer = client.chat.completions.create(\n"
        f'    model="{view.model}",\n'
        '    messages=[{"role": "user", "content": "Hello"}])\n'
        "print(answer.choices[0].message.content)"
    )
