"""Errors that the user can fix, in one line that names the setting."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SETTING: ContextVar[str] = ContextVar("setting", default="")


class UserError(ValueError):
    """An error that the user can fix: one line that says what is wrong, where, and gives a value that works.

    Commands print the message and end with status 2, without a traceback.
    """


@contextmanager
def naming(setting: str) -> Iterator[None]:
    """Sets the setting that `named` puts into errors; a part that begins with a dot extends the enclosing setting.

    Example: a builder writes `with naming("rewards.0"):`, and what it calls `with naming(".args.pretrained"):`.
    """
    outer = _SETTING.get()
    token = _SETTING.set(f"{outer}{setting}".lstrip(".") if setting.startswith(".") else setting)
    try:
        yield
    finally:
        _SETTING.reset(token)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes, outermost first: libraries wrap errors of others in their own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def named(value: object = None) -> str:
    """Start of an error message: `SETTING=value`, the setting alone, or the value alone if no setting is known."""
    setting = _SETTING.get()
    if value is None:
        return setting
    return f"{setting}={value}" if setting else str(value)
