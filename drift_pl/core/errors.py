"""The one exception that a user's input may raise."""


class UserError(ValueError):
    """Something the user gave cannot be used.

    The message is one line that says what is wrong, where, and a value that would work. Commands print it on stderr
    and exit with status 2; `--debug` shows the traceback.
    """
