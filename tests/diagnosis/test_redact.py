"""What leaves the computer in a support bundle: planted secrets do not survive, facts do."""

from __future__ import annotations

import json
import random
import string

import pytest

from modelforge.diagnosis.redact import Redactor

# Made up here, piece by piece, so that nothing in this file looks like a secret itself.
LETTERS = string.ascii_letters + string.digits


def made(rng: random.Random, count: int, letters: str = LETTERS) -> str:
    return "".join(rng.choice(letters) for _ in range(count))


def tokens(rng: random.Random) -> dict[str, str]:
    body = made(rng, 34)
    return {
        "hub": f"hf_{body}",
        "openai": f"sk-{'proj-' * rng.randrange(2)}{body}",
        "github": f"ghp_{made(rng, 36)}",
        "wandb": made(rng, 40, "0123456789abcdef"),
        "wandb-new": f"wandb_v1_{made(rng, 60)}",
        "aws": f"AKIA{made(rng, 16, string.ascii_uppercase + string.digits)}",
        "slack": f"xoxb-{made(rng, 12, string.digits)}-{made(rng, 20)}",
        "jwt": f"eyJ{made(rng, 20)}.{made(rng, 30)}.{made(rng, 20)}",
    }


# Where a token may stand. {0} is the token, whatever its kind.
PLACES = [
    "{0}",
    "Authorization: Bearer {0}",
    '{{"HF_TOKEN": "{0}"}}',
    "HF_TOKEN={0} python -m modelforge",
    "export WANDB_API_KEY='{0}'",
    "https://user:{0}@huggingface.co/m/resolve/main/x",
    "https://{0}@github.com/a/b.git",
    "url?token={0}&x=1",
    "--password={0}",
    "api-key: {0},",
    "'access_token': '{0}'",
    'line\n  File "x.py", line 3, in y\n    login(token="{0}")\n',
    "wrong token {0}.",
]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("place", PLACES)
def test_no_token_survives_wherever_it_stands(place: str, seed: int) -> None:
    rng = random.Random(seed)
    for kind, token in tokens(rng).items():
        redacted = Redactor().redact(f"before {place.format(token)} after")
        assert token not in redacted, kind
        assert token[6:-2] not in redacted, kind


@pytest.mark.parametrize("seed", range(20))
def test_a_secret_of_no_known_shape_is_known_by_its_name_or_the_environment(seed: int) -> None:
    rng = random.Random(seed)
    secret = made(rng, rng.randrange(8, 30), LETTERS + "-_.+")
    named = [
        f"MY_PASSWORD={secret}",
        f'"client_secret": "{secret}"',
        f"postgres://bob:{secret}@db/x",
        f"Authorization: Basic {made(rng, 20)}",
    ]
    for text in named[:3]:
        assert secret not in Redactor().redact(text)
    known = Redactor.for_this_computer({"MLFLOW_TRACKING_PASSWORD": secret, "LANG": "de_DE"})
    assert secret not in known.redact(f"something wrote {secret} somewhere, de_DE")
    assert "de_DE" in known.redact("de_DE")


HOMES = [
    "/home/{0}/models/x",
    "/Users/{0}/models/x",
    "C:\\Users\\{0}\\models",
    "C:\\\\Users\\\\{0}\\\\models",
    "c:/Users/{0}/models",
    "/mnt/c/Users/{0}/x",
    "/c/Users/{0}/x",
    "file:///home/{0}/x",
    "%2Fhome%2F{0}%2Fx",
    "D:\\Documents and Settings\\{0}\\x",
    "/var/home/{0}/x",
    "/export/home/{0}/x",
    "HOME=/home/{0}",
    '"path": "/home/{0}"',
    "\\\\?\\C:\\Users\\{0}\\x",
]


@pytest.mark.parametrize("name", ["marleen", "j.doe", "bob-2", "Łukasz", "annaschmidt"])
@pytest.mark.parametrize("place", HOMES)
def test_no_home_folder_survives_in_any_spelling(place: str, name: str) -> None:
    redacted = Redactor().redact(f"No such file: {place.format(name)}")
    assert name not in redacted
    assert "~" in redacted


def test_one_s_own_home_and_names_are_hidden_wherever_they_lie() -> None:
    redactor = Redactor(
        homes=["/data/people/marleen", "C:\\Work\\marleen", "/root"],
        names=["marleen", "KITCHEN-PC"],
    )
    for text in (
        "/data/people/marleen/models", "c:\\work\\Marleen\\x", "C:\\\\Work\\\\marleen\\\\x",
        "C:/Work/marleen", "/mnt/c/Work/marleen/x", "%2Fdata%2Fpeople%2Fmarleen",
        "user marleen on kitchen-pc", "marleen@kitchen-pc:~$", "runs of marleen_2",
    ):  # fmt: skip
        hidden = redactor.redact(text).lower()
        assert "marleen" not in hidden, text
        assert "kitchen" not in hidden, text
    assert redactor.redact("/root/.cache") == "~/.cache"
    assert redactor.redact("/rootfs/x") == "/rootfs/x"


def test_addresses_are_hidden() -> None:
    redacted = Redactor().redact("write to anna.schmidt+x@mail.example.co.uk, or <bob@example.com>")
    assert "@" not in redacted
    assert "example" not in redacted


def test_private_keys_are_hidden_whole() -> None:
    kind = "PRIVATE KEY"
    redacted = Redactor().redact(
        f"x -----BEGIN RSA {kind}-----\nabc\ndef\n-----END RSA {kind}----- y"
    )
    assert (redacted.startswith("x "), redacted.endswith(" y"), "abc" in redacted) == (
        True,
        True,
        False,
    )


FACTS = [
    "update 12  loss 0.407  rate 5.0e-04  503 tok/s",
    "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    "tokens_per_s: 410.52, trained_tokens=5766, eos_token: '<|im_end|>', pad_token_id: 2",
    "tokenizer: AutoTokenizer, author: unknown, max_new_tokens=256",
    'File "modelforge/train/worker.py", line 66, in run_worker',
    "token: None, auth=true, password=",
    "torch 2.13.0+cpu, transformers 5.17.0",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "Qwen/Qwen3-4B@main is 2.6 GiB",
    "https://huggingface.co/Qwen/Qwen3-4B/resolve/main/config.json",
    "learning_rate=2e-4",
]


@pytest.mark.parametrize("fact", FACTS)
def test_what_helps_is_kept(fact: str) -> None:
    assert Redactor().redact(fact) == fact


def test_plain_data_is_made_fit_all_through() -> None:
    rng = random.Random(1)
    secret = made(rng, 20)
    data = {
        "config": {"model_name": "/home/anna/m", "wandb_api_key": secret, "r": 16, "on": None},
        "list": [f"token={secret}", 3.5, {"/Users/anna/x": True}],
    }
    redacted = json.dumps(Redactor().redact_data(data))
    assert secret not in redacted
    assert "anna" not in redacted
    assert json.loads(redacted)["config"]["r"] == 16
    assert json.loads(redacted)["list"][1] == 3.5


def test_hiding_twice_changes_nothing_more() -> None:
    text = "HF_TOKEN=hf_" + "a" * 30 + " in /home/anna/x, mail a@b.de, Bearer " + "b" * 20
    once = Redactor().redact(text)
    assert Redactor().redact(once) == once


UNITS = [
    "a",
    "token",
    "secret_key ",
    "a.",
    "a@",
    "a@a.",
    "eyJ-",
    "http",
    "sk-",
    "://",
    "-----BEGIN ",
]


@pytest.mark.parametrize(
    "unit", [*UNITS, "/home", "\\", "%2F", "token = ", "auth:", " ", "=", "\t"]
)
def test_a_long_line_is_redacted_at_all(unit):
    """Patterns that read the rest of the line at each of its places would take hours."""
    text = Redactor.for_this_computer({}).redact(unit * (60_000 // len(unit)))
    assert text
