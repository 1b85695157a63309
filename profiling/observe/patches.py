"""Attributes replaced for a while, and put back as they were."""

from __future__ import annotations

from typing import Any

_MISSING = object()


class Patches:
    """Sets attributes of modules and classes; `undo` restores them, the last first."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> bool:
        """Replace an attribute; False for a class that does not allow it (one written in C)."""
        before = vars(owner).get(name, _MISSING)
        try:
            setattr(owner, name, value)
        except (TypeError, AttributeError):
            return False
        self._before.append((owner, name, before, value))
        return True

    def undo(self) -> None:
        """Restore everything except attributes replaced by others since: their wrapper calls ours."""
        while self._before:
            owner, name, before, value = self._before.pop()
            if vars(owner).get(name, _MISSING) is not value:
                continue
            if before is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
