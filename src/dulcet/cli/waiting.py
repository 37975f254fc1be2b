"""How long a command waits, and how it speaks of that: the library's messages name a field of `Timers`, ours an option.

Rule: the one translation between both.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dulcet.config import Timers

__all__ = ["in_our_words", "timers"]

_ADVICE: Final = re.compile(r"; raise Timers\.(\w+)([^;:]*)")
_options: Final[dict[str, str]] = {}


def timers(seconds: float, *names: str) -> Timers:
    """The timers of these names as `--timeout` has them; from now on that is what they are called."""
    from dulcet.config import Timers

    _options.update(dict.fromkeys(names, "--timeout"))
    return Timers(**dict.fromkeys(names, seconds))


def in_our_words(sentence: str) -> str:
    """Advice to raise a timer names the option that does; it goes where the command has none."""
    if "Timers." not in sentence:
        return sentence
    return _ADVICE.sub(lambda found: _advice(found[1], found[2]), sentence)


def _advice(timer: str, rest: str) -> str:
    option = _options.get(timer)
    return f"; raise {option}{rest}" if option else ""
