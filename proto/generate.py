"""Make the Python code of ``session.proto``: ``make proto``; ``--check`` fails where it is stale."""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Final

from grpc_tools import protoc

HERE: Final = Path(__file__).resolve().parent
THERE: Final = HERE.parent / "voiceingest" / "transports" / "grpc_api" / "generated"

# protoc writes an import that only works where the file lies on the path.
ABSOLUTE: Final = "import session_pb2 as session__pb2"
RELATIVE: Final = "from . import session_pb2 as session__pb2"


def made() -> dict[str, str]:
    """The files by name, as they should be."""
    with tempfile.TemporaryDirectory() as folder:
        outs = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
        google = files("grpc_tools") / "_proto"
        if protoc.main(["protoc", f"-I{HERE}", f"-I{google}", *outs, "session.proto"]):
            raise SystemExit("protoc failed")
        texts = {path.name: path.read_text() for path in sorted(Path(folder).iterdir())}
    return {name: text.replace(ABSOLUTE, RELATIVE) for name, text in texts.items()}


def main() -> int:
    """Write the files, or compare them."""
    wanted = made()
    if "--check" not in sys.argv[1:]:
        for name, text in wanted.items():
            (THERE / name).write_text(text)
        return 0
    stale = [name for name, text in wanted.items() if (THERE / name).read_text() != text]
    if stale:
        print(f"stale: {', '.join(stale)}; make proto", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
