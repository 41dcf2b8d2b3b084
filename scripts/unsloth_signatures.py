"""Write down what Unsloth's functions take, out of the source in its wheels; nothing is run.

    pip download --no-deps unsloth==2026.10.6 -d FOLDER
    python scripts/unsloth_signatures.py FOLDER/unsloth-2026.10.6-py3-none-any.whl

The result, `tests/modeling/providers/data/unsloth.json`, is what the calls of the provider are held against
where Unsloth is not installed: it does not start without an NVIDIA card.
"""

from __future__ import annotations

import argparse
import ast
import json
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "tests" / "modeling" / "providers" / "data" / "unsloth.json"
# What we call → where it is defined. FastLanguageModel hands some models and the arguments on.
FUNCTIONS = {
    "FastLanguageModel.from_pretrained": ("unsloth/models/loader.py", "FastLanguageModel"),
    "FastModel.from_pretrained": ("unsloth/models/loader.py", "FastModel"),
    "FastLanguageModel.get_peft_model": ("unsloth/models/llama.py", "FastLlamaModel"),
    "FastModel.get_peft_model": ("unsloth/models/vision.py", "FastBaseModel"),
}
# The switches that the worker sets so that nothing leaves this computer unasked.
SWITCHES = ("UNSLOTH_DISABLE_STATISTICS", "HF_HUB_OFFLINE")
ORDER = 'critical_modules = ["trl", "transformers", "peft"]'


def main() -> None:
    """Read the wheel that is named and write the signatures."""
    parser = argparse.ArgumentParser(description="Write down what Unsloth's functions take.")
    parser.add_argument("wheel", type=Path)
    wheel = parser.parse_args().wheel
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(read(wheel), indent=1) + "\n", encoding="utf-8")
    print(f"{OUT}: {wheel.name}")


def read(wheel: Path) -> dict[str, Any]:
    """Return version, requirements, arguments and switches of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        sources = {name: archive.read(name).decode() for name in archive.namelist() if _ours(name)}
    about = next(text for name, text in sources.items() if name.endswith("/METADATA"))
    heads = [line.partition(": ") for line in about.splitlines() if ": " in line]
    fields = [(name, value) for name, _, value in heads]
    return {
        "version": next(value for name, value in fields if name == "Version"),
        "requires": [
            value for name, value in fields if name == "Requires-Dist" and "extra ==" not in value
        ],
        "functions": {
            called: arguments(sources[file], owner, called.partition(".")[2])
            for called, (file, owner) in FUNCTIONS.items()
        },
        "switches": [
            switch for switch in SWITCHES if any(f'"{switch}"' in text for text in sources.values())
        ],
        "wants_to_be_before": ["trl", "transformers", "peft"]
        if ORDER in sources["unsloth/_gpu_init.py"]
        else [],
    }


def arguments(source: str, owner: str, name: str) -> dict[str, Any]:
    """Return the names that a method takes, and whether it takes others too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name == owner:
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == name:
                    taken = [*method.args.posonlyargs, *method.args.args, *method.args.kwonlyargs]
                    return {
                        "takes": [each.arg for each in taken],
                        "others": method.args.kwarg is not None,
                    }
    raise SystemExit(f"There is no {owner}.{name} any more.")


def _ours(name: str) -> bool:
    return (name.startswith("unsloth/") and name.endswith(".py")) or name.endswith("/METADATA")


if __name__ == "__main__":
    main()
