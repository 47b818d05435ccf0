"""A network of its own, joined to the machine by a cable that can be cut without a word. Needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Any


class Netns:
    """A namespace whose only way out is a pair of virtual interfaces.

    ``near`` is the machine's address on the cable; ``below`` are the words that put a program inside.
    """

    def __init__(self, add_cleanup: Callable[..., Any]) -> None:
        self._name = f"vf{os.getpid()}"
        here, there = f"{self._name}a", f"{self._name}b"
        third = os.getpid() % 250 + 1
        self.near, far = f"10.213.{third}.1", f"10.213.{third}.2"
        self.below = ["ip", "netns", "exec", self._name]
        _run("ip", "netns", "add", self._name)
        add_cleanup(_run, "ip", "netns", "del", self._name)
        _run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", self._name)
        _run("ip", "addr", "add", f"{self.near}/30", "dev", here)
        _run("ip", "link", "set", here, "up")
        _run(*self.below, "ip", "addr", "add", f"{far}/30", "dev", there)
        _run(*self.below, "ip", "link", "set", there, "up")
        _run(*self.below, "ip", "link", "set", "lo", "up")

    def swallow(self) -> None:
        """From now on every packet is lost, both ways, without an answer."""
        for chain in ("INPUT", "OUTPUT"):
            _run(*self.below, "iptables", "-I", chain, "-j", "DROP")


def missing() -> str:
    """What there is not; empty when a namespace can be made."""
    if os.geteuid() != 0:
        return "a network namespace needs root"
    absent = [program for program in ("ip", "iptables") if shutil.which(program) is None]
    return f"{' and '.join(absent)} not installed" if absent else ""


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
