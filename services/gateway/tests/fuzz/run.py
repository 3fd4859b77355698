"""Coverage-guided fuzzing of a parser: run.py --seconds 600 sse_stream (``all`` for each in turn).

It begins with ``corpus/<target>/`` and keeps what reaches new code in ``--keep`` (not in the repository). An input
that breaks a promise is written beside as ``crash-*`` and shown; put it into ``corpus/<target>/`` with a telling
name and it is replayed by ``test_corpus.py`` for ever. Needs ``pip install atheris``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def fuzz(target: str, seconds: int, keep: Path) -> None:
    """Fuzz in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["mcp_gateway", "mcp_gateway.config"]):
        from fuzz.targets import TARGETS
    keep.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", "-max_len=4096", f"-artifact_prefix={keep}/", "-print_final_stats=1"]
    seeds = HERE / "corpus" / target
    atheris.Setup([sys.argv[0], *options, str(keep), *([str(seeds)] if seeds.is_dir() else [])], TARGETS[target])
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", help="a name of targets.py, or all")
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "mcp-gateway-fuzz")
    arguments = parser.parse_args()
    if arguments.target != "all":
        fuzz(arguments.target, arguments.seconds, arguments.keep / arguments.target)
        return 0
    from fuzz.targets import TARGETS

    failed = []
    for target in TARGETS:
        command = [
            sys.executable,
            "-m",
            "fuzz.run",
            target,
            f"--seconds={arguments.seconds}",
            f"--keep={arguments.keep}",
        ]
        failed += [target] if subprocess.run(command, check=False, cwd=HERE.parent).returncode else []
    print(f"broken: {', '.join(failed)}" if failed else "no promise was broken")
    return bool(failed)


if __name__ == "__main__":
    sys.path[0] = str(HERE.parent)
    sys.exit(main())
