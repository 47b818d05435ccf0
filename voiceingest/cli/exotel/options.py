"""What the options of ``simulate exotel`` mean. Pure."""

from __future__ import annotations

import re
from typing import Final

import click

from ..options import parse_duration
from .outgoing import PARAMETERS_MAX_CHARS, PARAMETERS_MAX_COUNT

# Fingers take a moment from key to key.
DIGIT_EVERY_S: Final = 0.3
DIGITS_AT_S: Final = 1.0

Keys = tuple[tuple[float, str], ...]


def parse_keys(text: str) -> Keys:
    """``12#@2s``: the keys and the seconds at which each is pressed. Raises: ``ValueError``."""
    digits, at, when = text.strip().partition("@")
    if not re.fullmatch(r"[0-9*#]+", digits):
        raise ValueError(f"{text!r} is not keys of a telephone and a time, such as 12#@2s")
    start_s = parse_duration(when) if at else DIGITS_AT_S
    return tuple((start_s + n * DIGIT_EVERY_S, digit) for n, digit in enumerate(digits))


def parse_parameters(pairs: tuple[str, ...]) -> dict[str, str]:
    """``k=v`` pairs, as many as Exotel lets through. Raises: ``ValueError``."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise ValueError(f"{pair!r} is not a name, an equals sign and a value")
        found[key] = value
    if len(found) > PARAMETERS_MAX_COUNT:
        raise ValueError(f"Exotel lets {PARAMETERS_MAX_COUNT} parameters through, not {len(found)}")
    if sum(len(key) + len(value) + 2 for key, value in found.items()) > PARAMETERS_MAX_CHARS:
        raise ValueError(f"Exotel lets {PARAMETERS_MAX_CHARS} characters of parameters through")
    return found


def keys(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> Keys:
    """The callback of ``--dtmf``."""
    try:
        return tuple(sorted(pressed for text in value for pressed in parse_keys(text)))
    except ValueError as problem:
        raise click.BadParameter(str(problem), ctx, param) from problem


def parameters(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    """The callback of ``--param``."""
    try:
        return parse_parameters(value)
    except ValueError as problem:
        raise click.BadParameter(str(problem), ctx, param) from problem
