"""Sessions, the same tests on both databases."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

from tests.store.cases import PostgresCase, SqliteCase, on_loop
from voiceingest.errors import ContextTooBig, IdempotencyMismatch, TooManySessions
from voiceingest.limits import SESSION_CONFIG_MAX_BYTES, SESSION_CONTEXT_MAX_BYTES
from voiceingest.session_interfaces import Idempotency, ISessionStore, Session, SessionQuery
from voiceingest.store.rows import session_row
from voiceingest.store.sessions import SessionStore
from voiceingest.store.statements import DELETE_MAX_COUNT, LIST_MAX_COUNT
from voiceingest.store.tables import sessions
from voiceingest.stream import SessionState

NOW_S = 1790000000.123456


def a_session(name: str = "ses_1", **members: Any) -> Session:
    given: dict[str, Any] = {
        "user_id": "usr_1",
        "status": SessionState.PENDING,
        "transport": "rest",
        "created_at": NOW_S,
        "updated_at": NOW_S,
        "expires_at": NOW_S + 3600,
    }
    return Session(name, **{**given, **members})


def a_stream(name: str, interaction: str = "call-1", **members: Any) -> Session:
    given = {"tenant_id": "acme", "interaction_id": interaction, "epoch": 1790000000123}
    return a_session(name, **{"status": SessionState.ACTIVE, **given, **members})


def key(word: str, asked: str = "asked") -> Idempotency:
    return Idempotency(word, hashlib.sha256(asked.encode()).digest())


def names(found: Sequence[Session]) -> list[str]:
    return [session.session_id for session in found]


class SessionStoreContract:
    async def begin(self) -> ISessionStore:
        return SessionStore(await self.started())

    async def add(self, kept: ISessionStore, *several: Session) -> None:
        for session in several:
            self.assertEqual(await kept.add(session, None, 1000), session)

    # --- one session

    @on_loop
    async def test_what_is_kept_comes_back(self) -> None:
        kept = await self.begin()
        everything = a_stream(
            "ses_1",
            device_id="dev_1",
            started_at=NOW_S + 1,
            ended_at=NOW_S + 2,
            reason="stopped",
            node="node-1",
            frames=2**40,
            audio_config={"sampleRate": 24000, "nested": [1, None, {"a": 2.5}]},
            voice_config={"voice": "ж"},
            metadata={"nul": "\0", "half": "\ud83d", "smile": "😀"},
            context={"history": [{"role": "user", "content": "hello"}]},
            version=7,
        )
        await self.add(kept, everything)
        self.assertEqual(await kept.session("ses_1"), everything)
        assert everything.epoch is not None
        self.assertEqual(await kept.stream_session("acme", "call-1", everything.epoch), everything)
        self.assertIsNone(await kept.stream_session("acme", "call-1", 1))
        self.assertIsNone(await kept.session("ses_2"))

    @on_loop
    async def test_the_largest_there_is_and_one_larger(self) -> None:
        kept = await self.begin()
        # Two bytes of UTF-8 are six characters of JSON, and so is the worst there is: a control character.
        largest = {"h": "é" * ((SESSION_CONTEXT_MAX_BYTES - 8) // 2)}
        full = a_session(context=largest, metadata={"m": "é" * ((SESSION_CONFIG_MAX_BYTES - 8) // 2)})
        await self.add(kept, full)
        self.assertEqual(await kept.session("ses_1"), full)
        for too_big in ({"context": {"h": "x" * 200_000}}, {"voice_config": {"h": "x" * 20_000}}):
            with self.assertRaises(ContextTooBig):
                await kept.add(a_session("ses_2", **too_big), None, 1000)

    @on_loop
    async def test_said_again_it_is_the_one_that_is_there(self) -> None:
        """The writer of streams did not hear that it was kept, and says it again."""
        kept = await self.begin()
        first = a_stream("ses_1")
        await self.add(kept, first)
        self.assertEqual(await kept.add(dataclasses.replace(first, frames=9), None, 1000), first)

    @on_loop
    async def test_two_processes_make_the_session_of_one_stream(self) -> None:
        kept = await self.begin()
        several = [a_stream(f"ses_{number}", user_id=f"usr_{number}") for number in range(6)]
        outcomes = await self.together(*(kept.add(one, None, 1000) for one in several))
        self.assertEqual(len({one.session_id for one in outcomes}), 1, outcomes)
        self.assertEqual(self.query("SELECT count(*) FROM sessions"), "1")

    # --- how many

    @on_loop
    async def test_open_ones_are_counted_for_each_user(self) -> None:
        kept = await self.begin()
        ended = a_session("ses_0", status=SessionState.COMPLETED)
        other = a_session("ses_x", user_id="usr_2")
        await self.add(kept, ended, other, a_session("ses_1"), a_stream("ses_2"))
        with self.assertRaises(TooManySessions):
            await kept.add(a_session("ses_3"), None, 2)
        self.assertEqual((await kept.add(a_session("ses_3"), None, 3)).session_id, "ses_3")

    @on_loop
    async def test_no_more_than_allowed_however_many_ask_at_once(self) -> None:
        kept = await self.begin()
        outcomes = await self.together(*(kept.add(a_session(f"ses_{n}"), None, 3) for n in range(10)))
        refused = [one for one in outcomes if isinstance(one, TooManySessions)]
        self.assertEqual((len(refused), len(outcomes)), (7, 10), outcomes)
        self.assertEqual(self.query("SELECT count(*) FROM sessions"), "3")

    # --- idempotency

    @on_loop
    async def test_the_same_key_answers_the_same(self) -> None:
        kept = await self.begin()
        first = await kept.add(a_session("ses_1"), key("k"), 1)
        # Also where no other could be open.
        self.assertEqual(await kept.add(a_session("ses_2"), key("k"), 1), first)
        with self.assertRaises(IdempotencyMismatch):
            await kept.add(a_session("ses_3"), key("k", "something else"), 1000)
        of_another = a_session("ses_4", user_id="usr_2")
        self.assertEqual(await kept.add(of_another, key("k"), 1000), of_another)

    @on_loop
    async def test_one_key_at_once_makes_one_session(self) -> None:
        kept = await self.begin()
        outcomes = await self.together(*(kept.add(a_session(f"ses_{n}"), key("k"), 1000) for n in range(8)))
        self.assertEqual(len({one.session_id for one in outcomes}), 1, outcomes)
        self.assertEqual(self.query("SELECT count(*) FROM sessions"), "1")
        self.assertEqual(self.query("SELECT count(*) FROM idempotency_keys"), "1")

    # --- changes

    @on_loop
    async def test_of_many_changes_of_one_version_one_is_written(self) -> None:
        kept = await self.begin()
        before = a_session()
        await self.add(kept, before)
        several = [dataclasses.replace(before, metadata={"by": n}, version=2) for n in range(8)]
        outcomes = await self.together(*(kept.update(one, 1) for one in several))
        self.assertEqual(sorted(outcomes), [False] * 7 + [True])
        self.assertEqual(await kept.session("ses_1"), several[outcomes.index(True)])

    @on_loop
    async def test_changing_what_is_not_there(self) -> None:
        kept = await self.begin()
        self.assertFalse(await kept.update(a_session(version=2), 1))

    @on_loop
    async def test_a_session_cannot_become_that_of_anothers_stream(self) -> None:
        kept = await self.begin()
        await self.add(kept, a_stream("ses_1"), a_session("ses_2"))
        self.assertFalse(await kept.update(a_stream("ses_2", version=2), 1))
        self.assertEqual(await kept.session("ses_2"), a_session("ses_2"))

    # --- lists

    @on_loop
    async def test_pages_newest_first(self) -> None:
        kept = await self.begin()
        several = [a_session(f"ses_{n}", created_at=NOW_S + n // 2) for n in range(5)]
        await self.add(kept, *several, a_session("ses_x", user_id="usr_2", created_at=NOW_S + 9))
        query = SessionQuery("usr_1", limit=2)
        pages = []
        while found := await kept.page(query):
            pages.append(names(found))
            query = dataclasses.replace(query, before=(found[-1].created_at, found[-1].session_id))
        self.assertEqual(pages, [["ses_4", "ses_3"], ["ses_2", "ses_1"], ["ses_0"]])
        self.assertEqual(names(await kept.page(SessionQuery(limit=2))), ["ses_x", "ses_4"])

    @on_loop
    async def test_lists_by_state(self) -> None:
        kept = await self.begin()
        await self.add(kept, a_session("ses_1"), a_stream("ses_2"))
        for state, wanted in ((SessionState.ACTIVE, ["ses_2"]), (SessionState.ERROR, [])):
            self.assertEqual(names(await kept.page(SessionQuery("usr_1", state))), wanted)

    @on_loop
    async def test_which_are_open(self) -> None:
        kept = await self.begin()
        states = {f"ses_{state.value}": state for state in SessionState}
        await self.add(kept, *(a_session(name, status=state) for name, state in states.items()))
        asked = [*states, *(f"ses_{n}" for n in range(LIST_MAX_COUNT))]
        self.assertEqual(await kept.open_sessions(asked), {"ses_pending", "ses_active"})
        self.assertEqual(await kept.open_sessions([]), set())

    # --- time

    @on_loop
    async def test_overdue(self) -> None:
        kept = await self.begin()
        await self.add(
            kept,
            a_session("ses_late", expires_at=NOW_S + 10),
            a_session("ses_early", expires_at=NOW_S + 11),
            a_session("ses_ended", expires_at=NOW_S, status=SessionState.COMPLETED),
            a_stream("ses_lost", "one", updated_at=NOW_S - 1),
            a_stream("ses_live", "two", updated_at=NOW_S),
        )
        self.assertEqual(names(await kept.overdue(NOW_S + 10, NOW_S, 10)), ["ses_late", "ses_lost"])
        self.assertEqual(names(await kept.overdue(NOW_S + 10, NOW_S, 1)), ["ses_late"])

    @on_loop
    async def test_vouching(self) -> None:
        kept = await self.begin()
        await self.add(
            kept,
            a_stream("ses_1", "one", node="node-2"),
            a_session("ses_2"),
            a_stream("ses_3", "three", node="node-2", status=SessionState.ERROR),
            a_stream("ses_4", "four", node="node-1"),
        )
        several = ["ses_1", "ses_2", "ses_3", "ses_4", *(f"ses_{n}" for n in range(10, LIST_MAX_COUNT + 10))]
        await kept.vouch(several, "node-2", NOW_S + 30, NOW_S + 90)
        vouched = a_stream("ses_1", "one", node="node-2", expires_at=NOW_S + 90)
        self.assertEqual(await kept.session("ses_1"), vouched)
        self.assertEqual(await kept.session("ses_2"), a_session("ses_2"))
        # What goes on at another process is that one's to vouch for.
        elsewhere = await kept.session("ses_4")
        self.assertEqual(elsewhere, a_stream("ses_4", "four", node="node-1"))
        await kept.vouch(["ses_4"], "node-1", NOW_S + 60, NOW_S + 90)
        self.assertEqual(names(await kept.overdue(NOW_S, NOW_S + 30, 10)), [])
        self.assertEqual(names(await kept.overdue(NOW_S, NOW_S + 31, 10)), ["ses_1"])

    @on_loop
    async def test_a_session_that_becomes_a_stream_is_vouched_for_from_then_on(self) -> None:
        kept = await self.begin()
        await self.add(kept, a_session("ses_1"))
        active = a_stream("ses_1", updated_at=NOW_S + 5, version=2)
        self.assertTrue(await kept.update(active, 1))
        self.assertEqual(names(await kept.overdue(NOW_S, NOW_S + 5, 10)), [])
        self.assertEqual(names(await kept.overdue(NOW_S, NOW_S + 6, 10)), ["ses_1"])
        # An edit is no sign of life of its stream.
        self.assertTrue(await kept.update(dataclasses.replace(active, updated_at=NOW_S + 9, version=3), 2))
        self.assertEqual(names(await kept.overdue(NOW_S, NOW_S + 6, 10)), ["ses_1"])

    @on_loop
    async def test_forgetting(self) -> None:
        kept = await self.begin()
        done = SessionState.COMPLETED
        await self.add(
            kept,
            a_session("ses_old", status=done, ended_at=NOW_S - 1),
            a_session("ses_new", status=done, ended_at=NOW_S),
            a_session("ses_open"),
        )
        await kept.add(a_session("ses_key"), key("k"), 1000)
        self.assertEqual(await kept.forget_sessions(NOW_S, NOW_S), 1)
        self.assertEqual(names(await kept.page(SessionQuery())), ["ses_open", "ses_new", "ses_key"])
        self.assertEqual(self.query("SELECT count(*) FROM idempotency_keys"), "1")
        self.assertEqual(await kept.forget_sessions(NOW_S, NOW_S + 1), 0)
        self.assertEqual(self.query("SELECT count(*) FROM idempotency_keys"), "0")

    @on_loop
    async def test_a_key_goes_with_its_session(self) -> None:
        kept = await self.begin()
        await kept.add(a_session("ses_1", status=SessionState.COMPLETED, ended_at=NOW_S), key("k"), 1000)
        self.assertEqual(await kept.forget_sessions(NOW_S + 1, 0), 1)
        self.assertEqual(self.query("SELECT count(*) FROM idempotency_keys"), "0")

    @on_loop
    async def test_many_are_forgotten_in_portions(self) -> None:
        store = await self.started()
        kept = SessionStore(store)
        count = DELETE_MAX_COUNT + 5
        ended = [a_session(f"ses_{n}", status=SessionState.EXPIRED, ended_at=NOW_S) for n in range(count)]
        several = [{**session_row(one), "vouched_at": None} for one in ended]
        await store.write(lambda connection: connection.execute(sessions.insert(), several))
        self.assertEqual(await kept.forget_sessions(NOW_S + 1, 0), count)


class SqliteSessionTests(SessionStoreContract, SqliteCase):
    pass


class PostgresSessionTests(SessionStoreContract, PostgresCase):
    pass
