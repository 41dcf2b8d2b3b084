"""Causes in the settings: packages, layers, precision, data and chat templates."""

from __future__ import annotations

from functools import partial

from modelforge.diagnosis.cause import KnownCause
from modelforge.diagnosis.causes_machine import DOCTOR

_template = partial(KnownCause, where="model.chat_template", fix="own-template")

# Searched from top to bottom: specific causes come first.
ENTRIES = (
    KnownCause(
        "loss-not-finite",
        "The loss became NaN or infinite, so training cannot continue.",
        "Lower the learning rate, or train in bf16 or fp32 instead of fp16.",
        (r"\bloss became (nan|-?inf)", r"gradients became no number"),
        where="training",
        fix="gentler",
    ),
    KnownCause(
        "flash-attention",
        "Flash attention is not installed, or does not support this GPU.",
        "Set the attention implementation to sdpa, which is nearly as fast.",
        (
            r"flashattention\d? has been toggled on",
            r"flashattention only supports",
            r"no module named '?flash_attn",
            r"flash_attn.{0,40}not (be )?installed",
        ),
        where="model.attn_implementation",
        fix="plain-attention",
    ),
    KnownCause(
        "attention-unsupported",
        "This model does not support the chosen attention implementation.",
        "Set the attention implementation to eager.",
        (r"does not support an attention implementation",),
        where="model.attn_implementation",
        fix="eager-attention",
    ),
    KnownCause(
        "quantizing-unavailable",
        "bitsandbytes does not work here: it was not built for this torch, CUDA or GPU.",
        f"{DOCTOR} Or train without quantization.",
        (
            r"bitsandbytes native library",
            r"(cuda|rocm|xpu) setup error",
            r"libbitsandbytes\w*\.(so|dll|dylib)",
            r"bitsandbytes.{0,60}(compiled without gpu support|requires the latest version)",
            r"could not find the bitsandbytes",
            r"no module named '?bitsandbytes",
        ),
        where="quantization",
        fix="plain-weights",
    ),
    KnownCause(
        "provider-broken",
        "Unsloth does not work on this computer.",
        "Run `python launch.py setup --with unsloth` again, or choose the provider huggingface.",
        (
            r"no module named '?unsloth",
            r"unsloth cannot find any torch accelerator",
            r"unsloth: .{0,60}(failed|not supported|cannot|could not)",
        ),
        where="provider",
        fix="huggingface",
    ),
    KnownCause(
        "library-mismatch",
        "Two installed libraries are incompatible.",
        DOCTOR,
        (
            r"undefined symbol: ",
            r"\boperator torch\w+::\w+ does not exist",
            r"torch and torch(vision|audio) (were|was|have been) compiled with different cuda",
            r"version `glibcx{0,2}_[\d.]+' not found",
            r"cannot open shared object file",
            r"dll load failed",
            r"error loading .{0,300}\.dll",
        ),
        where="packages",
        fix="machine",
        inferred=False,
    ),
    KnownCause(
        "package-missing",
        "A package that the run needs is not installed.",
        DOCTOR,
        (r"modulenotfounderror", r"\bno module named ", r"\bimporterror: .{0,80} requires "),
        where="packages",
        fix="machine",
    ),
    KnownCause(
        "layers-unknown",
        "The model has no layers with these names.",
        "Set the target modules to all-linear, or to layers of the model.",
        (r"target modules .{0,400} not found in the base model", r"nomatchingpeftmoduleerror"),
        where="adapter.target_modules",
        fix="all-layers",
    ),
    KnownCause(
        "nothing-trained",
        "The model has no trainable weights.",
        "Set the target modules to all-linear.",
        (
            r"element 0 of tensors does not require grad",
            r"no inf checks were recorded",  # by fp16's gradient scaler
        ),
        where="adapter",
        fix="all-layers",
    ),
    KnownCause(
        "start-failed",
        "The adapter could not be initialized from the weights of the model.",
        "Set the adapter initialization to default.",
        (r"\blinalg(error|\.svd)\b", r"\bsvd\b.{0,60}failed to converge"),
        where="adapter.init",
        fix="default-start",
    ),
    KnownCause(
        "number-format",
        "This device does not support the chosen precision.",
        "Set the precision to fp32 or auto.",
        (
            r"doesn't support bf16",
            r"not implemented for '(half|bfloat16|float8_\w+)'",
            r"expected scalar type (half|bfloat16|float|double)",
            r"attempting to unscale fp16 gradients",
            r"bfloat16 is (only|not) supported",
            r"must have the same dtype",
        ),
        where="hardware.precision",
        fix="full-precision",
    ),
    KnownCause(
        "too-long",
        "An example exceeds the context of the model, or has tokens outside its vocabulary.",
        "Lower the maximum sequence length, and use the tokenizer of the model.",
        (
            r"index out of range in self",
            r"device-side assert triggered",
            r"srcindex < srcselectdimsize",
            r"(exceeds?|longer than) .{0,30}max_position_embeddings",
        ),
        where="max_seq_length",
        fix="shorter",
    ),
    _template(
        "template-missing",
        "The data has conversations, but the model has no chat template.",
        "Set the chat template to chatml.",
        (r"chat_template is not set", r"does not have a chat template"),
    ),
    _template(
        "template-refuses",
        "The chat template of the model does not support the roles or their order in the data.",
        "Repair the messages with the data checks, or set the chat template to chatml.",
        (r"roles must alternate", r"system role (is )?not supported"),
        where="data",
    ),
    _template(
        "template-broken",
        "The chat template has an error.",
        "Correct its file, or set the chat template to chatml.",
        (r"\b(template(syntax|assertion|runtime)?|undefined)error\b", r"jinja2?\.exceptions"),
    ),
    KnownCause(
        "wrong-column",
        "The data has no column with that name, or the columns of its files differ.",
        "Choose the columns of prompt and completion in the column mapping.",
        (
            r"column(s)? name.{0,200} not in the dataset",
            r"column '[^']*' doesn't exist",
            r"data files must have the same columns",
            r"\bcasterror\b",
        ),
        where="dataset",
    ),
    KnownCause(
        "compiling-failed",
        "A part of the model could not be compiled on this computer.",
        "Install a C compiler, the header files of Python and Triton (on Debian and Ubuntu "
        "`sudo apt install gcc python3-dev`), or use the provider huggingface without "
        "torch.compile.",
        (
            r"failed to find c compiler",
            r"python\.h: no such file",
            r"out of resource: shared memory",
            r"too old to be supported by the triton",
            r"backendcompilerfailed",
            r"inductorerror",
            r"working triton installation",
            r"torch\._dynamo\.exc",
        ),
        where="torch",
        fix="huggingface",
    ),
    KnownCause(
        "fp16-needs-gpu",
        "Training in fp16 needs a GPU; this run uses the CPU.",
        "Choose bf16, or leave both fp16 and bf16 off.",
        where="fp16",
        fix="full-precision",
    ),
)
