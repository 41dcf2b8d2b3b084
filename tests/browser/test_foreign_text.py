"""Text of files, runs and models is shown as text on every page; nothing of it is executed."""

import json
import subprocess
import sys

import pytest

from modelforge.errors import Problem
from modelforge.runs.jobs import JobStep
from modelforge.runs.process.identity import ProcessIdentity
from tests.runs.homes import put_evaluation, put_export, put_run
from tests.ui.pages.run.reports import foreign, prompt_does

pytestmark = pytest.mark.browser

# Each would set `window.hacked` if a page took it for markup or for an address.
PAYLOADS = [
    "<img src=x onerror=window.hacked=1>",
    "<svg onload=window.hacked=1>",
    "</script><script>window.hacked=1</script>",
    "javascript:window.hacked=1",
    '" onmouseover="window.hacked=1" autofocus onfocus="window.hacked=1" x="',
    "[link](javascript:window.hacked=1) `<b>`",
    "{{ 7*7 }} </textarea></select></title><iframe srcdoc='<script>parent.hacked=1</script>'>",
]
ALL = " ".join(PAYLOADS)


def put_foreign_exports(home, run, exporter):
    """Put exports into a home whose every text is foreign."""
    problem = Problem("self-test", ALL, ALL)
    test = {"passed": False, "prompts": 20, "same_text": 1, "cause": ALL, "details": PAYLOADS}
    put_export(home, run, 1, state="failed", self_test=test, problem=problem, file="a.gguf")
    put_export(home, run, 2, address=PAYLOADS[3], format="hub", repository=ALL)
    put_export(home, run, 3, format="ollama", address=ALL, file="<img src=x onerror=alert(1)>.gguf")
    process = ProcessIdentity.of(exporter.pid).as_dict()
    steps = [JobStep("merge", ALL, 1.0, 2.0), JobStep(ALL, ALL, 0.5, 2.0)]
    put_export(home, run, 4, state="running", steps=steps, process=process)


@pytest.fixture
def home(home_with_starter, tmp_path):
    """Runs whose every text is foreign, and files of data with foreign columns, rows and names."""
    for number, payload in enumerate(PAYLOADS):
        put_run(home_with_starter, number, name=payload, held=[2.0, 1.5])
    failed = put_run(home_with_starter, 20, name=ALL, ending=None)
    answer = {"prompt": ALL, "source": ALL, "expected": ALL, "text": ALL, "tokens": 3, "cut": True}
    answers = [answer, {**answer, "prompt": f"2 {ALL}", "source": "general"}]
    events = [
        ("phase", {"phase": "loading", "what": ALL}),
        ("note", {"code": ALL[:60], "what": ALL}),
        ("sample", {"step": 3, "prompt": ALL, "completion": ALL, "reference": ALL}),
        *(("samples", {"step": step, "answers": answers}) for step in (0, 3)),
        ("saved", {"step": 3, "path": ALL}),
        ("failed", {"cause": ALL[:60], "what": ALL, "remedy": ALL}),
    ]
    lines = failed.events.read_text("utf-8").splitlines()
    for number, (kind, data) in enumerate(events, start=len(lines) + 1):
        lines.append(json.dumps({"n": number, "t": 1.0 + number, "kind": kind, "data": data}))
    failed.events.write_text("\n".join(lines) + "\n", "utf-8")
    failed.log.write_text(f"{ALL}\n\x1b[31m{ALL}\n", "utf-8")
    failed.about.write_text(
        json.dumps({"format": 1, "name": ALL, "tags": PAYLOADS[:3], "note": ALL}), "utf-8"
    )
    exporter = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    put_foreign_exports(home_with_starter, failed, exporter)
    put_evaluation(home_with_starter, failed, report=foreign(prompt_does(), ALL))
    problem = Problem("evaluation", ALL, ALL)
    put_evaluation(home_with_starter, failed, 1, age_s=9.0, state="failed", problem=problem)
    rows = [{"prompt": f"{each} {n}", "completion": ALL} for each in PAYLOADS for n in range(3)]
    named = tmp_path / "<img src=x onerror=window.hacked=1>.jsonl"
    named.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    columns = tmp_path / "columns.jsonl"
    odd = {payload: payload for payload in PAYLOADS}
    columns.write_text("\n".join(json.dumps(odd | {"n": n}) for n in range(12)), "utf-8")
    yield home_with_starter
    exporter.communicate()


@pytest.fixture
def page(servers, home, opened):
    page = opened(servers(home).url)
    page.context.on("dialog", lambda dialog: pytest.fail(f"a dialog: {dialog.message}"))
    page.wrong = []
    page.on(
        "console", lambda said: "Content Security" in said.text and page.wrong.append(said.text)
    )
    return page


def look(page, *shown):
    """Check that the texts are on the page as text, and that nothing of them ran."""
    for text in shown:
        page.get_by_text(text, exact=False).first.wait_for(state="attached")
    for target in page.locator("main *:visible, #page *:visible").all()[:60]:
        target.dispatch_event("mouseover")
    assert page.evaluate("window.hacked") is None
    assert page.locator("#page :is(img[src=x], iframe, svg[onload], [onmouseover])").count() == 0
    assert page.locator('a[href^="javascript:"]').count() == 0
    assert page.wrong == []


def test_names_notes_and_logs_of_runs(page, home):
    base = page.url.split("?")[0].rstrip("/")
    failed = next(path for path in (home / "runs").iterdir() if path.name.endswith("0014"))
    for path, shown in (
        ("/runs", PAYLOADS[0]),
        (f"/?run={failed.name}", PAYLOADS[0]),
        ("/chat", PAYLOADS[1]),
        ("/export", PAYLOADS[1]),
        ("/export", "Exporting: GGUF"),
        ("/machine", "Disk"),
        (f"/compare?runs={failed.name},20260101-000000-0001", PAYLOADS[1]),
    ):
        page.goto(base + path)
        page.wait_for_selector("[data-usable]")
        look(page, shown)
        if path == "/export":
            page.get_by_role("button", name="Show difference").click()
            look(page, *PAYLOADS)
        if path.startswith("/?run"):
            page.locator("#evaluation-verdict").wait_for(state="attached")
            for tab in page.get_by_role("tab").all():
                if tab.is_visible():
                    tab.click()
                    look(page)
            assert page.locator(".say.new:has-text('hacked')").count() >= 4


def test_messages_and_answers_of_a_chat(page):
    page.goto(f"{page.url.split('?')[0].rstrip('/')}/chat")
    page.wait_for_selector("[data-usable]")
    page.locator("#system").fill(ALL)
    page.locator("#message").fill(f"Echo: {ALL}")
    page.get_by_role("button", name="Send").click()
    # The question, and the answer of the model.
    page.locator(".talk").get_by_text(PAYLOADS[0]).nth(1).wait_for()
    page.get_by_role("button", name="Copy").first.wait_for()
    look(page)
    page.reload()
    page.wait_for_selector("[data-usable]")
    look(page, PAYLOADS[0])
    page.locator("#message").fill(f"Fail: {ALL}")
    page.get_by_role("button", name="Send").click()
    answer = page.locator(".say[data-failed=yes]").last
    assert PAYLOADS[0] in answer.inner_text()
    assert answer.get_by_role("link", name="Machine page").get_attribute("href") == "/machine"
    assert answer.get_by_role("link", name="Log of the chat").is_visible()
    look(page)


def test_rows_columns_and_names_of_files(page, tmp_path):
    base = page.url.split("?")[0].rstrip("/")
    for file, shown in (
        ("<img src=x onerror=window.hacked=1>.jsonl", PAYLOADS[0]),
        ("columns.jsonl", PAYLOADS[2]),
    ):
        page.goto(f"{base}/?new=1")
        page.wait_for_selector("[data-usable]")
        page.locator('[data-text-for="dataset"]').fill(str(tmp_path / file))
        page.get_by_text(shown).first.wait_for(state="attached")
        tabs = page.locator("#card-data [role=tab]").all()
        assert len(tabs) == 5
        for tab in tabs:
            tab.click()
            page.wait_for_timeout(500)
            look(page)
