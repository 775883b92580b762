"""Events about the log itself: its configuration, the order taken, snapshots, seals."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from schemas.declare import Event, Field, Value, event, value

Count = Annotated[int, Field(ge=0)]


@value
class StrategySetting(Value):
    """One strategy of an account. `kind` is a built-in name or FILE.py:Class; `digest` is of its source."""

    name: str
    kind: str
    version: str
    digest: str
    account: str
    symbols: tuple[str, ...]
    params: dict[str, str] = {}  # noqa: RUF012


@value
class CoreSettings(Value):
    """Every parameter that a decision depends on, besides the facts themselves.

    Times are nanoseconds. `buffer` is the share of equity that sizing leaves alone;
    `min_change` the share of equity below which a target makes no order.
    """

    log_prefix: str
    simulated: bool
    mark: Literal["side", "mid", "last"] = "side"
    mark_extended: bool = False
    max_spread: Decimal = Decimal("0.05")
    resolution: Count = 0
    stale_after: Count = 60_000_000_000
    pnl_interval: Count = 100_000_000
    buffer: Decimal = Decimal("0.0025")
    min_change: Decimal = Decimal("0.001")
    fee: str = "none"
    slippage_bps: Decimal = Decimal(0)
    latency: Count = 0
    size: Literal["full", "displayed"] = "full"
    stop_trigger: Literal["trade", "quote"] = "trade"
    retain_sessions: Count = 3
    snapshot_every: Count = 250_000
    strategies: tuple[StrategySetting, ...] = ()


@value
class Component(Value):
    """A part of the code that decisions depend on."""

    name: str
    version: str
    digest: str


@event("configuration")
class Configured(Event):
    """Opens an epoch of a core partition: code and settings from here on."""

    partition: int
    epoch: int
    log: str
    time: Literal["wall", "data"]
    components: tuple[Component, ...]
    dependencies: str
    schemas: str
    settings: CoreSettings


@value
class BatchInput(Value):
    """A source of a batch: `count` records from offset `first`; the next to read is `next`."""

    topic: str
    partition: int
    first: int
    count: int
    next: int


@event("batches")
class Batch(Event):
    """The order in which a core partition took its inputs.

    `order` is one byte a record, the index into `inputs`; zlib, then base64. `seqs` is the last
    `seq` of each account; `now` the greatest market time so far.
    """

    partition: int
    number: int
    epoch: int
    inputs: tuple[BatchInput, ...]
    order: str
    records: int
    seqs: dict[str, int]
    now: int


@event("folds")
class Folded(Event):
    """The order in which a fold without transactions takes its inputs, written before what they lead to.

    `order` is as in Batch. `settings` is all that the fold's output depends on, `source` that output's name.
    `written` says of outputs that bear no row how many stood in each partition (TOPIC/PARTITION) before.
    `state` is base64 of zlib of the fold's state before these inputs, empty where it is not kept; a large one
    is spread over `parts` records, of which the last takes inputs.
    """

    number: int
    source: str
    settings: str
    inputs: tuple[BatchInput, ...]
    order: str
    records: int
    written: dict[str, int]
    state: str = ""
    part: int = 1
    parts: int = 1


@event("snapshots")
class Snapshot(Event):
    """A chunk of the core's state after batch `batch`.

    `data` is base64 of zlib; `digest` is of the whole state.
    """

    partition: int
    epoch: int
    batch: int
    chunk: int
    chunks: int
    digest: str
    data: str


@event("seals")
class Seal(Event):
    """The rolled digest of a partition of topic `sealed`, from its start up to offset `next`.

    It covers `first` (offset) to `next` since the seal before, `count` records since the start.
    """

    sealed: str
    partition: int
    first: int
    next: int
    count: int
    digest: str


@event("dead-letters")
class DeadLetter(Event):
    """A record that could not be read: where it stands, its bytes in base64, and the reason."""

    place: str
    key: str
    bytes: str
    reason: str


@event("roles")
class RoleHeartbeat(Event):
    """A role is alive: what it has processed, and how far it is behind."""

    role: str
    instance: str
    ts: int
    processed: int
    behind: int | None
    error: str = ""


@event("alerts")
class Alert(Event):
    """A rule fired. A repeat bears the same id."""

    id: str
    rule: str
    ts: int
    cause: str
    text: str
