# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold docs/operations.md to the source: every message an operator can meet is there, by its exact text.

Fails with each message of the source that the document lacks, each of the document that the source does not have, and
each that no test names by words which no other message has, but for those that ``UNTESTED`` admits to. In the document
a message is the first cell of a table's row, in backticks; what varies is written ``<so>``. Findings of the preflight
are written as they are shown: what was seen, an arrow, and what to do.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "operations.md"
SOURCES = (
    "plugins/module_utils/_swarm/*.py",
    "plugins/module_utils/_fleet/gpus.py",
    "plugins/module_utils/_registry.py",
    "plugins/module_utils/_access.py",
    "plugins/modules/swarm_*.py",
    "plugins/modules/registry_*.py",
    "plugins/modules/image_push.py",
    "plugins/action/swarm_*.py",
    "plugins/plugin_utils/_gate.py",
    "plugins/plugin_utils/_hooks.py",
    "plugins/plugin_utils/_progress.py",
    "plugins/plugin_utils/_trial.py",
    "plugins/filter/preflight_report.py",
    "plugins/modules/node_preflight.py",
    "plugins/module_utils/_node/*.py",
    "plugins/action/node_preflight.py",
    "plugins/modules/lambda_*.py",
    "plugins/module_utils/_lambda/*.py",
    "plugins/inventory/lambda_cloud.py",
)
TESTS = ("tests/**/*.py", "molecule/*/tests/*.py")
# What is called with a message: exceptions by the ends of their names, and what shows progress or collects problems.
RAISED = re.compile(r"(Error|Failed|Manager|Fail|NotUp|Stuck|InvalidKey|Unavailable|InsufficientCapacity)$")
SHOWN = ("fail_json", "say", "warn")
COLLECTED = ("errors", "problems", "lines", "parts", "reports", "words", "wrong", "warnings")
ASSIGNED = ("msg", "recovered", "next_step", "told")
KEYS = ("msg", "problem")
ARROW = " → "
VARIES = "\0"
# Beginnings of messages that no test names yet, for what varies ``<>``. Only ever shorter: one that has a test, or that
# nothing says any more, is wrong here.
UNTESTED: tuple[str, ...] = ()
# So many words in a row that no other message has tell it from all others.
WORDS = 3
# What has fewer words, something that varies counted as one, only puts others together.
SENTENCE = 3


@dataclass(frozen=True)
class Message:
    """One message of the source, with ``VARIES`` for what is worked out when it is said."""

    place: str
    text: str

    def fits(self, said: str) -> bool:
        """Whether the document may say it so. A regular expression tries every place for each part that varies."""
        first, *parts = self.text.split(VARIES)
        if not parts:
            return said == first
        *parts, last = parts
        end = len(said) - len(last)
        place = _after(said[:end], parts, len(first))
        return said.startswith(first) and said.endswith(last) and 0 <= place < end

    def within(self, said: str) -> bool:
        """Whether one of some lines has it."""
        parts = self.text.split(VARIES)
        return any(_after(line, parts, -1) >= 0 for line in said.splitlines())

    def runs(self) -> set[str]:
        """Runs of words by which a test may name it: whole fragments where these are short."""
        found = set()
        for fragment in self.text.split(VARIES):
            words = fragment.split()
            length = min(WORDS, len(words))
            found |= {" ".join(words[i : i + length]) for i in range(len(words) - length + 1)} if words else set()
        return found


def _after(text: str, parts: list[str], place: int) -> int:
    """Where the last of some parts ends that follow each other with something between; -1 where they do not.

    ``place`` is where the one before the first ends; -1 where there is none.
    """
    for part in parts:
        found = text.find(part, place + 1)
        if found < 0:
            return -1
        place = found + len(part)
    return place


def template(node: ast.expr) -> str | None:
    """A string, formatted or not, or several added up; None where it is something else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else VARIES for v in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [template(node.left), template(node.right)]
        return "".join(VARIES if part is None else part for part in parts) if any(parts) else None
    return None


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _said(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions by which a node says something."""
    if isinstance(node, ast.Call):
        name = _name(node.func)
        failed = isinstance(node.args[0], ast.Constant) and node.args[0].value == "failed" if node.args else False
        if (name == "Verdict" and failed) or name == "Judgement":
            yield from node.args[1:2]
        elif RAISED.search(name) or name in SHOWN or name == "__init__":
            yield from [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "msg")]
        elif name == "append" and isinstance(node.func, ast.Attribute) and _name(node.func.value) in COLLECTED:
            yield from node.args
    elif isinstance(node, ast.Return) and node.value is not None:
        # Of several values that are returned, those that are sentences.
        yield from node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
    elif isinstance(node, ast.Dict):
        yield from (v for k, v in zip(node.keys, node.values, strict=True) if k and template(k) in KEYS)
    elif isinstance(node, ast.Assign) and any(_name(target) in ASSIGNED for target in node.targets):
        yield node.value


def _strings(node: ast.expr) -> Iterator[tuple[int, str]]:
    """The strings of such an expression, also of the lists and choices in it."""
    text = template(node)
    if text is not None:
        yield node.lineno, text
        return
    children: list[ast.expr] = []
    if isinstance(node, (ast.List, ast.Tuple)):
        children = node.elts
    elif isinstance(node, ast.IfExp):
        children = [node.body, node.orelse]
    elif isinstance(node, ast.BinOp):
        children = [node.left, node.right]
    elif isinstance(node, ast.ListComp):
        children = [node.elt]
    elif isinstance(node, ast.BoolOp):
        children = node.values
    elif isinstance(node, ast.Call) and _name(node.func) in ("join", "str"):
        children = node.args
    for child in children:
        yield from _strings(child)


def _either(node: ast.expr) -> list[str]:
    """What an expression says, both of a choice."""
    if isinstance(node, ast.IfExp):
        return [*_either(node.body), *_either(node.orelse)]
    return [template(node) or VARIES]


def _findings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The findings that a module makes: what was seen, and what to do; a name is what it stood for last."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        nodes = sorted((n for n in ast.walk(function) if isinstance(n, ast.stmt)), key=lambda n: n.lineno)
        stands: dict[str, ast.expr] = {}
        for node in nodes:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                stands[node.targets[0].id] = node.value
            if isinstance(node, (ast.FunctionDef, ast.If, ast.For, ast.With, ast.Try)):
                continue  # the statements in it come by themselves
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and _name(call.func) == "Finding":
                    seen, fix = (_either(stands.get(_name(e), e)) for e in call.args[2:4])
                    yield from ((call.lineno, f"{s}{ARROW}{f}") for s in seen for f in fix)


def messages() -> list[Message]:
    """Those of the source, in order."""
    found: dict[str, Message] = {}
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            tree = ast.parse(path.read_text("utf-8"))
            said = [each for node in ast.walk(tree) for expression in _said(node) for each in _strings(expression)]
            for line, text in [*said, *_findings(tree)]:
                text = re.sub(r"\s+", " ", text).strip()
                if len(re.findall(r"[^\W\d]{2,}", text)) + (VARIES in text) >= SENTENCE:
                    found.setdefault(text, Message(f"{path.relative_to(ROOT)}:{line}", text))
    return list(found.values())


def documented(text: str) -> list[str]:
    """Messages of the document, in order."""
    return [cell.replace("\\|", "|") for cell in re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)]


def test_strings() -> str:
    """All strings of the tests, one a line, with regular expressions' escapes taken out."""
    found = []
    for pattern in TESTS:
        for path in sorted(ROOT.glob(pattern)):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, (ast.Constant, ast.JoinedStr)) and (text := template(node)):
                    found.append(" ".join(re.sub(r"\\(.)", r"\1", text).split()))
    return "\n".join(found)


def main() -> int:
    """Compare; prints what is wrong."""
    source, document = messages(), documented(DOCUMENT.read_text("utf-8"))
    tests = test_strings()
    wrong = [
        f"{message.place}: not in {DOCUMENT.relative_to(ROOT)}: {message.text.replace(VARIES, '<>')}"
        for message in source
        if not any(message.fits(text) for text in document)
    ]
    wrong += [
        f"{DOCUMENT.relative_to(ROOT)}: nothing says: {text}"
        for text in document
        if not any(message.fits(text) for message in source)
    ]
    untested: dict[str, str] = {}
    for message in source:
        others = "\n".join(other.text for other in source if other is not message)
        own = {run for run in message.runs() if run not in others}
        if not any(run in tests for run in own) and not message.within(tests):
            untested[message.text.replace(VARIES, "<>")] = message.place
    admitted = {text for text in untested if text.startswith(UNTESTED)} if UNTESTED else set()
    wrong += [f"{place}: no test names it: {text}" for text, place in untested.items() if text not in admitted]
    wrong += [f"UNTESTED: has a test, or is gone: {t}" for t in UNTESTED if not any(a.startswith(t) for a in admitted)]
    print("\n".join(wrong) or f"{len(source)} messages, each documented, {len(source) - len(untested)} named by a test")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
