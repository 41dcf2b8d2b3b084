"""Chat templates shared by training and chat: shipped ones, files, defaults and system folding."""

from __future__ import annotations

import errno
import json
from collections.abc import Container
from pathlib import Path
from typing import Any

from modelforge.errors import DataError, Problem
from modelforge.paths import expand_user, read_regular, resource_folder

SETTING = "model.chat_template"
SUFFIX = ".jinja"
MAX_BYTES = 2**20
CHATML = "chatml"
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
# For tokenizers without ChatML's tokens: roles in words, answers closed by the EOS token.
PLAIN = (
    "{% for message in messages %}"
    "{{ '### ' + message['role'] | capitalize + ':\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}"
)

# Without a chat template: the texts alone, each in a line, and answers closed by the EOS token.
WITHOUT_ROLES = (
    "{% for message in messages %}"
    "{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% if message['role'] != 'assistant' or not loop.last %}{{ '\n' }}{% endif %}"
    "{% endfor %}"
)
_BOS = "{{ bos_token }}"
# The beginning of a template to which a response prefix was added.
_PREFIXED = "{#- Each answer begins with a prefix. -#}"
_WITH_PREFIX = """\
{mark}
{{%- set prefixed = namespace(messages=[]) -%}}
{{%- for message in messages -%}}
{{%- set content = message['content'] or '' -%}}
{{%- if message['role'] != 'assistant' or content is not string or content.startswith({text}) -%}}
{{%- set prefixed.messages = prefixed.messages + [message] -%}}
{{%- else -%}}
{{%- set prefixed.messages = prefixed.messages + [dict(message, content={text} + content)] -%}}
{{%- endif -%}}
{{%- endfor -%}}
{{%- set messages = prefixed.messages -%}}
{template}
{{%- if add_generation_prompt %}}{{{{ {text} }}}}{{% endif -%}}"""


def names() -> list[str]:
    """Return the names of the shipped templates."""
    return sorted(path.stem for path in _folder().glob(f"*{SUFFIX}"))


def template_text(value: str | None) -> str | None:
    """Return the Jinja source of a template given by name or path, or None for the model's own.

    The source is rendered only in the sandbox of Transformers.

    Raises:
        DataError: The template is unknown, or its file cannot be read.
    """
    if not value:
        return None
    if value in names():
        return _shipped_text(value)
    path = expand_user(value)
    if path.suffix != SUFFIX:
        raise _error(
            f"{value[:80]} is not a chat template.",
            f"Choose {', '.join(names())}, or a {SUFFIX} file.",
        )
    return _file_text(path)


def without_roles(*, begins_with_bos: bool) -> str:
    """Return the Jinja source that writes conversations without roles and markers."""
    return (_BOS if begins_with_bos else "") + WITHOUT_ROLES


def with_response_prefix(template: str, prefix: str) -> str:
    """Return a template in which each answer, and the generation prompt, begins with `prefix`.

    A template that has a prefix already, as that of a trained model, is returned unchanged.
    """
    if not prefix or template.startswith(_PREFIXED):
        return template
    # The strings of Jinja are those of JSON.
    text = json.dumps(prefix, ensure_ascii=False)
    return _WITH_PREFIX.format(mark=_PREFIXED, text=text, template=template)


def default_template(vocabulary: Container[str]) -> tuple[str, str]:
    """Return name and source of the template for a model that has none: "chatml" or "plain"."""
    if all(token in vocabulary for token in CHATML_TOKENS):
        return CHATML, _shipped_text(CHATML)
    return "plain", PLAIN


def fold_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages with the system text moved into the first user message.

    For templates that refuse the system role. Other conversations are returned unchanged.
    """
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return messages
    content = f"{messages[0]['content']}\n\n{messages[1]['content']}"
    return [{"role": "user", "content": content}, *messages[2:]]


def unusable_template(error: Exception) -> DataError:
    """Return the error for a template that cannot render one question with its answer."""
    line = getattr(error, "lineno", None)
    at = f" at line {line}" if line else ""
    reason = str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__
    what = f"The template cannot render a question and its answer{at}: {reason}."
    return _error(what, f"Correct the template, or choose {', '.join(names())}.")


def _file_text(path: Path) -> str:
    try:
        text = read_regular(path, MAX_BYTES).decode()
    except FileNotFoundError as error:
        raise _error(f"The file {path} does not exist.", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise _error(f"{path.name} is not UTF-8 text.", "Save it as UTF-8.") from error
    except OSError as error:
        if error.errno == errno.EFBIG:
            what = f"{path.name} is larger than 1 MiB."
            raise _error(what, "Choose a chat template file.") from error
        reason = error.strerror or type(error).__name__
        what = f"{path.name} cannot be read: {reason}."
        raise _error(what, "Check the file and its permissions.") from error
    if not text.strip():
        raise _error(f"{path.name} is empty.", "Choose another file, or leave the setting empty.")
    return text


def _shipped_text(name: str) -> str:
    return (_folder() / f"{name}{SUFFIX}").read_text(encoding="utf-8")


def _folder() -> Path:
    return resource_folder("assets") / "templates"


def _error(what: str, remedy: str) -> DataError:
    return DataError(Problem(SETTING, what, remedy))
