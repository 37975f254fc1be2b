"""The service users of the blocking face are asyncio's without `await`: what the generator makes of each construct."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "tools" / "generate_sync.py"
_spec = importlib.util.spec_from_file_location("generate_sync", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
generator = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generator)


@pytest.mark.parametrize(
    ("awaited", "waited"),
    [
        ("async def ask(a):\n    return await a.ask(1)\n", "def ask(a):\n    return a.ask(1)\n"),
        ("async with a as b:\n    await b\n", "with a as b:\n    b\n"),
        ("async for x in y:\n    pass\n", "for x in y:\n    pass\n"),
        ("r = (await a.ask(f(1), x=(2, 3))).check()\n", "r = a.ask(f(1), x=(2, 3)).check()\n"),
        ("(await a.ask(\n    1,\n)).check()\n", "a.ask(\n    1,\n).check()\n"),
        ("f(await a)\n", "f(a)\n"),
        ("f(await a).b\n", "f(a).b\n"),
        ("return (await a).b\n", "return a.b\n"),
        ("x = (await a, 1)\n", "x = (a, 1)\n"),
        ("async def __aenter__(self): ...  # await stays here\n", "def __enter__(self): ...  # await stays here\n"),
        ("from dulcet.aio.twin import begins\n", "from dulcet.blocking.twin import begins\n"),
        ('"""(await pending.wait(60)).check(); async with x"""\n', '"""pending.wait(60).check(); with x"""\n'),
        ("@contextlib.asynccontextmanager\n", "@contextlib.contextmanager\n"),
        ("awaiting = async_ = 1\n", "awaiting = async_ = 1\n"),
    ],
)
def test_each_construct(awaited: str, waited: str) -> None:
    assert generator._translated(awaited) == waited


@pytest.mark.parametrize("name", generator.SOURCES)
def test_a_generated_module_says_so_and_waits_for_nothing(name: str) -> None:
    text = (generator.PACKAGE / "blocking" / f"{name}.py").read_text(encoding="utf-8")
    assert text.startswith(f"# Written by tools/generate_sync.py from aio/{name}.py")
    kinds = {type(node) for node in ast.walk(ast.parse(text))}
    assert not kinds & {ast.AsyncFunctionDef, ast.AsyncWith, ast.AsyncFor, ast.Await}
    assert "aio" not in text.partition("\n")[2]
