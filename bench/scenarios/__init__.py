"""The scenarios by their ids, in the order of the table."""

from __future__ import annotations

from bench.measuring import Scenario
from bench.scenarios.association_rate import AssociationRate
from bench.scenarios.bulk_store import ManyLargeObjects, ManySmallObjects
from bench.scenarios.durable_ingest import DurableIngest
from bench.scenarios.echo import EchoOnOpenAssociation
from bench.scenarios.idle_associations import IdleAssociations
from bench.scenarios.image_query import ImageQuery
from bench.scenarios.large_object import OneLargeObject
from bench.scenarios.many_senders import ManySenders
from bench.scenarios.retrieve import Retrieve
from bench.scenarios.start_up import StartUp
from bench.scenarios.stock_peers import StockPeers
from bench.scenarios.window import Window

SCENARIOS: dict[str, type[Scenario]] = {
    scenario.id: scenario
    for scenario in (
        ManyLargeObjects,
        ManySmallObjects,
        OneLargeObject,
        EchoOnOpenAssociation,
        AssociationRate,
        ManySenders,
        IdleAssociations,
        StockPeers,
        DurableIngest,
        ImageQuery,
        Retrieve,
        StartUp,
        Window,
    )
}
