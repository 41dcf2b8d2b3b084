"""Causes in the model and its download: the Hub, the network, weight files."""

from __future__ import annotations

from functools import partial

from modelforge.diagnosis.cause import KnownCause

ANOTHER = "Choose another model."
NETWORK = "Check the network, then start again. Files that were downloaded are kept."

_hub = partial(KnownCause, where="Hub", fix="again")
_model = partial(KnownCause, where="model_name")

# Searched from top to bottom: specific causes come first.
ENTRIES = (
    _hub(
        "model-gated",
        "The model is gated: its authors must grant access first.",
        "Ask for access on its Hub page, then log in with `hf auth login`.",
        (
            r"access (a )?gated repo",
            r"is a gated repository",
            r"\b403 (client error|forbidden)",
            r"awaiting a review from the repo authors",
        ),
        where="model_name",
    ),
    _hub(
        "hub-login",
        "The Hub does not accept your token.",
        "Log in again with `hf auth login`, or correct HF_TOKEN, then start again.",
        (r"invalid credentials in authorization header", r"invalid user token"),
    ),
    _model(
        "model-unsafe",
        "The model has no safetensors weights, or needs code of its own; neither is supported.",
        ANOTHER,
        (
            r"weights only load failed",
            r"unpicklingerror",
            r"serious vulnerability issue in .torch\.load",
            r"trust_remote_code=true",
            r"(no file named|not appear to have a file named) \S*\.safetensors",
        ),
    ),
    _model(
        "model-missing",
        "The model cannot be found.",
        "Check the name or folder, and that you may see it if it is private.",
        (
            r"\b(repository|revision|entry) not found\b",
            r"is not a valid model identifier",
            r"is not a valid git identifier",
            r"does not appear to have a file named",
            r"no file named \S+.* found in directory",
            r"repo id must ",
        ),
    ),
    _hub(
        "hub-offline",
        "Hub access is disabled, and the files are not on this computer.",
        "Unset HF_HUB_OFFLINE, or choose a local model or dataset.",
        (r"offline ?mode is ?enabled", r"outgoing traffic has been disabled"),
    ),
    _hub(
        "hub-busy",
        "The Hub limits your requests for a while.",
        "Wait some minutes, or log in with `hf auth login`, then start again.",
        (r"\b429 (client error|too many requests)",),
    ),
    _hub(
        "hub-certificate",
        "The connection to the Hub is not trusted: its certificate cannot be checked.",
        "Correct the computer's clock, or give your network's certificate in SSL_CERT_FILE.",
        (r"certificate.?verify.?failed", r"\bssl(error|: [a-z_]+)", r"\bsslcertverification"),
    ),
    _hub(
        "hub-proxy",
        "The proxy does not let the worker through to the Hub.",
        "Check HTTPS_PROXY and its password, or unset it, then start again.",
        (
            r"\bproxyerror\b",
            r"\b407 proxy authentication",
            r"cannot connect to proxy",
            r"tunnel connection failed",
        ),
    ),
    _hub(
        "hub-down",
        "The Hub reported an internal error.",
        "Wait some minutes, then start again.",
        (r"\b50[0234] (server error|bad gateway|service unavailable|internal server|gateway)",),
    ),
    _hub(
        "hub-unreachable",
        "The Hub cannot be reached.",
        NETWORK,
        (
            r"couldn't connect to 'http",
            r"cannot find the requested files in the local cache",
            r"name or service not known",
            r"name resolution",
            r"nodename nor servname",
            r"getaddrinfo failed",
            r"network is unreachable",
            r"no route to host",
            r"connection (refused|reset|aborted)",
            r"\bconnecterror\b",
            r"max retries exceeded",
            r"remoteprotocolerror",
            r"peer closed connection",
        ),
    ),
    _hub(
        "timeout",
        "Something that the worker waited for did not answer in time.",
        NETWORK,
        (r"\b(read|connect|pool)timeout\b", r"\btimeouterror\b", r"(connection|read) timed out"),
        where="network",
    ),
    _model(
        "weights-damaged",
        "A file with weights is damaged or not complete.",
        "Delete that file or folder and fetch the model again.",
        (
            r"error while deserializing header",
            r"metadataincompletebuffer|headertoo(large|small)|invalidheader",
            r"pytorchstreamreader failed",
            r"consistency check failed",
        ),
    ),
    _model(
        "weights-shape",
        "The weights are of another shape than the model's description says.",
        "Fetch the model again, or choose another one.",
        (r"size mismatch for \S+", r"ignore_mismatched_sizes"),
    ),
    _model(
        "tokenizer-missing",
        "The model's tokenizer is missing or needs a package that is not here.",
        "Choose a model that has a tokenizer.json.",
        (
            r"couldn't instantiate the backend tokenizer",
            r"can't load tokenizer for",
            r"tokenizer class \S+ does not exist",
            r"need to have sentencepiece",
        ),
    ),
    _model(
        "model-unsupported",
        "The installed transformers does not know this kind of model.",
        ANOTHER,
        (
            r"does not recognize this architecture",
            r"unrecognized model in ",
            r"unrecognized configuration class",
        ),
    ),
)
