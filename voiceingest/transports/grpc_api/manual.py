"""The reference page of gRPC, made from the comments of ``proto/session.proto``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PROTO: Final = Path(__file__).resolve().parents[3] / "proto" / "session.proto"

_BLOCK: Final = re.compile(r"(service|message|enum) (\w+) {")
_CALL: Final = re.compile(r" *rpc (\w+)\((\w+)\) returns \((\w+)\);")
_FIELD: Final = re.compile(r" *((?:repeated )?[\w.]+ )?(\w+) = (\d+);")


@dataclass
class Block:
    """A service, a message or an enum; each row is the cells of one thing in it, its comment last."""

    kind: str
    name: str
    text: str
    rows: list[tuple[str, ...]] = field(default_factory=list)


def blocks(text: str) -> tuple[str, list[Block]]:
    """What the file says of itself, and of each block."""
    head: str | None = None
    comment: list[str] = []
    found: list[Block] = []
    for line in text.splitlines():
        words = line.strip()
        if words.startswith("//"):
            comment.append(words[2:].strip())
            continue
        said = " ".join(words for words in comment if words)
        if head is None:
            head = said
        elif block := _BLOCK.match(line):
            found.append(Block(block[1], block[2], said))
        elif call := _CALL.match(line):
            found[-1].rows.append((f"`{call[1]}`", f"`{call[2]}`", f"`{call[3]}`", said))
        elif (one := _FIELD.match(line)) and found:
            kind = (one[1] or "").strip().removeprefix("google.protobuf.")
            found[-1].rows.append((one[3], f"`{one[2]}`", *([f"`{kind}`"] if kind else []), said))
        comment = []
    return head or "", found


_HEADS: Final = {
    "service": ("call", "asks", "answers", "what it does"),
    "message": ("number", "field", "type", "what it is"),
    "enum": ("number", "value", "what it means"),
}


def page() -> str:
    """The reference page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    head, found = blocks(PROTO.read_text(encoding="utf-8"))
    yield "# gRPC"
    yield ""
    yield head
    yield ""
    yield "Health (`grpc.health.v1.Health`) and reflection are there too, and ask for no token."
    for block in found:
        yield f"\n## {block.name}\n"
        yield block.text
        if block.rows:
            names = _HEADS[block.kind]
            yield f"\n| {' | '.join(names)} |"
            yield f"|{'---|' * len(names)}"
            for row in block.rows:
                yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
