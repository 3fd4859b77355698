"""Runs the official conformance suite and says what did not succeed."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from conformance import packages

HERE = Path(__file__).resolve().parent
REVISIONS = ("2025-11-25", "2026-07-28")
STAMP = re.compile(r"-\d{4}-\d\d-\d\dT[\d-]+Z$")  # ends the name of a scenario's directory
FINE = ("SUCCESS", "INFO")


@dataclass(frozen=True)
class Outcome:
    """What one run of the suite found.

    ``failed`` maps ``scenario:check`` to what the suite says of each check that neither succeeded nor informs only;
    ``succeeded`` counts the others; ``scenarios`` are all that ran.
    """

    failed: Mapping[str, str]
    succeeded: int
    scenarios: frozenset[str]

    def unexplained(self, baseline: Mapping[str, str]) -> list[str]:
        """Lines for what failed without an entry in ``baseline`` and for entries that nothing failed for.

        An entry names ``scenario`` or ``scenario:check``; its value is the reason.
        """
        named = {key for key in self.failed if key in baseline or key.partition(":")[0] in baseline}
        used = named | {key.partition(":")[0] for key in named}
        lines = [f"{key}: {self.failed[key]}" for key in sorted(self.failed.keys() - named)]
        lines += [f"{key}: passes, but the baseline has it" for key in sorted(baseline.keys() - used)]
        return lines + [f"{key}: the baseline gives no reason" for key in sorted(baseline) if not baseline[key]]


def run(url: str, revision: str, output: Path) -> Outcome:
    """Run what ``revision`` requires against the server at ``url``; ``output`` keeps the suite's own files.

    Raises:
        RuntimeError: the suite did not run.
    """
    program = packages.modules() / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    command = [packages.node(), str(program), "server", "--url", url]
    command += ["--requirements", revision, "--output-dir", str(output)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    failed: dict[str, list[str]] = {}
    scenarios, succeeded = set(), 0
    for path in sorted(output.glob("server-*/checks.json")):
        scenario = STAMP.sub("", path.parent.name.removeprefix("server-"))
        scenarios.add(scenario)
        for check in json.loads(path.read_text("utf-8")):
            if check["status"] in FINE:
                succeeded += 1
                continue
            said = check.get("errorMessage") or json.dumps(check.get("details"))
            failed.setdefault(f"{scenario}:{check['id']}", []).append(f"{check['status']}: {said}")
    if not scenarios:
        raise RuntimeError(f"the suite did not run:\n{ended.stdout}\n{ended.stderr}")
    return Outcome({key: "; ".join(lines) for key, lines in failed.items()}, succeeded, frozenset(scenarios))


def baseline(name: str, server: str, revision: str) -> dict[str, str]:
    """The entries of ``NAME.yaml`` for one server and revision."""
    document = yaml.safe_load((HERE / f"{name}.yaml").read_text("utf-8"))
    return {str(key): str(reason or "") for key, reason in ((document.get(server) or {}).get(revision) or {}).items()}
