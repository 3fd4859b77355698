"""The registry of rules and the tests that show them, held to each other."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import yaml

TESTS = Path(__file__).resolve().parent
RULES = yaml.safe_load((TESTS / "requirements.yaml").read_text("utf-8"))
APPLICABLE = {rule["id"] for rule in RULES if rule["applies"] is True}


def named() -> dict[str, set[str]]:
    """The ids that tests name, with the files that do."""
    found: dict[str, set[str]] = {}
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "requirement":
                for argument in node.args:
                    assert isinstance(argument, ast.Constant), f"{path.name}:{node.lineno}: name ids literally"
                    found.setdefault(str(argument.value), set()).add(path.name)
    return found


def test_every_rule_that_applies_has_a_test() -> None:
    assert sorted(APPLICABLE - named().keys()) == []


def test_every_rule_that_a_test_names_applies() -> None:
    assert {identity: files for identity, files in named().items() if identity not in APPLICABLE} == {}


def test_the_registry_is_whole() -> None:
    counts = Counter(rule["id"] for rule in RULES)
    assert [identity for identity, count in counts.items() if count > 1] == []
    for rule in RULES:
        assert set(rule) == {"id", "rule", "source", "applies"}, rule
        assert re.fullmatch(r"(MCP2[56]|BRIDGE)-[A-Z0-9]+-\d\d", rule["id"]), rule
        assert rule["rule"].endswith("."), rule
        assert rule["applies"] is True or re.fullmatch(r"no \(.+\)", rule["applies"]), rule
