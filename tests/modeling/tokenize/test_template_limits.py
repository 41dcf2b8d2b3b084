"""Hostile chat templates end within their limits, with a cause, and leave the process usable."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time

import jinja2
import pytest

from modelforge.modeling.tokenize import template_limits
from modelforge.modeling.tokenize.template_limits import apply_template, limited_rendering

pytestmark = pytest.mark.torch
MESSAGES = [{"role": "user", "content": "?"}]
LOOPS = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
    "{% endfor %}{% endfor %}{% endfor %}"
)
DOUBLING = (
    "{% set n = namespace(x=START) %}"
    "{% for i in range(99) %}{% set n.x = n.x PLUS n.x %}{% endfor %}"
)


@pytest.fixture
def render():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))

    def render(template: str) -> str:
        tokenizer.chat_template = template
        return apply_template(tokenizer, MESSAGES)

    return render


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        ("{{ 'a' * 3000000000 }}", "memory"),
        # The memory may take the time to be filled.
        (DOUBLING.replace("START", "'a'").replace("PLUS", "~"), "it needs more than"),
        (DOUBLING.replace("START", "[0]").replace("PLUS", "+"), "it needs more than"),
        (LOOPS, "seconds"),
        # Jinja rewrites the traceback of all calls, for which a slow computer takes the time.
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion|seconds"),
        ("{{ range(10 ** 9) }}", "range"),
        ("{{ 1 / 0 }}", "division"),
        ("{{ messages[9].content }}", "9"),
        ("{{ messages[0].__class__.__mro__ }}", "unsafe"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{% include '/etc/passwd' %}", ""),
        ("{{ raise_exception('no') }}", "no"),
        ("x" * 2**21, "longer"),
    ],
)  # fmt: skip
def test_a_hostile_template_is_an_error_with_a_cause(render, template, cause):
    with pytest.raises(jinja2.TemplateError) as caught:
        render(template)
    assert re.search(cause, str(caught.value))
    assert render("{{ messages[0].content }}") == "?"


def test_a_loop_ends_in_a_thread_as_well(render, monkeypatch):
    monkeypatch.setattr(template_limits, "MAX_SECONDS", 0.3)
    errors: list[Exception] = []

    def work() -> None:
        try:
            render(LOOPS)
        except jinja2.TemplateError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert "seconds" in str(errors[0])


def test_limits_end_with_the_template():
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_AS)
    with limited_rendering():
        if sys.platform == "linux":
            assert resource.getrlimit(resource.RLIMIT_AS) != before
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_time_outside_of_templates_does_not_count(monkeypatch):
    monkeypatch.setattr(template_limits, "MAX_SECONDS", 0.2)
    with limited_rendering():
        pass
    end = time.process_time() + 0.6
    while time.process_time() < end:
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="the kernel ends processes on POSIX only")
def test_an_operation_without_end_ends_the_process():
    code = (
        "from modelforge.modeling.tokenize import template_limits as limits\n"
        "limits.MAX_OPERATION_SECONDS = 0.5\n"
        "import jinja2.sandbox\n"
        "with limits.limited_rendering():\n"
        "    sandbox = jinja2.sandbox.ImmutableSandboxedEnvironment()\n"
        "    sandbox.from_string('{{ 9**(9**9) }}').render()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode < 0
