"""The nested groups about hardware and logging."""

from __future__ import annotations

from typing import Literal, get_args

from modelforge.config.schema.base import (
    ALL_CACHES,
    BOTH,
    MEMORY,
    SPEED,
    Group,
    Lines,
    Names,
    SettingsGroup,
    setting,
)

Sharding = Literal["none", "ddp", "fsdp2", "zero1", "zero2", "zero3"]
# Those that DeepSpeed does.
DEEPSPEED: tuple[Sharding, ...] = ("zero1", "zero2", "zero3")
CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
COMPILE_MODES: tuple[str, ...] = get_args(CompileMode)
TRACKERS = ("tensorboard", "trackio", "wandb", "mlflow", "aim")
# Endings of the name of a log file: appending to any other file might damage it.
LOG_ENDINGS = (".log", ".txt")
# Environment variables whose address takes precedence over the run folder.
TRACKER_ADDRESSES = {"mlflow": "MLFLOW_TRACKING_URI", "aim": "AIM_REPO"}


class Hardware(SettingsGroup):
    """Device and number format of training."""

    device: Literal["auto", "cuda", "mps", "cpu"] = setting(
        "auto", "Device", Group.HARDWARE, affects=BOTH, irrelevant_for=MEMORY
    )
    """The training device; auto uses a GPU when there is one."""

    gpu_index: int = setting(
        0, "GPU index", Group.HARDWARE, ge=0, le=63, affects=SPEED, irrelevant_for=MEMORY
    )
    """The GPU to use when there are several; of more than one, the first."""

    gpus: int = setting(1, "GPUs", Group.HARDWARE, ge=0, le=64, affects=BOTH)
    """The GPUs that train together; 0 for all from the GPU index on.

    A step has the same rows in the same order as on one GPU: they share its batches. With the
    device cpu it is the number of processes, which is a way to try it out.
    """

    sharding: Sharding = setting("none", "Sharding", Group.HARDWARE, affects=BOTH)
    """What several GPUs divide among them; none is ddp where there are several.

    With ddp each holds the whole model. fsdp2 divides weights, gradients and optimizer. zero1
    divides the optimizer, zero2 gradients too, zero3 weights too; these need DeepSpeed:
    `python launch.py setup --with deepspeed`.
    """

    sequence_parallel_size: int = setting(
        1, "Sequence parallelism", Group.HARDWARE, ge=1, le=64, affects=BOTH
    )
    """GPUs that share the tokens of one row, for rows that are too long for one GPU.

    It needs NVIDIA GPUs and fsdp2; the number of GPUs must be a multiple of it.
    """

    precision: Literal["auto", "bf16", "fp16", "fp32"] = setting(
        "auto", "Precision", Group.PRECISION, affects=BOTH, irrelevant_for=MEMORY
    )
    """Number format of training; auto uses the best of this machine.

    Used when neither fp16 nor bf16 is set. Auto means bf16 from compute capability 8.0, fp16 on
    older GPUs, fp32 on the CPU and on Apple GPUs. fp32 is exact on every device: TF32 stays off.
    """

    engine: Literal["inprocess", "surogate"] = setting("inprocess", "Engine", Group.HARDWARE)
    """What trains: ModelForge's own worker, or the separately installed program Surogate.

    With surogate the settings are written as its YAML and its program runs in place of the worker's
    training; its adapter becomes the result of the run. It needs Linux and an NVIDIA GPU of compute
    capability 8.0. Its program is looked for in MODELFORGE_SUROGATE, then on the PATH.
    """

    engine_options: Lines = setting(
        "", "Options of the engine", Group.HARDWARE, max_length=2000, multiline=True
    )
    """Options of Surogate's own kernels and buffers, such as offload_master: true; one per line.

    They are written into its YAML as they are. Known are those that are no settings here:
    recompute_swiglu and the other parts of a layer, offload_master, offload_quants, offload_grads,
    persistent_quants, use_zero_copy, gradient_dtype, master_dtype, fp8_amax_history, fp4_backend,
    lmhead_chunks, attn_bwd_chunks and others. Its importer writes them here.
    """

    max_gpu_temperature: int | None = setting(
        None,
        "GPU temperature limit",
        Group.HARDWARE,
        ge=30,
        le=110,
        unit="°C",
        irrelevant_for=MEMORY,
    )
    """Training pauses between steps above this temperature; empty for no limit.

    It resumes 5 °C below the limit. Pauses are not counted in tokens/s or seconds per step, but the
    run takes longer than estimated.
    """

    max_gpu_power: int | None = setting(
        None, "GPU power limit", Group.HARDWARE, ge=20, le=2000, unit="W", irrelevant_for=MEMORY
    )
    """Training pauses between steps above this power draw; empty for no limit.

    It resumes after at least 3 seconds, once the GPU draws 5 % less than the limit. For a constant
    limit use nvidia-smi -pl instead.
    """

    torch_compile_mode: CompileMode = setting(
        "default", "Compiler mode", Group.TRAINING, irrelevant_for=ALL_CACHES
    )
    """For a compiled model: how much time the compiler takes to find faster code.

    reduce-overhead and max-autotune record CUDA graphs: for batches of one shape, as with packing,
    on an NVIDIA GPU and weights that are not quantized.
    """

    regional_compilation: bool = setting(
        False, "Compile layers once", Group.TRAINING, irrelevant_for=MEMORY
    )
    """For a compiled model: compile one layer and use its code for all, which starts sooner."""


class Logging(SettingsGroup):
    """Name of the run, logging interval and experiment trackers."""

    run_name: str | None = setting(None, "Run name", Group.LOGGING, max_length=80)
    """Name of the run in lists; empty generates one."""

    logging_steps: int = setting(1, "Log every", Group.LOGGING, ge=1, unit="steps")
    """Steps between two logged points."""

    report_to: Names = setting("", "Trackers", Group.LOGGING, max_length=200)
    """Experiment trackers: tensorboard, trackio, wandb, mlflow, aim.

    Each is installed on demand, for instance with `python launch.py setup --with tensorboard`. They
    write to the run folder; nothing leaves this computer unless wandb is online or an address of
    MLflow or Aim is set in the environment.
    """

    project: str = setting("modelforge", "Project", Group.LOGGING, min_length=1, max_length=80)
    """The project under which trackers list the run."""

    experiment: str | None = setting(None, "Experiment", Group.LOGGING, min_length=1, max_length=80)
    """The experiment under which MLflow and Aim list the run; empty uses the project."""

    repo: str | None = setting(None, "Aim repository", Group.LOGGING, min_length=1, max_length=4096)
    """The folder or address of the Aim repository; empty stores it in the run folder.

    Write the whole path of a folder, or an address such as aim://host:53800, to which the metrics
    are then sent. It has precedence over AIM_REPO in the environment.
    """

    wandb_mode: Literal["offline", "online"] = setting("offline", "W&B mode", Group.LOGGING)
    """offline keeps the metrics on this computer; online sends them to your account.

    The key is read from WANDB_API_KEY or from `wandb login`, and is never stored.
    """

    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "Log level", Group.LOGGING
    )
    """What the log contains: info has every phase and step, warning has messages and the ending.

    debug adds the messages of the libraries, and error leaves all but the ending. A failure is
    always in the log with its traceback. Pages and charts do not depend on it.
    """

    time_breakdown: bool = setting(False, "Measure time by part", Group.LOGGING)
    """Measure how long data, forward pass, backward pass, optimizer, evaluation and saving take.

    The page of the run shows it as a table and a bar. On a GPU the times are those of CUDA events,
    so that measuring does not make the GPU wait.
    """

    memory_breakdown: bool = setting(False, "Measure memory by part", Group.LOGGING)
    """Measure how much memory weights, gradients, optimizer and activations take.

    The page of the run shows it beside the estimate of the plan. Activations are what remains of
    the peak, so they include temporary tensors.
    """

    log_file: str | None = setting(
        None, "Copy of the log", Group.LOGGING, min_length=5, max_length=4096
    )
    """A file to which the lines of the log are appended; empty for the run folder alone.

    Write the whole path of a file that ends in .log or .txt, in a folder that exists. The log in
    the run folder is kept as well.
    """


def is_address(repo: str) -> bool:
    """Return whether the repository of a tracker is on another computer, not in a folder."""
    return "://" in repo
