"""JSON merge patches (RFC 7396): what is given replaces, ``null`` takes away, the rest stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merged(target: Any, patch: Any) -> Any:
    """What ``patch`` makes of ``target`` (RFC 7396 section 2); neither is changed.

    As deep as the patch is; who calls has bounded that.
    """
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
