"""Push a finished export to a repository of the Hugging Face Hub.

All files become visible in one commit at the end, so that nothing incomplete is ever in the
repository. Large files are uploaded before, one by one; what the Hub has already, from a push that
was interrupted, is not sent again: whole files by their SHA-256, and parts of a file where the
package hf_xet is installed. The token is the one that huggingface_hub finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import _xet_progress_reporting

from modelforge.errors import ForgeError, Problem, RunError
from modelforge.export.job import Job
from modelforge.modeling.errors import first_line
from modelforge.runs.jobs import StepWriter

WHERE = "hub"
MESSAGE = "Upload with ModelForge"
_LOGIN = "Run `hf auth login` with a token that may write, or set HF_TOKEN, then push again."
_AGAIN = "Push again: what has been uploaded is not sent twice."


def publish(job: Job, folder: Path, steps: StepWriter) -> str:
    """Push the files of an export as was asked for; return the address of the repository."""
    return push(folder, job.request.repository, steps, private=job.request.private)


def push(folder: Path, repository: str, steps: StepWriter, *, private: bool = True) -> str:
    """Upload all files of a folder to a new or existing repository; return its address.

    `private` refuses an existing repository that is public; otherwise one stays as it is.

    Raises:
        RunError: Access is denied, the repository or the network fails, or a file cannot be read.
    """
    steps.begin("repository", f"Opening {repository}")
    with _errors(repository):
        api = HfApi()
        address = _open(api, repository, private=private)
        repository = address.repo_id
        steps.begin("upload", f"Uploading to {repository}")
        progress = _Progress(folder, steps)
        additions = [_Addition.of(path, folder, progress) for path in progress.paths]
        with _counting_xet(progress):
            for addition in additions:
                api.preupload_lfs_files(repository, [addition], free_memory=False)
                progress.complete(addition)
        api.create_commit(repository, additions, commit_message=MESSAGE)
    return str(address)


def _open(api: HfApi, repository: str, *, private: bool) -> huggingface_hub.RepoUrl:
    """Return the address of a new or existing repository that is as private as was asked for."""
    if constants.HF_HUB_OFFLINE:
        raise _problem("HF_HUB_OFFLINE prevents access to the Hub.", "Unset it, and push again.")
    if huggingface_hub.get_token() is None:
        raise _problem("There is no token for the Hugging Face Hub.", _LOGIN)
    address = api.create_repo(repository, private=private, exist_ok=True)
    if private and not api.model_info(address.repo_id).private:
        what = f"Everybody can see {address.repo_id}, which exists already."
        remedy = "Push to another repository, or say that it is to be public."
        raise _problem(what, remedy)
    return address


class _Progress:
    """The share of bytes that are uploaded, or were found on the Hub."""

    def __init__(self, folder: Path, steps: StepWriter) -> None:
        self.paths = sorted(path for path in folder.rglob("*") if path.is_file())
        self._total = sum(path.stat().st_size for path in self.paths) or 1
        self._steps = steps
        self._complete = 0

    def report(self, of_file: int) -> None:
        """Report how many bytes of the current file were sent."""
        self._steps.share((self._complete + of_file) / self._total)

    def complete(self, addition: CommitOperationAdd) -> None:
        """Count a whole file."""
        self._complete += addition.upload_info.size
        self.report(0)


class _Addition(CommitOperationAdd):
    """A file of a commit, which reports how much of it was read for an upload."""

    progress: _Progress

    @classmethod
    def of(cls, path: Path, folder: Path, progress: _Progress) -> _Addition:
        addition = cls(path.relative_to(folder).as_posix(), path)
        addition.progress = progress
        return addition

    @contextmanager
    def as_file(self, with_tqdm: bool = False) -> Iterator[BinaryIO]:
        with super().as_file() as file:
            if with_tqdm:
                read = file.read

                def counted(size: int = -1) -> bytes:
                    data: bytes = read(size)
                    self.progress.report(file.tell())
                    return data

                file.read = counted  # type: ignore[method-assign]
            yield file


@contextmanager
def _counting_xet(progress: _Progress) -> Iterator[None]:
    """Report the progress of hf_xet, for which huggingface_hub only has bars on a terminal."""

    class Reporter:
        def update_progress(self, group: Any, _items: dict[str, Any]) -> None:
            progress.report(int(group.total_bytes_completed))

        def close(self) -> None:
            """Do nothing: there is no bar."""

    drawn = _xet_progress_reporting.XetUploadProgressReporter
    _xet_progress_reporting.XetUploadProgressReporter = Reporter  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        _xet_progress_reporting.XetUploadProgressReporter = drawn  # type: ignore[misc]


@contextmanager
def _errors(repository: str) -> Iterator[None]:
    """Turn the errors of the Hub's client into RunError."""
    try:
        yield
    except ForgeError:
        raise
    except Exception as error:  # the client raises many kinds, also bare ones of hf_xet
        raise _explained(repository, error) from error


def _explained(repository: str, error: Exception) -> RunError:
    causes = list(_causes(error))
    status = next((code for each in causes if (code := _status(each)) is not None), None)
    if any(isinstance(each, OfflineModeIsEnabled) for each in causes):
        what = "HF_HUB_OFFLINE prevents access to the Hub."
        return _problem(what, "Unset it, and push again.")
    if any(isinstance(each, LocalTokenNotFoundError) for each in causes):
        return _problem("There is no token for the Hugging Face Hub.", _LOGIN)
    if status in _BY_STATUS:
        what, remedy = _BY_STATUS[status]
        return _problem(what.format(repository=repository), remedy)
    if any(isinstance(each, RepositoryNotFoundError) for each in causes):
        what, remedy = _BY_STATUS[404]
        return _problem(what.format(repository=repository), remedy)
    if status is not None:
        return _problem(f"The Hub answered {status} while uploading to {repository}.", _AGAIN)
    if any(isinstance(each, (httpx.HTTPError, TimeoutError, ConnectionError)) for each in causes):
        what = "The Hub cannot be reached, or the connection broke."
        return _problem(what, f"Check the network. {_AGAIN}")
    return _problem(f"The upload to {repository} failed: {first_line(error)}", _AGAIN)


_BY_STATUS = {
    401: ("The Hub does not accept the token.", _LOGIN),
    402: (
        "The Hub asks for payment: the account has no space left for private files.",
        "Free space there, or push to a public repository.",
    ),
    403: (
        "The token may not write to {repository}.",
        "Use a token with write access to this user or organization, or another repository.",
    ),
    404: (
        "There is no user or organization for {repository}, or the token cannot see it.",
        "Check the spelling of the part before the slash.",
    ),
    409: (
        "{repository} was changed by someone else during the upload.",
        _AGAIN,
    ),
    412: (
        "{repository} was changed by someone else during the upload.",
        _AGAIN,
    ),
    413: ("A file is too large for the Hub.", "Export in a smaller format."),
    429: ("The Hub takes no more requests for now.", f"Wait a few minutes. {_AGAIN}"),
}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return int(error.response.status_code)
    return None


def _problem(what: str, remedy: str) -> RunError:
    return RunError(Problem(WHERE, what, remedy))
