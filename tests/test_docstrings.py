"""Every parameter of a public callable is explained, and so is what it raises.

A parameter is explained where the docstring of the callable, or of its class for `__init__`, names it in backticks, or,
for a field of a data class, where a docstring stands below the field.  `**keys` and `*args` count as the others do.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import dulcet
import dulcet.aio
import dulcet.toolkit

PACKAGES = (dulcet, dulcet.aio, dulcet.toolkit)
RAISES = re.compile(r"\braise (\w+)")


def public() -> Iterator[tuple[str, Any, Callable[..., Any]]]:
    """Dotted name, the class where there is one, and the function, of all that is public."""
    for package in PACKAGES:
        for name in package.__all__:
            found = getattr(package, name)
            if inspect.isclass(found):
                if "__init__" in vars(found):
                    yield f"{package.__name__}.{name}", found, found.__init__
                for member, value in vars(found).items():
                    function = getattr(value, "__func__", value)
                    if not member.startswith("_") and inspect.isfunction(function):
                        yield f"{package.__name__}.{name}.{member}", found, function
            elif inspect.isfunction(found):
                yield f"{package.__name__}.{name}", None, found


CALLABLES = {name: (kind, function) for name, kind, function in public()}


@functools.cache
def field_docstrings(kind: type) -> dict[str, str]:
    """What stands below the fields of a class and of those it comes from."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        except (OSError, TypeError):
            continue
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:]):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[field.target.id] = str(text.value.value)
    return found


def explained(parameter: str, kind: type | None, function: Callable[..., Any]) -> bool:
    text = inspect.getdoc(function) or ""
    if kind is not None and function.__name__ == "__init__":
        text += "\n" + (inspect.getdoc(kind) or "")
        if parameter in field_docstrings(kind):
            return True
    return re.search(rf"`[^`\n]*\b{re.escape(parameter)}\b[^`\n]*`", text) is not None


@pytest.mark.parametrize("name", CALLABLES)
def test_every_parameter_is_explained(name: str) -> None:
    kind, function = CALLABLES[name]
    parameters = inspect.signature(function).parameters
    named = [one for one in parameters if one not in ("self", "cls") and not one.startswith("_")]
    missing = [one for one in named if not explained(one, kind, function)]
    assert missing == [], f"{name}: not explained in its docstring: {', '.join(missing)}"


def source_of(function: Callable[..., Any]) -> str:
    """Its lines; none for the dunder methods that `dataclass` makes."""
    try:
        return inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError):
        return ""


WRITTEN = [name for name, (_, function) in CALLABLES.items() if source_of(function)]


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_raised_in_its_own_lines_is_said(name: str) -> None:
    kind, function = CALLABLES[name]
    raised = {error for error in RAISES.findall(source_of(function)) if error[0].isupper()}
    text = (inspect.getdoc(function) or "") + (inspect.getdoc(kind) or "" if kind is not None else "")
    missing = sorted(error for error in raised - {"NotImplementedError", "AssertionError"} if error not in text)
    assert missing == [], f"{name}: raises {', '.join(missing)}, and its docstring does not say so"


def test_they_are_many() -> None:
    assert len(CALLABLES) > 200
