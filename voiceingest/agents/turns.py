"""When a caller has finished: words are gathered until the turn is over, pressed keys until a pause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..call_interfaces import Transcript
from ..interfaces import IClock

# Between two keys of one number; telephone menus wait 2 to 5 seconds.
KEYS_PAUSE_S: Final = 2.0
# The longest number: a card is 19 digits.
KEYS_MAX_COUNT: Final = 32
# A caller who does not come to an end is answered in between: ten minutes of speech.
TURN_MAX_CHARS: Final = 8000


class Turns:
    """Hears a caller; ``going_on`` is called when something was said, ``over`` with a whole turn.

    The end of a turn is heard from the transcriber. Where that says nothing for ``patience_s`` after
    the last words, the turn is over as well: what is over may be empty then, since words may have
    been taken back.
    """

    def __init__(
        self,
        clock: IClock,
        patience_s: float,
        going_on: Callable[[], None],
        over: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._patience_s = patience_s
        self._going_on = going_on
        self._over = over
        self._parts: list[str] = []
        self._keys = ""
        self._is_going_on = False
        self._timer: Any = None

    def transcript(self, transcript: Transcript) -> None:
        """The caller's words."""
        text = transcript.text.strip()
        if text:
            if transcript.is_final:
                self._take_keys()
                self._parts.append(text)
            self._say_on()
        is_too_long = sum(map(len, self._parts)) > TURN_MAX_CHARS
        if self._is_going_on and (transcript.ends_turn or is_too_long):
            self._end()
        elif text:
            self._arm(self._patience_s)

    def digit(self, digit: str) -> None:
        """The caller pressed a key; ``#`` ends a number."""
        self._keys += digit
        self._say_on()
        if digit == "#" or len(self._keys) >= KEYS_MAX_COUNT:
            self._end()
        else:
            self._arm(KEYS_PAUSE_S)

    def expect(self) -> None:
        """The caller has begun to speak, it seems: the turn is over when nothing more comes."""
        self._is_going_on = True
        self._arm(self._patience_s)

    def stop(self) -> None:
        """Nothing more will be heard."""
        self._disarm()
        self._is_going_on = False

    def _say_on(self) -> None:
        self._is_going_on = True
        self._going_on()

    def _take_keys(self) -> None:
        if self._keys:
            self._parts.append(f"[pressed {self._keys}]")
            self._keys = ""

    def _end(self) -> None:
        self._disarm()
        self._take_keys()
        text, self._parts = " ".join(self._parts), []
        self._is_going_on = False
        self._over(text)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self._clock.callLater(seconds, self._end)

    def _disarm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
