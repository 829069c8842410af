"""Exported weights on the Hugging Face hub. The token is the user's login or HF_TOKEN: it is read by huggingface_hub
alone, and stands in no setting, file or message. No torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drift_pl.core.errors import UserError
from drift_pl.core.locate import first_line

KEY = "push_to_hub"
LOGIN = "log in with hf auth login, or set HF_TOKEN, and check the name"


def check_hub(name: str, private: bool) -> None:
    """Whether a push can work, before any weights are loaded.

    Args:
        name: OWNER/NAME of the repository.
        private: whether it must not be public.

    Raises:
        UserError: the name is none, there is no login, the hub cannot be reached, or the repository is public.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import HFValidationError, RepositoryNotFoundError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"{KEY}={name} is no name of a repository: use e.g. {KEY}=me/my-lora") from error
    if name.count("/") != 1:
        raise UserError(f"{KEY}={name} has no owner: use e.g. {KEY}=me/{name}")
    with _hub_errors(name):
        api = HfApi()
        api.whoami()
        try:
            found = api.repo_info(name)
        except RepositoryNotFoundError:
            return
    if private and not found.private:
        raise UserError(f"{KEY}={name} is there and public: give private=false to add to it, or another name")


def push_folder(folder: Path, name: str, private: bool) -> str:
    """Uploads an exported folder with its model card, and returns the repository's address.

    Raises:
        UserError: the card is damaged, or the hub refuses; the folder is complete and stays.
    """
    from huggingface_hub import HfApi, ModelCard

    with _hub_errors(name, f"{folder} is written and complete; push it again with: hf upload {name} {folder}"):
        ModelCard.load(folder / "README.md")  # a header that the hub could not read
        api = HfApi()
        url = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Add weights and model card")
    return str(url)


@contextmanager
def _hub_errors(name: str, remedy: str = LOGIN) -> Iterator[None]:
    """Failures of the hub in one line.

    Raises:
        UserError: whatever huggingface_hub, or the network under it, raised.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        yield
    except LocalTokenNotFoundError as error:
        raise UserError(f"{KEY}={name}: there is no login: {remedy}") from error
    except OfflineModeIsEnabled as error:
        raise UserError(f"{KEY}={name}: HF_HUB_OFFLINE is set: unset it to push") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise UserError(f"{KEY}={name}: the hub refuses (status {status}): {remedy}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{KEY}={name}: {first_line(error)}: {remedy}") from error
    except Exception as error:
        if "httpx" not in type(error).__module__ and "httpcore" not in type(error).__module__:
            raise
        raise UserError(f"{KEY}={name}: the hub cannot be reached ({type(error).__name__}): {remedy}") from error
