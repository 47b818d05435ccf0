"""What streams write, and when a message counts as taken; the connection's life is in test_redis_bus.py."""

from __future__ import annotations

from pydantic import SecretStr

from tests.publishers.test_redis_bus import SECRET, BusCase, FakeTransport
from voiceingest.audio import AudioFormat
from voiceingest.interfaces import StreamFacts
from voiceingest.publishers.redis_bus import PING_IDLE_S, STATE_ERRORS
from voiceingest.publishers.redis_streams import RedisStreams
from voiceingest.wire.entry import entry_head, entry_parts
from voiceingest.wire.resp import PING, encode_command

ID = b"$15\r\n1763655000000-0\r\n"


class StreamsTests(BusCase):
    kind = RedisStreams

    def test_a_batch_is_one_write_of_entries(self) -> None:
        transport = self.up()
        written = self.bus.send([(self.prepared, 1, 5, b"ab"), (self.prepared, 0, 6, b'{"event":"x"}')])
        parts = entry_parts(b"audio:frames", 20_000, ("acme", "call-1", 0), 8000, "pcm16")
        expected = entry_head(parts, 1, 5, 2) + b"ab\r\n"
        expected += encode_command(
            *(b"XADD", b"audio:events", b"MAXLEN", b"~", b"20000", b"*", b"event", b'{"event":"x"}')
        )
        self.assertEqual(transport.value(), expected)
        self.assertEqual(written, len(expected))

    def test_lengths_and_names_are_settings_and_the_epoch_is_the_streams(self) -> None:
        self.make(
            redis_channel="f:{tenant_id}",
            redis_events_channel="e:{tenant_id}",
            redis_stream_max_entries=500,
            redis_stream_events_max_entries=700,
        )
        transport = self.up()
        prepared = self.bus.prepare(StreamFacts("a", "b", AudioFormat(8000), 99))
        self.bus.send([(prepared, 1, 5, b"ab"), (prepared, 0, 6, b"{}")])
        self.assertIn(encode_command(b"XADD", b"f:a", b"MAXLEN", b"~", b"500", b"*")[5:], transport.value())
        self.assertIn(encode_command(b"XADD", b"e:a", b"MAXLEN", b"~", b"700", b"*")[4:], transport.value())
        self.assertIn(b"$5\r\nepoch\r\n$2\r\n99\r\n", transport.value())

    def test_each_id_confirms_one_and_an_error_about_one_refuses_one(self) -> None:
        transport = self.up()
        self.send(1, 2, 3, 4, 5)
        self.answer(transport, ID * 2 + b"-WRONGTYPE Operation against a key\r\n" + ID[:7])
        self.assertEqual(self.listener.confirmed, 2)
        self.assertEqual(self.listener.heard, ["up", ("refused", "wrongtype")])
        self.answer(transport, ID[7:] + b"-ERR The stream has exhausted the last possible ID\r\n")
        self.assertEqual(self.listener.confirmed, 3)
        self.assertEqual(self.listener.heard, ["up", ("refused", "wrongtype"), ("refused", "err")])

    def test_an_error_of_the_server_itself_refuses_nothing(self) -> None:
        for prefix, reason in STATE_ERRORS.items():
            self.make()
            transport = self.up()
            self.send(1, 2)
            self.answer(transport, ID + b"-%b no\r\n" % prefix.encode() + ID)
            self.assertEqual(self.listener.confirmed, 1)
            self.assertEqual(self.listener.heard, ["up", ("down", reason)])

    def test_a_server_that_greets_well_and_takes_nothing_is_asked_less_and_less(self) -> None:
        self.make(publish_retry_max_s=5.0)
        for pause_s in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
            transport = self.up()
            self.send(1)
            self.answer(transport, b"-OOM command not allowed when used memory > 'maxmemory'.\r\n")
            self.reactor.advance(pause_s - 0.001)
            self.assertEqual(self.reactor.unixClients, [])
            self.reactor.advance(0.002)
        self.assertEqual(self.listener.heard.count(("down", "oom")), 8)

    def test_an_integer_nobody_asked_for_is_no_redis(self) -> None:
        transport = self.up()
        self.send(1)
        self.answer(transport, b":1\r\n")
        self.assertEqual(self.listener.heard, ["up", ("down", "protocol")])

    def test_the_scheme_says_streams(self) -> None:
        url = SecretStr(f"rediss-streams+sentinel://u:{SECRET}@a,b/voice/1")
        self.make(publish_url=url)
        self.assertEqual(self.bus.name, "redis")
        self.bus.stop()


class ReplicaTests(BusCase):
    """Two replicas have to have it."""

    kind = RedisStreams
    WAIT = encode_command(b"WAIT", b"2", b"8000")

    def setUp(self) -> None:
        self.make(redis_wait_replicas=2, publish_reply_timeout_s=10.0)

    def up(self) -> FakeTransport:
        transport = self.connect()
        self.answer(transport, b"+PONG\r\n")
        self.answer(transport, b":2\r\n")
        transport.clear()
        return transport

    def test_replicas_are_counted_before_it_is_up(self) -> None:
        transport = self.connect()
        self.answer(transport, b"+PONG\r\n")
        self.assertTrue(transport.value().endswith(encode_command(b"WAIT", b"2", b"500")))
        self.assertEqual(self.listener.heard, [])
        self.answer(transport, b":1\r\n")
        self.assertEqual(self.listener.heard, [("down", "unreplicated")])
        self.assertTrue(transport.aborted)

    def test_each_write_ends_with_a_wait(self) -> None:
        transport = self.up()
        self.send(1, 2)
        self.assertTrue(transport.value().endswith(b"ab\r\n" + self.WAIT))
        self.assertEqual(transport.value().count(self.WAIT), 1)

    def test_nothing_counts_before_the_replicas_have_it(self) -> None:
        transport = self.up()
        self.send(1, 2)
        self.send(3)
        self.answer(transport, ID * 2)
        self.assertEqual(self.listener.confirmed, 0)
        self.answer(transport, b":2\r\n" + ID)
        self.assertEqual(self.listener.confirmed, 2)
        self.answer(transport, b":3\r\n")
        self.assertEqual(self.listener.confirmed, 3)

    def test_too_few_replicas_send_the_batch_again(self) -> None:
        transport = self.up()
        self.send(1)
        self.send(2)
        self.answer(transport, ID + b":2\r\n" + ID + b":1\r\n")
        self.assertEqual(self.listener.confirmed, 1)
        self.assertEqual(self.listener.heard, ["up", ("down", "unreplicated")])
        self.reactor.advance(1.0)
        transport = self.up()
        self.send(2)
        self.answer(transport, ID + b":2\r\n")
        self.assertEqual(self.listener.confirmed, 2)

    def test_a_refusal_keeps_its_place(self) -> None:
        transport = self.up()
        heard: list[object] = []
        self.listener.bus_confirmed = heard.append
        self.listener.bus_refused = heard.append
        self.send(1, 2, 3, 4)
        self.answer(transport, ID + b"-WRONGTYPE no\r\n" + ID * 2)
        self.assertEqual(heard, [])
        self.answer(transport, b":2\r\n")
        self.assertEqual(heard, [1, "wrongtype", 2])

    def test_an_error_of_the_server_or_to_wait_itself_sends_the_batch_again(self) -> None:
        for replies, reason, confirmed in (
            (ID + b"-OOM no\r\n", "oom", 0),
            (ID * 2 + b"-UNBLOCKED force unblock from blocking operation\r\n", "unblocked", 0),
            (ID * 2 + b"-ERR WAIT cannot be used with replica instances.\r\n", "err", 0),
            (ID * 2 + b"-NOPERM no\r\n", "noperm", 0),
            (ID + b":2\r\n", "protocol", 0),
            # What a WAIT spoke for counts, whatever comes after it.
            (ID * 2 + b":2\r\n" + ID, "protocol", 2),
        ):
            self.setUp()
            transport = self.up()
            self.send(1, 2)
            self.answer(transport, replies)
            self.assertEqual(self.listener.heard, ["up", ("down", reason)])
            self.assertEqual(self.listener.confirmed, confirmed)

    def test_more_ids_than_messages_are_no_redis(self) -> None:
        transport = self.up()
        self.send(1)
        self.answer(transport, ID * 2)
        self.answer(transport, b":2\r\n")
        self.assertEqual(self.listener.heard, ["up", ("down", "protocol")])
        self.assertEqual(self.listener.confirmed, 0)

    def test_what_an_earlier_connection_left_unanswered_does_not_count(self) -> None:
        transport = self.up()
        self.send(1, 2)
        self.answer(transport, ID)
        transport.lose()
        self.reactor.advance(1.0)
        transport = self.up()
        self.send(1)
        self.answer(transport, ID + b":2\r\n")
        self.assertEqual(self.listener.confirmed, 1)

    def test_a_listener_that_has_had_enough_hears_no_more(self) -> None:
        transport = self.up()
        self.listener.bus_refused = lambda reason: self.bus.drop_connection("protocol")
        self.send(1, 2, 3)
        self.answer(transport, ID + b"-WRONGTYPE no\r\n" + ID + b":2\r\n")
        self.assertEqual(self.listener.confirmed, 1)
        self.assertEqual(self.listener.heard, ["up", ("down", "protocol")])

    def test_it_asks_for_a_sign_of_life_between_batches(self) -> None:
        transport = self.up()
        self.send(1)
        self.answer(transport, ID)
        self.reactor.advance(PING_IDLE_S)
        self.assertNotIn(PING, transport.value())
        self.answer(transport, b":2\r\n")
        self.reactor.advance(PING_IDLE_S)
        self.assertTrue(transport.value().endswith(PING))
        self.answer(transport, b"+PONG\r\n")
        self.assertEqual(self.listener.heard, ["up"])
