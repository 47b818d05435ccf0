"""The reference page of the command line, written from the commands themselves. Pure.

``python -m voiceingest.reference`` writes it; a test fails when it is stale.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from .failures import Exit
from .tree import root

_HEAD = """# Command line

This page is written from the commands: `python -m voiceingest.reference`.

At a terminal the output is in colour and moves; `NO_COLOR=1` takes the colour out. In a pipe it is
plain lines. With `--json` standard output carries JSON, one document a line, and nothing else. Results
go to standard output, warnings and errors to standard error; an error is one line, with a hint in a
second one where something would help. `-h` or `--help` after any command shows what is written here.

## Exit codes

| code | meaning |
|---|---|
"""


def page() -> str:
    """The whole page."""
    codes = "".join(f"| {code.value} | {code.meaning} |\n" for code in Exit)
    context = root.make_context("voiceingest", [], resilient_parsing=True)
    return _HEAD + codes + "".join(_command(root, context))


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                yield from _command(below, click.Context(below, info_name=name, parent=context))
        return
    yield f"\n## {context.command_path}\n\n"
    yield f"```\n{context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```\n\n"
    yield _prose(command.help or "")
    yield from _options(command, context)
    yield from _examples(command.epilog or "")


def _prose(text: str) -> str:
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n")]
    return "".join(f"{paragraph}\n\n" for paragraph in paragraphs)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    yield "| option | what it does |\n|---|---|\n"
    for parameter in command.get_params(context):
        # What an argument is for is said in the text above; --help is the same for all.
        if isinstance(parameter, click.Argument) or "--help" in parameter.opts:
            continue
        record = parameter.get_help_record(context)
        if record is not None:
            names, text = (" ".join(part.split()).replace("|", "\\|") for part in record)
            yield f"| `{names}` | {text} |\n"


def _examples(epilog: str) -> Iterator[str]:
    """The examples of a ``--help``; its exit codes are in the table above."""
    lines = [line[2:] for line in epilog.partition("Exit codes:")[0].splitlines() if line.startswith("  ")]
    if lines:
        yield "\n```sh\n" + "\n".join(lines) + "\n```\n"
