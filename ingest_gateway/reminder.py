"""When to say what lasts: at once, again while it lasts, and once when it is over."""

from typing import Generic, TypeVar

REPEAT_S = 60.0
"""What lasts is said again this often."""

State = TypeVar("State")


class Reminder(Generic[State]):
    """Knows of one thing when its state was last said. Pure; time is an argument.

    Args:
        calm: The state of which nobody has to be reminded; it is the first one.
    """

    def __init__(self, calm: State) -> None:
        self._calm = calm
        self._state = calm
        self._said_at_s = float("-inf")

    def is_due(self, state: State, now_s: float) -> bool:
        """Return whether the state is to be said now: it is new, or lasts and is not calm.

        Args:
            state: What it is now.
            now_s: Monotonic seconds.
        """
        is_new, self._state = state != self._state, state
        is_lasting = state != self._calm and now_s - self._said_at_s >= REPEAT_S
        if is_new or is_lasting:
            self._said_at_s = now_s
        return is_new or is_lasting
