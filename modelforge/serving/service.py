"""Serve one model at a time to programs that use the OpenAI API, and unload it when it is idle."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import psutil

from modelforge.errors import BusyError, ConfigError, ForgeError, NotFoundError, Problem
from modelforge.paths import Home
from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.process.identity import ProcessIdentity
from modelforge.runs.process.log_rotation import trim_log
from modelforge.runs.process.machine_lease import MachineLease
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.store import LOCK
from modelforge.services.chat import ChatService
from modelforge.services.chat_client import COMMAND, ChatClient
from modelforge.serving.requests import ApiRequest
from modelforge.serving.session import (
    IDLE_MINUTES,
    Parts,
    ServingState,
    ServingView,
    Session,
    curl_example,
    is_loopback,
    python_example,
)
from modelforge.serving.targets import Target, find_target

PORT, HOST = 8001, "127.0.0.1"
LONGEST_IDLE_MINUTES = 7 * 24 * 60.0
LOG = "serving.log"
BUSY_REMEDY = "The model is loaded again by the next request after that."


class ServingService:
    """The API server of a home. Thread-safe.

    A chat process of its own holds the model, and the GPU lease while it does. The HTTP server is a
    thread of this process, so both end with it.
    """

    def __init__(
        self,
        home: Home,
        supervisor: Supervisor,
        chat: ChatService,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._home = home
        self._supervisor = supervisor
        self._chat = chat
        self._client = ChatClient(home, command, log=LOG)
        # A token of its own: a run that starts here does not end the model silently.
        self._lease = MachineLease(home.lease, home.runs / LOCK)
        # Starts and stops. The other lock is held briefly: uses of the model, and its unloading.
        self._lock = threading.RLock()
        self._use_lock = threading.Lock()
        self._session: Session | None = None
        self._log_path = home.logs / LOG

    def start(
        self,
        what: str,
        *,
        host: str = HOST,
        port: int | None = None,
        key: str | None = None,
        idle_minutes: float = IDLE_MINUTES,
    ) -> ServingView:
        """Serve a run or an export by its id, or a base model by its name; return at once.

        The model is loaded in the background. Without a `key` a random one is made.

        Raises NotFoundError, ConfigError, BusyError while something else uses this computer or the
        port, or a model is served already.
        """
        if not 0 <= idle_minutes <= LONGEST_IDLE_MINUTES:
            bounds = f"0 and {LONGEST_IDLE_MINUTES:g} min"
            what_is_wrong = f"The idle time, {idle_minutes:g} min, is not between {bounds}."
            remedy = "Give minutes, or 0 to keep the model loaded."
            raise ConfigError(Problem("idle_minutes", what_is_wrong, remedy))
        target = find_target(what, self._home, self._chat)
        with self._lock:
            self._require_off()
            with self._supervisor.claim():
                self._supervisor.require_free()
                self._chat.close()
            secret = key or f"mf-{secrets.token_hex(20)}"
            session = Session(target, secret, host, PORT if port is None else port)
            session.idle_s = idle_minutes * 60
            self._listen(session)
            self._session = session
        self._log(f"{target.name} is served at {session.address}.")
        threading.Thread(target=self._load, args=(session,), daemon=True).start()
        return self.current()

    def _listen(self, session: Session) -> None:
        """Start the HTTP server of a session; after an error nothing is left."""
        from modelforge.security.middleware import local_host_names  # noqa: PLC0415 - as below
        from modelforge.serving.app import create_app  # noqa: PLC0415 - imports Starlette
        from modelforge.serving.server import ServerThread, listen  # noqa: PLC0415 - and Uvicorn

        listener = listen(session.host, session.port)
        session.port = listener.getsockname()[1]
        session.vllm = session.target.vllm(session.port)
        try:
            is_local = is_loopback(session.host)
            hosts = () if is_local else {*local_host_names(), session.host.lower()}
            model = _Served(self, session)
            app = create_app(model, key=session.key, hosts=hosts, error_log=self._log_path)
            session.server = ServerThread(app, listener)
            self._write_record(session)
        except ForgeError:
            if session.server is not None:
                session.server.close()  # first, because it still uses the listener
            listener.close()
            raise

    def current(self) -> ServingView:
        """Return the state of the API server."""
        session = self._session
        if session is None:
            return ServingView(ServingState.OFF, elsewhere=self._elsewhere())
        has_ended = session.state is ServingState.ON and not self._client.alive
        state = ServingState.IDLE if has_ended else session.state
        return session.view(state, str(self._log_path), self._memory_bytes())

    def secret(self) -> str:
        """Return the API key; raises NotFoundError if no model is served."""
        session = self._session
        if session is None or session.server is None:
            raise NotFoundError(Problem("serving", "No model is served.", "Start to serve one."))
        return session.key

    def examples(self) -> dict[str, str]:
        """Return requests to copy, by their language; the key is the variable KEY."""
        view = self.current()
        return {"curl": curl_example(view), "python": python_example(view)} if view.what else {}

    def guard(self, export_id: str) -> None:
        """Raise BusyError while an export is served, whose files are needed."""
        session = self._session
        if session is not None and session.server is not None and session.target.id == export_id:
            raise session.refusal("export", "Stop serving it first.")

    def stop(self) -> ServingView:
        """Stop to serve, end the model's process and release the GPU lease."""
        with self._lock:
            session, self._session = self._session, None
            if session is not None:
                self._end(session)
                self._log(f"{session.target.name} is not served any more.")
        return self.current()

    def tend(self) -> None:
        """Unload an idle model, note a process that has ended, and limit the log."""
        session = self._session
        if session is None:
            return
        trim_log(self._log_path)
        with self._lock:
            if session is not self._session or session.server is None:
                return
            self._unload_idle(session)
            if not session.server.alive:
                self._fail(session, Problem("serving", "The API server has ended.", "Start again."))

    def _unload_idle(self, session: Session) -> None:
        with self._use_lock:  # no request begins meanwhile
            unused_s = session.unused_s
            if session.active or session.state is not ServingState.ON:
                return
            if not self._client.alive:
                what = "The process of the model has ended."
                remedy = f"The next request starts it again; its output is in logs/{LOG}."
                session.problem = Problem("serving", what, remedy)
            elif session.idle_s and unused_s > session.idle_s:
                what = f"{session.target.name} was unloaded: unused for {unused_s / 60:.1f} min."
            else:
                return
            session.state = ServingState.IDLE
            self._unload()
        self._log(what)

    def close(self) -> None:
        """Stop to serve, as at the end of this process."""
        self.stop()

    def reply(self, session: Session, request: ApiRequest) -> Parts:
        """Yield the messages of a reply of the served model; for the routes."""
        ask, began = _ask(session.target, request), time.monotonic()
        with self._use(session):
            try:
                admit = partial(self._admit, session)
                with closing(self._client.request(session.target.spec, ask, admit)) as parts:
                    for part in parts:
                        if "loaded" in part:
                            self._note_load(session, part["loaded"])
                        if "done" in part:
                            self._note_reply(session, part["done"], time.monotonic() - began)
                        yield part
            except ForgeError as error:
                self._log(f"A request failed: {error}")
                if not self._client.alive and session.state is not ServingState.FAILED:
                    session.state, session.problem = ServingState.IDLE, error.problems[0]
                    self._release()
                raise

    def _load(self, session: Session) -> None:
        """Load the model after the start; a failure ends the server."""
        failure: ForgeError | None = None
        with self._use(session):
            try:
                for part in self._client.load(session.target.spec, partial(self._admit, session)):
                    if "loaded" in part:
                        self._note_load(session, part["loaded"])
            except ForgeError as error:
                failure = error
        with self._lock:
            if failure is not None and session is self._session:
                self._fail(session, failure.problems[0])

    @contextmanager
    def _use(self, session: Session) -> Iterator[None]:
        """Count a use of the model, which is not unloaded meanwhile."""
        with self._use_lock:
            session.active += 1
        try:
            yield
        finally:
            with self._use_lock:
                session.active -= 1
                session.last_used = time.monotonic()

    @contextmanager
    def _admit(self, session: Session) -> Iterator[None]:
        """Hold the start lock and take the lease while the chat process starts."""
        with self._supervisor.claim():
            if session is not self._session or session.state is ServingState.FAILED:
                stopped = Problem("serving", "The model is not served any more.")
                raise BusyError(stopped, "serving")
            self._supervisor.require_free(BUSY_REMEDY)
            if in_use := self._chat.in_use:
                raise BusyError(Problem("machine", in_use, BUSY_REMEDY), "chat")
            self._chat.close()
            yield
            self._lease.take("serving", session.target.name, self._client.identity)

    def _note_load(self, session: Session, loaded: dict[str, Any]) -> None:
        session.note_load(loaded)
        self._log(f"{session.target.name} is loaded.")

    def _note_reply(self, session: Session, done: dict[str, Any], seconds: float) -> None:
        session.note_reply(done, seconds)
        read, generated = done.get("prompt_tokens", 0), done.get("tokens", 0)
        ended = f"in {seconds:.1f} s ({done.get('reason')})"
        self._log(f"Reply: {read} tokens read, {generated} generated {ended}.")

    def _fail(self, session: Session, problem: Problem) -> None:
        session.state, session.problem = ServingState.FAILED, problem
        self._log(f"{session.target.name} is not served: {problem}")
        self._end(session)

    def _end(self, session: Session) -> None:
        # The model first, so that requests in progress end with an error instead of a timeout.
        self._unload()
        server, session.server = session.server, None
        if server is not None:
            server.close()
        if (find_json(self._home.serving) or {}).get("pid") == os.getpid():
            with suppress(OSError):
                self._home.serving.unlink(missing_ok=True)

    def _unload(self) -> None:
        with self._supervisor.claim():  # no process is being started
            self._lease.release()
            self._client.close()

    def _release(self) -> None:
        with self._supervisor.claim():
            if not self._client.alive:
                self._lease.release()

    def _require_off(self) -> None:
        session = self._session
        if session is None:
            return
        if session.server is None:  # it has failed
            self._session = None
            return
        raise session.refusal("serving", "Stop it first: one model is served at a time.")

    def _memory_bytes(self) -> int | None:
        who = self._client.identity
        try:
            return int(psutil.Process(who.pid).memory_info().rss) if who else None
        except psutil.Error:
            return None

    def _write_record(self, session: Session) -> None:
        """Write what is served and where, without the key, for the other processes of the home."""
        me = ProcessIdentity.of(os.getpid())
        names = {"name": session.target.name, "address": session.address}
        record = {**names, "since": session.since}
        write_json(self._home.serving, {**record, **me.as_dict()})

    def _elsewhere(self) -> str:
        """Return what another process serves, or one that has ended without a stop has served."""
        record = find_json(self._home.serving)
        who = ProcessIdentity.from_dict(record) if record else None
        if record is None or who is None:
            return ""
        served = f"{record.get('name')} is served at {record.get('address')}"
        if who.alive:
            return f"{served} by process {who.pid}. Stop it there, in a terminal with Ctrl+C."
        return f"{served} no longer: its process {who.pid} has ended without a stop."

    def _log(self, text: str) -> None:
        """Write a line to the log, to which the process of the model writes as well."""
        stamp = datetime.now().astimezone().isoformat(timespec="seconds")
        with suppress(OSError):
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            with self._log_path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{stamp} {text}\n")


@dataclass(frozen=True)
class _Served:
    """The served model as the routes see it."""

    service: ServingService
    session: Session

    @property
    def model(self) -> str:
        return self.session.target.model

    @property
    def since(self) -> float:
        return self.session.since

    def knows(self, name: str) -> bool:
        return self.session.target.knows(name)

    def reply(self, request: ApiRequest) -> Parts:
        return self.service.reply(self.session, request)


def _ask(target: Target, request: ApiRequest) -> dict[str, Any]:
    """Return a request for the chat process, with the messages in the form of the training."""
    messages: list[dict[str, str]] = list(request.messages)
    prompt = request.prompt
    if prompt and target.spec.head != "causal":  # these models read a document, not a beginning
        messages, prompt = [{"role": "user", "content": prompt}], ""
    return {
        "messages": [] if prompt else target.spec.prepare_messages(messages),
        "prompt": prompt,
        "max_new_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stop_texts": list(request.stop),
        "adapter": True,
    }
