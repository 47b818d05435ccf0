"""``voiceingest keygen``: a key pair for tokens, and a certificate for trying out."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from .console import Console
from .failures import UsageFailed
from .minting import RSA_BITS, RSA_MAX_BITS, RSA_MIN_BITS, rsa_pair, tls_pair
from .options import epilog, json_option

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644

_FORCE = "--force overwrites; tokens signed with the old key are then void"


def write_file(path: Path, content: bytes, mode: int, *, force: bool) -> None:
    """Write a file that nobody else can read before it has its mode.

    Raises: ``UsageFailed`` when it exists and ``force`` is not given, or cannot be written.
    """
    partial = path.with_name(path.name + ".new")
    try:
        if path.exists() and not force:
            raise UsageFailed(f"{path} exists", hint=_FORCE)
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
        partial.replace(path)
    except OSError as problem:
        raise UsageFailed(f"{path} cannot be written: {problem.strerror}") from problem


def _tls_files(hosts: tuple[str, ...]) -> dict[str, tuple[bytes, int]]:
    names = [name for given in hosts for name in given.split(",") if name]
    try:
        pair = tls_pair(names, datetime.now(UTC))
    except (ValueError, IndexError) as problem:
        raise UsageFailed("--tls takes host names and IP addresses") from problem
    return {"tls-key.pem": (pair.private_pem, PRIVATE_MODE), "tls-cert.pem": (pair.public_pem, PUBLIC_MODE)}


@click.command(
    epilog=epilog(
        """voiceingest keygen --out keys
voiceingest keygen --out keys --tls localhost,127.0.0.1
JWT_PUBLIC_KEY_FILE=keys/public.pem twistd -n voiceingest"""
    )
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    show_default=".",
    help="Directory.",
)
@click.option(
    "--bits",
    type=click.IntRange(RSA_MIN_BITS, RSA_MAX_BITS),
    default=RSA_BITS,
    show_default=True,
    help="RSA size.",
)
@click.option(
    "--tls",
    "tls_hosts",
    metavar="HOST,...",
    multiple=True,
    help="Also a self-signed certificate for these hosts.",
)
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
@json_option
def keygen(out: Path, bits: int, tls_hosts: tuple[str, ...], force: bool, json_output: bool) -> None:
    """Make an RSA pair to sign and verify tokens with.

    private.pem (mode 0600) signs and stays with whoever mints tokens; public.pem is for the daemon.
    With --tls also tls-key.pem and tls-cert.pem, signed by itself: for trying out, not for production.
    """
    console = Console(json_output=json_output)
    files: dict[str, tuple[bytes, int]] = _tls_files(tls_hosts) if tls_hosts else {}
    pair = rsa_pair(bits)
    files = {
        "private.pem": (pair.private_pem, PRIVATE_MODE),
        "public.pem": (pair.public_pem, PUBLIC_MODE),
        **files,
    }
    _refuse_existing(out, files, force)
    for name, (content, mode) in files.items():
        write_file(out / name, content, mode, force=force)
    written = {name: str(out / name) for name in files}
    console.document({"files": written, "bits": bits})
    for name, path in written.items():
        console.say(f"{path}  mode {files[name][1]:04o}")
    console.note(f"the daemon wants:  JWT_PUBLIC_KEY_FILE={written['public.pem']}", style="dim")
    if tls_hosts:
        pair_text = f"SSL_KEY_PATH={written['tls-key.pem']} SSL_CERT_PATH={written['tls-cert.pem']}"
        console.note(f"and for TLS:  {pair_text}   (clients: --ca {written['tls-cert.pem']})", style="dim")


def _refuse_existing(out: Path, files: dict[str, tuple[bytes, int]], force: bool) -> None:
    """All or nothing: half a pair of a new key with half of an old one verifies nothing."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UsageFailed(f"{out} cannot be made: {problem.strerror}") from problem
    present = [str(out / name) for name in files if (out / name).exists()]
    if present and not force:
        raise UsageFailed(f"{', '.join(present)} exists", hint=_FORCE)
