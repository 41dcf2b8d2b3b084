"""A Modelfile renders what the Jinja template renders; what it cannot express is refused."""

from __future__ import annotations

import stat
import sys

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from modelforge.data import chat_templates
from modelforge.errors import RunError
from modelforge.export import ollama
from modelforge.export.ollama_template import derive, with_folding
from modelforge.runs.exports import ExportFolder
from modelforge.runs.jobs import StepWriter
from tests.export import go_template
from tests.export.jobs import make_job, put_trained_run
from tests.export.trained import make_trained

pytestmark = pytest.mark.torch

# In the manner of Llama 2: the system text stands inside the first question.
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' }}"
    "{% if loop.first and system is defined %}"
    "{{ '<<SYS>>\n' + system + '\n<</SYS>>\n\n' }}{% endif %}"
    "{{ m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
# In the manner of Mistral: the system text stands inside the last question.
MISTRAL = (
    LLAMA2.replace("loop.first", "loop.last")
    .replace("'<<SYS>>\n' + system + '\n<</SYS>>\n\n'", "system + '\n\n'")
    .replace("bos_token + '[INST] '", "(bos_token if loop.first else '') + '[INST] '")
)
# In the manner of Qwen 2.5: a system text of its own if there is none.
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}"
    "{% endif %}{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# In the manner of Gemma 2: no system text.
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ '<t>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}"
    "{{ m['content'] | trim + '</t>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<t>model\n' }}{% endif %}"
)
# In the manner of Qwen 3: the thoughts of earlier answers are left out.
THINKING = DEFAULT_SYSTEM.replace("m['content'] +", "m['content'].split('</think>')[-1] +")
TEMPLATES = {
    **{name: chat_templates.template_text(name) for name in chat_templates.names()},
    "plain": chat_templates.PLAIN,
    "llama2": LLAMA2,
    "mistral": MISTRAL,
    "default system": DEFAULT_SYSTEM,
    "no system": NO_SYSTEM,
    "thinking": THINKING,
    "other scripts": DEFAULT_SYSTEM.replace("<|im_end|>", "<｜end▁of▁turn｜>\u00a0\U0001f600"),
    "quotes": DEFAULT_SYSTEM.replace("<|im_end|>", '"}}"{{\\\\'),
}


def renderer(source):
    def refuse(text):
        raise jinja2.TemplateError(text)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(source)

    def render(messages):
        return template.render(
            messages=messages,
            add_generation_prompt=True,
            bos_token="<s>",
            eos_token="</s>",
            raise_exception=refuse,
        )

    return with_folding(render)


def conversation(count, system=None):
    messages = [{"role": "system", "content": system}] if system else []
    for number in range(count):
        messages.append(
            {"role": "user", "content": f"Question {number}?\n\n  indented {{{{ x }}}}"}
        )
        messages.append({"role": "assistant", "content": f'Answer "{number}"\\n\nand more'})
    return messages[:-1]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("system", [None, 'Talk like a "pirate".\nAlways.'])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_go_renders_what_jinja_renders(name, system, count):
    render = renderer(TEMPLATES[name])
    messages = conversation(count, system)
    found = derive(render)
    assert found.render(messages) == render(messages)
    assert go_template.render(found.as_go(), messages) == render(messages)


def test_the_first_token_is_left_to_the_tokenizer_that_adds_it():
    render, messages = renderer(TEMPLATES["gemma"]), conversation(2, "Be kind.")
    assert render(messages).startswith("<s>")
    found = derive(render).without_bos("<s>")
    assert f"<s>{go_template.render(found.as_go(), messages)}" == render(messages)


def test_an_answer_at_the_end_is_continued():
    source = derive(renderer(TEMPLATES["chatml"])).as_go()
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hel"}]
    assert go_template.render(source, messages).endswith("<|im_start|>assistant\nHel")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (DEFAULT_SYSTEM.replace("m['content']", "m['content'] | upper"), "leaves out a message"),
        (DEFAULT_SYSTEM.replace("m['role'] +", "m['role'] + loop.index | string +"), "other texts"),
        (DEFAULT_SYSTEM.replace("m['content'] +", "m['content'][:100] +"), "changes or adds"),
        (DEFAULT_SYSTEM.replace("m['content']", "m['content'] | e"), "changes or adds"),
        ("{{ raise_exception('Never.') }}", "refuses a conversation: Never"),
        ("{{ messages[0]['content'] * 2 }}", "leaves out a message"),
    ],
)
def test_a_template_that_does_more_is_refused_in_words(source, words):
    with pytest.raises(RunError, match=words) as caught:
        derive(renderer(source))
    assert "GGUF" in caught.value.problems[0].remedy


@pytest.fixture
def job(tmp_path, tokenizer):
    trained = make_trained(tmp_path / "trained", tokenizer)
    system = {"model": {"system_prompt": "Talk like a pirate."}}
    run = put_trained_run(tmp_path / "home", trained, **system)
    return make_job(tmp_path / "home", [run], trained, "ollama", quantization="q8_0")


def test_an_export_has_one_gguf_file_and_its_modelfile(job, tokenizer):
    job, steps = job
    folder = job.folder.staged
    ollama.write(job, folder, steps)
    (file,) = folder.glob("*.gguf")
    text = (folder / ollama.MODELFILE).read_text("utf-8")
    assert f"FROM ./{file.name}\n" in text
    assert 'SYSTEM """Talk like a pirate."""' in text
    assert [line for line in text.splitlines() if line.startswith("PARAMETER stop")] == [
        f'PARAMETER stop """{stop}"""' for stop in ("<|im_end|>", "<|endoftext|>")
    ]
    source = text.partition('TEMPLATE """')[2].partition('"""')[0]
    messages = conversation(3, "Be kind.")
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if ollama.adds_bos(file):
        expected = expected.removeprefix(tokenizer.bos_token)
    assert go_template.render(source, messages) == expected


def test_without_ollama_the_folder_is_the_export(job, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ollama.publish(job[0], tmp_path, job[1]) == ""


def test_with_ollama_the_model_is_registered(job, program, folder, monkeypatch):
    monkeypatch.setenv("PATH", str(program().parent))
    assert ollama.publish(job[0], folder, job[1]) == "ollama run support-desk"


def test_a_modelfile_names_file_template_system_and_stops():
    text = ollama.modelfile("desk-Q4_K_M.gguf", "{{ .Prompt }}", ["<|im_end|>", "</s>"], "Be kind.")
    assert text.splitlines() == [
        "FROM ./desk-Q4_K_M.gguf",
        'TEMPLATE """{{ .Prompt }}"""',
        'SYSTEM """Be kind."""',
        'PARAMETER stop """<|im_end|>"""',
        'PARAMETER stop """</s>"""',
    ]
    assert "SYSTEM" not in ollama.modelfile("x.gguf", "{{ .Prompt }}", [], None)


def test_a_system_text_that_a_modelfile_cannot_hold_is_refused():
    with pytest.raises(RunError, match="quotation marks"):
        ollama.modelfile("x.gguf", "{{ .Prompt }}", [], 'Begin with """\nand so on.')


# Stands for the program, which no registry has: it writes as `ollama create` does.
PROGRAM = """\
#!{python}
import pathlib, sys, time
log = pathlib.Path(__file__).with_name("log")
log.write_text((log.read_text() if log.exists() else "") + repr(sys.argv[1:]) + "\\n")
if sys.argv[1] == "show":
    sys.exit(0 if sys.argv[2] in {known!r} else 1)
text = pathlib.Path("Modelfile").read_text()
for percent in (0, 40, 100):
    sys.stderr.write(f"\\x1b[2K\\x1b[1Gcopying file sha256:abc {{percent}}%\\r")
    sys.stderr.flush()
    time.sleep(0.3)
if {fails!r}:
    sys.stderr.write("\\nError: could not connect to ollama app, is it running?\\n")
    sys.exit(1)
print("\\nsuccess", text[:4])
"""


@pytest.fixture
def program(tmp_path):
    def make(*, known=(), fails=False):
        path = tmp_path / "bin" / "ollama"
        path.parent.mkdir(exist_ok=True)
        source = PROGRAM.format(python=sys.executable, known=set(known) or {""}, fails=fails)
        path.write_text(source, "utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return make


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "files"
    target.mkdir()
    (target / ollama.MODELFILE).write_text("FROM ./x.gguf\n", "utf-8")
    return target


@pytest.fixture
def steps(tmp_path):
    export = ExportFolder(tmp_path)
    writer = StepWriter(export.events)
    writer.begin("create", "Registering")
    return export, writer


def test_creating_reports_the_progress_of_the_program(program, folder, steps):
    export, writer = steps
    path = program()
    ollama.create(str(path), "desk", folder, writer)
    asked = path.with_name("log").read_text("utf-8").splitlines()
    assert asked == ["['create', 'desk', '-f', 'Modelfile']"]
    shares = [
        line for line in export.events.read_text("utf-8").splitlines() if '"share": 0.4' in line
    ]
    assert shares


def test_a_failure_of_the_program_is_shown(program, folder, steps):
    with pytest.raises(RunError, match="could not connect to ollama app") as caught:
        ollama.create(str(program(fails=True)), "desk", folder, steps[1])
    assert "ollama create desk -f Modelfile" in caught.value.problems[0].remedy


def test_a_model_of_that_name_is_not_replaced(program):
    path = program(known=("desk", "desk-2"))
    assert ollama.free_name(str(path), "desk") == "desk-3"
