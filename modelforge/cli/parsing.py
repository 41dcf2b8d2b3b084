"""Parts of the parser that several commands share."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from modelforge.errors import ConfigError, Problem
from modelforge.setup.extra_facts import did_you_mean

if TYPE_CHECKING:
    from modelforge.forge import Forge
    from modelforge.paths import Home

Act = Callable[[argparse.Namespace, "Forge"], int]
OpenForge = Callable[[argparse.Namespace], "Forge"]
NewCommand = Callable[[str, Act, str], argparse.ArgumentParser]
EXIT_CODES = """\
exit codes: 0 done; 1 failed, or the machine is in use; 2 wrong input, or the run is not ready;
130 interrupted by Ctrl+C"""

# What opening a path raises: for a loop of links or an unknown user a RuntimeError.
UNUSABLE_PATH = (OSError, RuntimeError, ValueError)
MAX_SHOWN = 300

_INVALID = re.compile(r"invalid (\w+) value: (.*)")


class Parser(argparse.ArgumentParser):
    """A parser that raises its errors as ConfigError, with the most similar command or option."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **options)
        # Names the options of the chosen command in the error about an unknown one.
        self.set_defaults(parser=self)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the parsed arguments. Raises ConfigError for wrong and unknown ones."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            raise ConfigError(options.parser.explain(unknown))
        del options.parser
        return options

    def explain(self, unknown: Sequence[str]) -> list[Problem]:
        """Return a problem for each argument that this command does not have."""
        # What follows an unknown option may be its value.
        if not (flags := [text for text in unknown if text.startswith("-")]):
            what, remedy = f"is not an argument of {self.prog}.", f"See {self.prog} --help."
            return [Problem(text, what, remedy) for text in unknown]
        known = [name for name in self._option_string_actions if name.startswith("--")]
        names = [flag.partition("=")[0] for flag in flags]
        what = f"is not an option of {self.prog}."
        return [Problem(name, what, did_you_mean(name, known)) for name in names]

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with the message of argparse."""
        name, colon, what = message.removeprefix("argument ").partition(": ")
        if not colon:
            name, what = self.prog, message
        elif name.endswith("required"):
            name, what = self.prog, f"missing: {what}"
        if invalid := _INVALID.match(what):
            kind = "a whole number" if invalid[1] == "int" else "a number"
            what = f"{invalid[2]} is not {kind}"
        what = f"{what[:1].upper()}{what[1:]}."
        raise ConfigError(Problem(name, what, f"See {self.prog} --help."))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        hint = did_you_mean(str(value), action.choices)
        if isinstance(action, argparse._SubParsersAction):
            raise ConfigError(Problem(str(value), f"is not a command of {self.prog}.", hint))
        what = f"{value!r} is not a value of this option."
        raise ConfigError(Problem("/".join(action.option_strings), what, hint))


def command_group(
    commands: Any, name: str, about: str, shared: argparse.ArgumentParser, open_forge: OpenForge
) -> NewCommand:
    """Add a command that has subcommands, and return the function that adds one of them."""
    group = commands.add_parser(name, help=about, description=about)
    inside = group.add_subparsers(dest="what", required=True, metavar="WHAT")

    def new(name: str, act: Act, about: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = inside.add_parser(
            name, help=about, description=about, epilog=EXIT_CODES, parents=[shared]
        )
        command.set_defaults(act=lambda options: act(options, open_forge(options)))
        return command

    return new


def add_recipe(command: argparse.ArgumentParser) -> None:
    """Add the arguments that name a recipe and change its settings."""
    about = "recipe file (YAML or JSON), or preset:NAME; none if --set gives every setting"
    command.add_argument("recipe", type=Path, nargs="?", help=about)
    add_settings(command)


def add_settings(command: argparse.ArgumentParser) -> None:
    """Add the option `--set`."""
    about = "change a setting, as lora_r=16; may be repeated"
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=about)


def parse_assignments(pairs: list[str], flag: str) -> dict[str, str]:
    """Return the values of KEY=VALUE arguments. Raises ConfigError."""
    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(Problem(flag, f"{pair} has no =.", f"Write {flag} key=value."))
        values[key.strip()] = value
    return values


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Return the values of `--set`, with those of lists read as JSON. Raises ConfigError."""
    from modelforge.config.fields import specs_by_name

    values: dict[str, Any] = dict(parse_assignments(pairs, "--set"))
    for name, text in values.items():
        spec = specs_by_name().get(name)
        if spec is not None and spec.kind == "list":
            try:
                values[name] = json.loads(text)
            except (ValueError, RecursionError) as error:
                remedy = """Write JSON, such as [{"path": "rows.jsonl"}]."""
                raise ConfigError(Problem(name, "The value is not valid JSON.", remedy)) from error
    return values


def open_home(path: str | None) -> Home:
    """Return the home folder, which exists afterwards. Raises ConfigError if it cannot be made."""
    from modelforge.paths import find_home

    try:
        home = find_home(path)
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except UNUSABLE_PATH as error:
        given = path or os.environ.get("MODELFORGE_HOME") or "The data folder of this user"
        what = f"{shortened(given)} cannot be used as the home folder: {reason_of(error)}."
        remedy = "Choose another with --home or MODELFORGE_HOME."
        raise ConfigError(Problem("--home", what, remedy)) from error
    return home


def confirm(question: str) -> bool:
    """Ask a question with the answer yes or no at the terminal; return False without a terminal."""
    if not sys.stdin.isatty():
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def require_agreement(
    options: argparse.Namespace, where: str, question: str, refusal: str = "Nothing was deleted."
) -> None:
    """Ask before something is deleted. Raises ConfigError without the answer yes or --yes."""
    if not options.yes and (options.json or not confirm(question)):
        raise ConfigError(Problem(where, refusal, "Add --yes."))


def write_file(path: Path, text: str, *, is_new: bool = False) -> None:
    """Write a file that the user has named. Raises ConfigError.

    With `is_new` the file must not exist, not even as a link.
    """
    try:
        with path.open("x" if is_new else "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        remedy = "Choose another name, or delete the file."
        raise ConfigError(Problem(str(path), "The file exists.", remedy)) from error
    except UNUSABLE_PATH as error:
        raise not_written(path, error) from error


def not_written(path: Path, error: Exception) -> ConfigError:
    """Return the error for a file that the user has named and that cannot be written."""
    what = f"The file cannot be written: {reason_of(error)}."
    return ConfigError(Problem(shortened(str(path)), what, "Choose another file."))


def reason_of(error: Exception) -> str:
    """Return why a path cannot be used, without a period."""
    reason = getattr(error, "strerror", None) or str(error).rstrip(".")
    return shortened(reason) or type(error).__name__


def shortened(text: str) -> str:
    """Return a text that was given, shortened in the middle where it would fill the screen."""
    if len(text) <= MAX_SHOWN:
        return text
    return f"{text[: MAX_SHOWN // 2]}…{text[-MAX_SHOWN // 2 :]}"
