"""Who may be connected at once, and whose connection it is."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from voiceingest.errors import Overloaded, TooManyFromAddress
from voiceingest.gate import Gate


class Caps(SynchronousTestCase):
    """A total, and a share for each address."""

    def test_the_last_place_is_given_and_no_more(self) -> None:
        gate = Gate(3, 0)
        self.assertEqual([gate.enter(f"10.0.0.{n}") for n in range(3)], [None] * 3)
        self.assertIsInstance(gate.enter("10.0.0.9"), Overloaded)

    def test_a_place_that_is_left_is_free(self) -> None:
        gate = Gate(1, 0)
        gate.enter("a")
        gate.leave("a")
        self.assertIsNone(gate.enter("b"))

    def test_each_address_has_its_share(self) -> None:
        gate = Gate(0, 2)
        self.assertEqual([gate.enter("a"), gate.enter("a")], [None, None])
        self.assertIsInstance(gate.enter("a"), TooManyFromAddress)
        self.assertIsNone(gate.enter("b"))

    def test_0_is_no_limit(self) -> None:
        gate = Gate(0, 0)
        self.assertEqual({gate.enter("a") for _ in range(5000)}, {None})
        self.assertFalse(gate.flooded)

    def test_who_was_refused_leaves_too_and_the_balance_holds(self) -> None:
        gate = Gate(1, 1)
        for _ in range(3):
            gate.enter("a")
        for _ in range(3):
            gate.leave("a")
        self.assertEqual(gate.total, 0)
        self.assertIsNone(gate.enter("a"))

    def test_one_address_over_its_share_does_not_take_the_places_of_others(self) -> None:
        """A refused socket stays until its head was read: ten seconds, if its peer likes."""
        gate = Gate(10, 2)
        for _ in range(10):
            gate.enter("greedy")
        self.assertEqual([gate.enter(f"other {n}") for n in range(8)], [None] * 8)
        self.assertIsInstance(gate.enter("one too many"), Overloaded)

    def test_the_memory_is_that_of_those_who_are_here(self) -> None:
        gate = Gate(0, 10)
        for number in range(10_000):
            gate.enter(f"{number}")
            gate.leave(f"{number}")
        self.assertEqual((gate.total, len(gate._by_address)), (0, 0))


class Flood(SynchronousTestCase):
    """Past the courtesy, refusals are not owed."""

    def test_there_is_room_for_refusals_but_not_without_end(self) -> None:
        gate = Gate(100, 0)
        flooded_at = None
        for number in range(1, 1000):
            gate.enter(f"{number}")
            if gate.flooded:
                flooded_at = number
                break
        self.assertEqual(flooded_at, 134)

    def test_a_small_cap_leaves_room_for_a_few_refusals(self) -> None:
        gate = Gate(1, 0)
        for number in range(9):
            gate.enter(f"{number}")
        self.assertFalse(gate.flooded)
        gate.enter("one more")
        self.assertTrue(gate.flooded)
        gate.leave("one more")
        self.assertFalse(gate.flooded)


class Moving(SynchronousTestCase):
    """A proxy has told whose connection it is."""

    def test_it_is_counted_where_it_belongs(self) -> None:
        gate = Gate(0, 1, ["10.0.0.0/8"])
        self.assertEqual([gate.enter("10.0.0.1"), gate.enter("10.0.0.1")], [None, None])
        self.assertIsNone(gate.move("10.0.0.1", "192.0.2.1"))
        self.assertIsInstance(gate.move("10.0.0.1", "192.0.2.1"), TooManyFromAddress)
        self.assertEqual(gate.total, 2)
        gate.leave("192.0.2.1")
        gate.leave("192.0.2.1")
        self.assertEqual((gate.total, len(gate._by_address)), (0, 0))

    def test_a_proxy_has_no_share_of_its_own(self) -> None:
        gate = Gate(0, 1, ["10.0.0.1"])
        self.assertEqual({gate.enter("10.0.0.1") for _ in range(50)}, {None})
        gate.enter("10.0.0.2")
        self.assertIsInstance(gate.enter("10.0.0.2"), TooManyFromAddress)

    def test_who_has_a_place_does_not_lose_it_to_those_who_were_refused(self) -> None:
        gate = Gate(2, 0, ["10.0.0.1"])
        self.assertEqual([gate.enter("10.0.0.1"), gate.enter("10.0.0.1")], [None, None])
        self.assertIsInstance(gate.enter("10.0.0.1"), Overloaded)
        self.assertIsNone(gate.move("10.0.0.1", "192.0.2.1"))


class Proxies(SynchronousTestCase):
    """Whose word is taken, and for what."""

    def test_who_is_a_proxy(self) -> None:
        gate = Gate(0, 0, ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "198.51.100.9/24"])
        table = {
            "10.255.0.1": True,
            "11.0.0.1": False,
            "192.0.2.7": True,
            "192.0.2.8": False,
            "198.51.100.200": True,
            "2001:db8::1": True,
            "2001:DB8:0::1": True,
            "2001:db9::1": False,
            "unix": True,
            "": False,
            "localhost": False,
            "10.0.0.1 ": False,
            "10.0.0.1:80": False,
            "0x0a000001": False,
            "167772161": False,
            "10.0.0.01": False,
        }
        self.assertEqual({address: gate.is_proxy(address) for address in table}, table)

    def test_without_proxies_nobody_is_one(self) -> None:
        gate = Gate(0, 0)
        self.assertEqual([gate.is_proxy(name) for name in ("127.0.0.1", "::1", "unix")], [False] * 3)

    def test_a_proxy_on_a_dual_stack_socket_is_the_same_proxy(self) -> None:
        """A listener on ``::`` sees IPv4 peers as ``::ffff:a.b.c.d`` (RFC 4291 section 2.5.5.2)."""
        gate = Gate(0, 0, ["10.0.0.0/8"])
        self.assertTrue(gate.is_proxy("::ffff:10.0.0.1"))
        self.assertFalse(gate.is_proxy("::ffff:11.0.0.1"))
        self.assertEqual(gate.client_address("::ffff:10.0.0.1", ["192.0.2.1"]), "192.0.2.1")

    def test_whose_connection_it_is(self) -> None:
        gate = Gate(0, 0, ["10.0.0.0/8", "2001:db8::/32"])
        table: list[tuple[str, list[str], str]] = [
            # no header, and a header nobody believes
            ("192.0.2.1", [], "192.0.2.1"),
            ("192.0.2.1", ["203.0.113.5"], "192.0.2.1"),
            ("192.0.2.1", ["10.0.0.1"], "192.0.2.1"),
            ("10.0.0.1", [], "10.0.0.1"),
            # one proxy; what the caller wrote itself stands further left
            ("10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
            ("10.0.0.1", ["1.1.1.1, 203.0.113.5"], "203.0.113.5"),
            ("10.0.0.1", ["1.1.1.1", "203.0.113.5"], "203.0.113.5"),
            ("10.0.0.1", ["10.9.9.9, 203.0.113.5"], "203.0.113.5"),
            ("10.0.0.1", ["203.0.113.5, 203.0.113.6"], "203.0.113.6"),
            # several proxies of ours
            ("10.0.0.1", ["203.0.113.5, 10.0.0.2"], "203.0.113.5"),
            ("10.0.0.1", ["1.1.1.1, 203.0.113.5, 10.0.0.3, 10.0.0.2"], "203.0.113.5"),
            ("10.0.0.1", ["10.0.0.2"], "10.0.0.2"),
            # IPv6, and one spelling for each address
            ("2001:db8::1", ["2001:DB9:0:0::5"], "2001:db9::5"),
            ("10.0.0.1", ["2001:db9::5, 2001:db8::7"], "2001:db9::5"),
            # a Unix socket
            ("unix", ["203.0.113.5"], "203.0.113.5"),
            ("unix", [], "unix"),
            # what is no address is not looked behind
            ("10.0.0.1", ["unknown"], "10.0.0.1"),
            ("10.0.0.1", ["203.0.113.5, "], "10.0.0.1"),
            ("10.0.0.1", ["203.0.113.5, _hidden"], "10.0.0.1"),
            ("10.0.0.1", ["203.0.113.5, unix"], "10.0.0.1"),
            ("10.0.0.1", ["203.0.113.5:4711"], "10.0.0.1"),
            ("10.0.0.1", ["203.0.113.5, <script>, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", [""], "10.0.0.1"),
            ("10.0.0.1", [",,,"], "10.0.0.1"),
        ]
        for peer, lines, client in table:
            self.assertEqual(gate.client_address(peer, lines), client, (peer, lines))

    def test_a_long_header_is_no_trouble(self) -> None:
        gate = Gate(0, 0, ["10.0.0.0/8"])
        self.assertEqual(gate.client_address("10.0.0.1", [",".join(["10.0.0.2"] * 2000)]), "10.0.0.2")


class Properties(SynchronousTestCase):
    """Any coming and going."""

    @settings(deadline=None, max_examples=150)
    @given(
        st.integers(0, 6),
        st.integers(0, 3),
        st.lists(
            st.tuples(st.sampled_from(["enter", "enter", "leave", "move"]), st.integers(0, 3)), max_size=60
        ),
    )
    def test_every_enter_is_balanced_by_its_leave(
        self, max_total: int, max_per_address: int, steps: list[tuple[str, int]]
    ) -> None:
        gate = Gate(max_total, max_per_address)
        here: list[str] = []
        admitted: Counter[str] = Counter()
        for what, number in steps:
            if what == "enter":
                here.append(f"{number}")
                if gate.enter(f"{number}") is None:
                    admitted[f"{number}"] += 1
            elif here and what == "leave":
                gate.leave(here.pop(0))
                admitted.clear()
            elif here:
                gate.move(here.pop(0), f"{number}")
                here.append(f"{number}")
                admitted.clear()
            self.assertEqual(gate.total, len(here))
            # Between two departures no more are let in than there is room for.
            if max_total:
                self.assertLessEqual(admitted.total(), max_total)
            if max_per_address:
                self.assertLessEqual(max(admitted.values(), default=0), max_per_address)
        for address in here:
            gate.leave(address)
        self.assertEqual((gate.total, len(gate._by_address)), (0, 0))
