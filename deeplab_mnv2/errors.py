"""The one exception for mistakes a user can make and mend."""


class UserError(Exception):
    """A mistake in the input: one plain sentence naming the file or setting and the remedy.

    Commands print it without a traceback and exit with status 2 (`cli.run`).
    """
