"""Quix Streams, exactly once, over a topic of quotes: ten symbols held, marked, and their value written.

Run by `benchmarks.live` with the Python of an environment of its own (`make bench-live` makes it), since
Quix Streams and Tape want other versions of the same libraries. It is given less to do than the core:
of the ninety symbols that nobody holds it keeps nothing, and it checks no breaker but a loss of the day.
Arguments: the broker's address, the topic, how many records it holds. Prints {"rate": records a second}.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from decimal import Decimal

import msgspec
from quixstreams import Application

HELD = {f"S{n:03d}" for n in range(10)}
SHARES = Decimal(100)
INTERVAL_NS = 100_000_000


class Quote(msgspec.Struct, tag_field="type", tag="Quote"):
    symbol: str
    ts: int
    bid: Decimal | None
    ask: Decimal | None


def main(address: str, topic: str, count: int) -> None:
    decode = msgspec.json.Decoder(Quote).decode
    seen: list[float] = []

    def fold(value: bytes, state: object) -> dict[str, str] | None:
        quote = decode(value)
        if (
            quote.symbol not in HELD
            or quote.bid is None
            or quote.ask is None
            or not 0 < quote.bid <= quote.ask
        ):
            return None
        kept = state.get("kept") or {"cost": str(SHARES * 100), "written": 0}  # type: ignore[attr-defined]
        worth = SHARES * quote.bid
        unrealized = worth - Decimal(kept["cost"])
        halted = unrealized <= Decimal("-0.05") * Decimal(10_000_000)
        due = quote.ts - kept["written"] >= INTERVAL_NS
        state.set("kept", {**kept, "mark": str(quote.bid), "written": quote.ts if due else kept["written"]})  # type: ignore[attr-defined]
        return {"symbol": quote.symbol, "unrealized": str(unrealized), "halted": str(halted)} if due else None

    def processed(topic: str, partition: int, offset: int) -> None:
        seen.append(time.perf_counter())
        if len(seen) == count:
            app.stop()

    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            broker_address=address,
            consumer_group=f"quix-{time.time_ns()}",
            auto_offset_reset="earliest",
            processing_guarantee="exactly-once",
            commit_every=10_000,
            state_dir=folder,
            loglevel="ERROR",
            on_message_processed=processed,
        )
        quotes = app.topic(topic, value_deserializer="bytes", key_deserializer="bytes")
        out = app.topic(f"{topic}.quix", value_serializer="json")
        frame = app.dataframe(quotes).apply(fold, stateful=True)
        frame = frame[frame.apply(lambda value: value is not None)]
        frame.to_topic(out)
        app.run()
    print(json.dumps({"rate": (len(seen) - 1) / (seen[-1] - seen[0])}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
