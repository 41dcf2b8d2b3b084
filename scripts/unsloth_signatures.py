"""Write the signatures of Unsloth's functions, parsed from its wheel without running it.

    pip download --no-deps unsloth==2026.10.6 -d FOLDER
    python scripts/unsloth_signatures.py FOLDER/unsloth-2026.10.6-py3-none-any.whl

The result, `tests/modeling/providers/data/unsloth.json`, lets the provider's calls be tested where
Unsloth is not installed, because it cannot be imported without an NVIDIA GPU.
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
# Called function → module and class that define it. FastLanguageModel delegates some models.
FUNCTIONS = {
    "FastLanguageModel.from_pretrained": ("unsloth/models/loader.py", "FastLanguageModel"),
    "FastModel.from_pretrained": ("unsloth/models/loader.py", "FastModel"),
    "FastLanguageModel.get_peft_model": ("unsloth/models/llama.py", "FastLlamaModel"),
    "FastModel.get_peft_model": ("unsloth/models/vision.py", "FastBaseModel"),
}
# Environment variables that the worker sets to disable telemetry and downloads.
SWITCHES = ("UNSLOTH_DISABLE_STATISTICS", "HF_HUB_OFFLINE")
ORDER = 'critical_modules = ["trl", "transformers", "peft"]'


def main() -> None:
    """Read the given wheel and write the signatures."""
    parser = argparse.ArgumentParser(description="Write the signatures of Unsloth's functions.")
    parser.add_argument("wheel", type=Path)
    wheel = parser.parse_args().wheel
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(read(wheel), indent=1) + "\n", encoding="utf-8")
    print(f"{OUT}: {wheel.name}")


def read(wheel: Path) -> dict[str, Any]:
    """Return version, requirements, signatures and environment variables of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        sources = {
            name: archive.read(name).decode() for name in archive.namelist() if _is_read(name)
        }
    metadata = next(text for name, text in sources.items() if name.endswith("/METADATA"))
    headers = [line.partition(": ") for line in metadata.splitlines() if ": " in line]
    fields = [(name, value) for name, _, value in headers]
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
    """Return the parameter names of a method, and whether it accepts more keyword arguments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name == owner:
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == name:
                    parameters = [
                        *method.args.posonlyargs,
                        *method.args.args,
                        *method.args.kwonlyargs,
                    ]
                    return {
                        "takes": [each.arg for each in parameters],
                        "others": method.args.kwarg is not None,
                    }
    raise SystemExit(f"{owner}.{name} does not exist any more.")


def _is_read(name: str) -> bool:
    return (name.startswith("unsloth/") and name.endswith(".py")) or name.endswith("/METADATA")


if __name__ == "__main__":
    main()
