"""What the two faces write by hand for their service users has the same names, and what the package offers is there."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest
from tests.test_faces import public, shape

import dulcet
import dulcet.aio

ONLY_AWAITED = {"AwaitableContext", "is_async"}  # what the other face has no need of


@pytest.mark.parametrize("module", ["serving", "twin"])
def test_what_generated_modules_call_is_on_both_faces(module: str) -> None:
    blocking, aio = (importlib.import_module(f"dulcet.{face}.{module}") for face in ("blocking", "aio"))
    assert set(blocking.__all__) == set(aio.__all__) - ONLY_AWAITED
    for name in blocking.__all__:
        one, other = getattr(blocking, name), getattr(aio, name)
        if inspect.isclass(one):
            assert {"wait_for_change", "wait_at_most", "join"} & public(one) <= public(other)
        else:
            assert [parameter[0] for parameter in shape(one)] == [parameter[0] for parameter in shape(other)]


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
