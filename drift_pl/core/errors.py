"""What the user can put right, said in one line that names the setting it is about."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SETTING: ContextVar[str] = ContextVar("setting", default="")


class UserError(ValueError):
    """Something that the user can put right: one line that says what is wrong, where, and a value that would work.

    Commands print the message and end with status 2, without a traceback.
    """


@contextmanager
def naming(setting: str) -> Iterator[None]:
    """Within it `named` speaks of this setting; a part that begins with a dot extends the setting around it.

    Example: a builder writes `with naming("rewards.0"):`, and what it calls `with naming(".args.pretrained"):`.
    """
    outer = _SETTING.get()
    token = _SETTING.set(f"{outer}{setting}".lstrip(".") if setting.startswith(".") else setting)
    try:
        yield
    finally:
        _SETTING.reset(token)


def named(value: object = None) -> str:
    """How an error begins: `SETTING=value`, or the setting alone; the value alone where no setting is known."""
    setting = _SETTING.get()
    if value is None:
        return setting
    return f"{setting}={value}" if setting else str(value)
