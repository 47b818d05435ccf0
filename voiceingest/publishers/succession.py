"""Who comes after whom: the lanes of one interaction, when it begins anew before the old is done."""

from __future__ import annotations

from collections.abc import Iterable

from .lane import Lane


class Succession:
    """The newest lane of every interaction that has one which is not done."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], Lane] = {}

    def stand(self, lane: Lane) -> None:
        """Take a new lane in; it waits where the one before it is not done."""
        name = (lane.facts.tenant_id, lane.facts.interaction_id)
        before = self._newest.get(name)
        if before is not None:
            before.successor, lane.before = lane, before
        self._newest[name] = lane

    def leave(self, lane: Lane) -> Lane | None:
        """``lane`` is done; returns the one that may begin now, where it was the first.

        One from the middle leaves at once: whoever takes the same interaction over again and again
        while the bus is away leaves no trail of empty lanes.
        """
        before, after = lane.before, lane.successor
        lane.before = lane.successor = None
        if after is not None:
            after.before = before
        name = (lane.facts.tenant_id, lane.facts.interaction_id)
        if self._newest.get(name) is lane:
            if before is None:
                del self._newest[name]
            else:
                self._newest[name] = before
        if before is None:
            return after
        before.successor = after
        return None


def with_successors(lanes: Iterable[Lane]) -> set[Lane]:
    """``lanes``, and every lane that waits for one of them."""
    found = set(lanes)
    waiting = list(found)
    while waiting:
        successor = waiting.pop().successor
        if successor is not None and successor not in found:
            found.add(successor)
            waiting.append(successor)
    return found
