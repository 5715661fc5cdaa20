"""What a person can mend: the one root of errors that commands show in a line and end with status 2.

Anything else that is raised is a bug, but for `pipeline.stage.Reject`, which is a stage's answer about one clip.
"""

from __future__ import annotations

import errno
import os
import re

MACHINE_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.ENFILE, errno.EMFILE}

# Characters that rewrite what a terminal or a log shows: control characters and marks that turn the direction.
INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class UserError(Exception):
    """A manifest, setting, weight, data set or disk is not as it must be.

    The message has four parts: what, which clip or file, expected and found, the command to run next.
    """

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(INVISIBLE.sub(_escaped, line) for line in message.split("\n")))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def is_machine_trouble(answer: object) -> bool:
    """Whether this is an error that every clip would meet: the disk is full or read-only, or files run out."""
    if not isinstance(answer, OSError):
        return False
    words = words_of(answer)  # a program such as ffmpeg reports in words alone
    return answer.errno in MACHINE_TROUBLE or any(os.strerror(code) in words for code in MACHINE_TROUBLE)


def words_of(error: BaseException) -> str:
    """What an error says, also where it cannot even say that."""
    try:
        return str(error)
    except Exception:  # the stage's own class of error, with a fault of its own
        return "an error that cannot be printed"
