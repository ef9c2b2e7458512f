"""How a command ends early."""


class UserError(Exception):
    """A mistake in the input: one plain sentence naming the file or setting and the remedy.

    Commands print it without a traceback and exit with status 2 (`cli.command.run`).
    """


class Stopped(Exception):
    """A signal ended the work in good order; `status` is 128 + its number, as shells have it."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.status = 128 + signal
