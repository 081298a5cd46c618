"""Exceptions that the command line turns into a sentence and an exit status."""


class UserError(Exception):
    """A mistake the user can mend: the message is one sentence that names the file or flag and the remedy."""


class Interrupted(Exception):
    """A signal asked to stop; all is saved and the same command goes on."""
