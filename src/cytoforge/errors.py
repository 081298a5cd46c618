"""Exceptions that the command line turns into a sentence and an exit status."""

import errno


class UserError(Exception):
    """An error that the user can correct: the message is one sentence that names the file or flag and the remedy."""


class Interrupted(Exception):
    """A signal interrupted the work; everything is saved, and the same command continues it."""


REFUSALS = {  # system error: (meaning, remedy)
    errno.EACCES: ("may not be read or written by this user", "change its permissions, or choose another place"),
    errno.EPERM: ("may not be changed by this user", "change its permissions, or choose another place"),
    errno.EROFS: ("lies on a disk that can only be read", "choose another place"),
    errno.ENOENT: ("does not exist", "check the name"),
    errno.ENOTDIR: ("cannot be there, as a part of its path is a file", "check the path"),
    errno.EISDIR: ("is a folder where a file is expected", "give a file"),
    errno.EEXIST: ("exists already", "choose another name"),
    errno.ENAMETOOLONG: ("has a name that is too long for this disk", "give a shorter one"),
    errno.ELOOP: ("is a link that leads back to itself", "mend the link"),
    errno.ENOSPC: ("the disk is full", "make room or write to another disk"),
    errno.EDQUOT: ("your share of the disk is full", "make room or write to another disk"),
    errno.EFBIG: ("would be larger than this disk takes", "write to another disk"),
    errno.EIO: ("the disk failed", "check the disk or the network drive, and copy the file to another one"),
    errno.ESTALE: ("is no longer reachable on its network drive", "connect the drive again"),
    errno.ETXTBSY: ("is in use by another program", "close that program"),
    errno.EBUSY: ("is in use by another program", "close that program"),
    errno.EMFILE: ("too many files are open at once", "raise the limit with ulimit -n 4096"),
    errno.ENFILE: ("too many files are open on this computer", "close other programs"),
    errno.ENOMEM: ("there is not enough memory", "close other programs, or give smaller images"),
}
NO_MEMORY = ("can't allocate memory", "out of memory", "not enough memory", "bad_alloc")  # the wording of torch


def explain(error: BaseException, remedy: str = "smaller images") -> str | None:
    """Return one sentence about a system error, with its file and a remedy; return None for any other error.

    System errors are errors of files and memory, text that an encoding cannot represent, nesting beyond Python's
    recursion limit, and invalid paths. `remedy` is what is to be given where there is not enough memory.
    """
    text = str(error)
    denied = isinstance(error, RuntimeError) and any(words in text.lower() for words in NO_MEMORY)
    if denied or isinstance(error, MemoryError):
        return f"there is not enough memory; close other programs, or give {remedy}"
    if isinstance(error, RecursionError):
        return "what is read is nested too deeply; mend the file"
    if isinstance(error, UnicodeEncodeError):
        part = error.object[error.start : error.end]
        return f"{part!a} cannot be written in {error.encoding}; set the variable PYTHONUTF8=1, or rename the file"
    if isinstance(error, ValueError) and "embedded null" in text:
        return "a path holds a null character, which no file name can; mend it"
    if not isinstance(error, OSError):
        return None
    what, advice = REFUSALS.get(error.errno or 0, (error.strerror or text, "check the disk and the path"))
    files = [str(file) for file in (error.filename, error.filename2) if file is not None]
    return f"{' and '.join(files)}: {what}; {advice}" if files else f"{what}; {advice}"
