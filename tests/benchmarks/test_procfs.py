"""What is read of /proc."""

from __future__ import annotations

import os
import time

from benchmarks import procfs
from benchmarks.procfs import (
    cpu_model,
    cpu_s,
    descriptors,
    resident_kib,
    rss_kib,
    run_s,
    threads,
    waited_s,
    waiting_s,
)
from tests.support.case import SynchronousTestCase


class ProcfsTests(SynchronousTestCase):
    def test_threads_are_added_and_waiting_is_apart(self) -> None:
        threads = ["1500000000 250000000 3\n", "500000000 0 1\n"]
        self.assertEqual((run_s(threads), waiting_s(threads)), (2.0, 0.25))

    def test_user_and_system_time_are_added(self) -> None:
        self.assertEqual(procfs.ticks("7 (a (b) c) S 1 7 7 0 -1 41 1 0 0 0 150 25 900 900 20\n"), 175)

    def test_memory(self) -> None:
        self.assertEqual(resident_kib("VmHWM:\t  999 kB\nVmRSS:\t  123 kB\nRssAnon:\t 4 kB\n"), 123)

    def test_a_process_that_has_ended_has_no_memory(self) -> None:
        self.assertRaises(RuntimeError, resident_kib, "Name:\tx\nState:\tZ (zombie)\n")

    def test_processor(self) -> None:
        self.assertEqual(cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"), "Some CPU @ 2 GHz")
        self.assertEqual(cpu_model("processor\t: 0\n"), "unknown processor")

    def test_this_process(self) -> None:
        before, mine = cpu_s(os.getpid()), time.process_time()
        while time.process_time() - mine < 0.02:
            pass
        self.assertGreater(cpu_s(os.getpid()) - before, 0.01)
        self.assertGreaterEqual(procfs.spent_s(os.getpid()), 0.02)
        self.assertGreater(waited_s(os.getpid()), 0.0)
        self.assertGreater(rss_kib(os.getpid()), 1000)
        self.assertGreater(threads(os.getpid()), 0)

    def test_a_descriptor_more(self) -> None:
        before = descriptors(os.getpid())
        ends = os.pipe()
        during = descriptors(os.getpid())
        for end in ends:
            os.close(end)
        self.assertEqual(during - before, 2)
