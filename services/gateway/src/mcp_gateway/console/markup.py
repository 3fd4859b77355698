"""HTML from untrusted text: every attribute and every child is escaped here, and nowhere else is markup made."""

from __future__ import annotations

from html import escape
from string import Template


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, attributes: dict[str, str | bool] | None = None, *children: str) -> Markup:
    """An element; children that are no ``Markup`` are text. Attributes that are False are left out."""
    written = "".join(
        f" {key}" if value is True else f' {key}="{escape(value)}"'
        for key, value in (attributes or {}).items()
        if value is not False
    )
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def void(name: str, attributes: dict[str, str | bool]) -> Markup:
    """An element that has no content, such as ``input``."""
    return Markup(tag(name, attributes).removesuffix(f"</{name}>"))


def join(*children: str) -> Markup:
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))


def fill(template: Template, **values: str) -> str:
    """The template with its ``$names`` replaced; values that are no ``Markup`` are escaped."""
    return template.substitute({name: join(value) for name, value in values.items()})
