"""Option types and options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from .failures import Exit

_UNITS_S: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)")


def parse_duration(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``15m``, ``1h``, ``7d``, ``1h30m``. Raises: ``ValueError``."""
    wanted = text.strip().lower()
    parts = _DURATION.findall(wanted)
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != wanted or seconds <= 0:
        raise ValueError(f"{text!r} is not a length of time such as 30s, 15m, 1h, 7d")
    return seconds


def duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """An option's callback: the length of time it was given, in seconds."""
    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as problem:
        raise click.BadParameter(str(problem), ctx, param) from problem


json_option = click.option(
    "--json", "json_output", is_flag=True, help="JSON on standard output, all else on standard error."
)


tone_option = click.option(
    "--tone", "tone_hz", type=click.FloatRange(20, 20000), metavar="HZ", help="A sine instead of a file."
)
mix_option = click.option(
    "--mix", type=click.Choice(["left", "right", "average"]), help="Make one channel of a file with several."
)
ca_option = click.option(
    "--ca",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Trust the authorities (PEM) in this file instead.",
)
insecure_option = click.option(
    "--insecure", is_flag=True, help="Do not look at the server's certificate. For trying out only."
)


def epilog(examples: str, *codes: Exit) -> str:
    """The end of a ``--help``: examples, then the exit codes the command can end with."""
    shown = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    can_end = codes or (Exit.OK, Exit.REFUSED, Exit.USAGE)
    listed = "\n".join(f"  {code.value}  {code.meaning}" for code in can_end)
    return f"\b\nExamples:\n{shown}\n\n\b\nExit codes:\n{listed}"
