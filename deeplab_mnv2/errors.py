"""How a command ends early."""


class UserError(Exception):
    """A mistake in the input: one plain sentence naming the file or setting and the remedy.

    Commands print it without a traceback and exit with status 2 (`cli.command.run`).
    """

    def __init__(self, sentence: str):
        super().__init__(printable(sentence))


class Stopped(Exception):
    """A signal ended the work in good order; `status` is 128 + its number, as shells have it."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.status = 128 + signal


def printable(text: object) -> str:
    """Return a text in which whatever cannot be printed is written as Python writes it.

    A file name may hold any byte, line ends and what is no text among them.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(text)
    )
