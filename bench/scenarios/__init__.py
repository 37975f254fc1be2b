"""The scenarios by their ids, in the order of the table."""

from __future__ import annotations

from bench.measuring import Scenario
from bench.scenarios.bulk_store import ManyLargeObjects, ManySmallObjects
from bench.scenarios.echo import EchoOnOpenAssociation
from bench.scenarios.large_object import OneLargeObject
from bench.scenarios.start_up import StartUp
from bench.scenarios.stock_peers import StockPeers

SCENARIOS: dict[str, type[Scenario]] = {
    scenario.id: scenario
    for scenario in (
        ManyLargeObjects,
        ManySmallObjects,
        OneLargeObject,
        EchoOnOpenAssociation,
        StockPeers,
        StartUp,
    )
}
