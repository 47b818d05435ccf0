"""JSON merge patches: the cases of RFC 7396, and that nothing is changed in place."""

from __future__ import annotations

import copy
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.sessions.merging import merged

# RFC 7396, appendix A: original, patch, result.
CASES: Final[list[tuple[Any, Any, Any]]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]

JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=2), below, max_size=3),
    max_leaves=8,
)


class MergingTests(SynchronousTestCase):
    def test_the_cases_of_the_rfc(self) -> None:
        for target, patch, result in CASES:
            self.assertEqual(merged(target, patch), result)

    @given(JSON, JSON)
    def test_it_changes_neither(self, target: Any, patch: Any) -> None:
        before = copy.deepcopy((target, patch))
        merged(target, patch)
        self.assertEqual((target, patch), before)

    @given(JSON, JSON)
    def test_twice_is_once(self, target: Any, patch: Any) -> None:
        once = merged(target, patch)
        self.assertEqual(merged(once, patch), once)
