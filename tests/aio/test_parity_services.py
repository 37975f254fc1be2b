"""The service users of both faces are twins, and what the package offers is there."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest
from tests.test_faces import public, shape

import dulcet
import dulcet.aio

MODULES = ("availability", "commitment", "mpps", "printing", "serving", "ups")
ONLY_AWAITED = {"call", "is_async", "look_again"}  # what the other face has no need of


def pair(module: str) -> tuple[Any, Any]:
    return importlib.import_module(f"dulcet.blocking.{module}"), importlib.import_module(f"dulcet.aio.{module}")


def twins() -> dict[str, tuple[Any, Any]]:
    """Functions and methods by dotted name, on either face; what both have from `services` is not looked at."""
    found: dict[str, tuple[Any, Any]] = {}
    for module in MODULES:
        blocking, aio = pair(module)
        for name in blocking.__all__:
            one, other = getattr(blocking, name), getattr(aio, name)
            if one is other:
                continue
            found[f"{module}.{name}"] = one, other
            if inspect.isclass(one):
                for member in ("__init__", *sorted(public(one) & public(other))):
                    twin = inspect.getattr_static(one, member), inspect.getattr_static(other, member)
                    found[f"{module}.{name}.{member}"] = twin
    return found


@pytest.mark.parametrize("module", MODULES)
def test_twins_have_the_same_names(module: str) -> None:
    blocking, aio = pair(module)
    assert set(blocking.__all__) == set(aio.__all__) - ONLY_AWAITED
    for name in blocking.__all__:
        one, other = getattr(blocking, name), getattr(aio, name)
        if inspect.isclass(one):
            assert public(one) == public(other)


@pytest.mark.parametrize("name", twins())
def test_twins_are_identical_up_to_await(name: str) -> None:
    one, other = twins()[name]
    if not name.endswith(".Commitments"):  # of threads here, of tasks there
        assert inspect.getdoc(one) == inspect.getdoc(other)
    if callable(one):
        assert shape(one) == shape(other)
    if inspect.isclass(one):
        assert hasattr(one, "__enter__") == hasattr(other, "__aenter__")


def test_the_twins_are_more_than_a_few() -> None:
    assert len(twins()) > 40


@pytest.mark.parametrize("package", [dulcet, dulcet.aio])
def test_every_public_name_is_there(package: Any) -> None:
    named = set(package._HOMES) | {name for name in vars(package) if name in package.__all__} | {"aio"}
    assert set(package.__all__) <= named
    assert set(package._HOMES) <= set(package.__all__)
    assert dir(package) == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        package.nonsense  # noqa: B018


def test_the_faces_offer_the_same_services() -> None:
    awaited = [name for name in dulcet.aio.__all__ if name not in ("Server", "serve")]
    assert set(awaited) <= set(dulcet.__all__)
    for name in awaited:
        one, other = getattr(dulcet, name), getattr(dulcet.aio, name)
        assert one.__module__.replace(".blocking.", ".aio.") == other.__module__
