"""Every table holds what the log says: rows counted and compared against the log's own JSON."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from eventlog import EventLog
from projections.errors import Hole, OtherLog, OtherSchema, Refused
from projections.postgres.projector import connect, projecting
from projections.postgres.tables import TRADING, Column, ReadModel, Table
from schemas import DECISIONS, DayOpened, Fill, evolve
from schemas.declare import EVENTS
from support.postgres import (
    ACCOUNT,
    Garbled,
    ask,
    check,
    decisions,
    expected,
    hand_made,
    project,
    records_of,
    tables,
    tell,
)

ALL = [table.name for table in TRADING.tables]


def test_a_run_over_a_busy_market(dsn: str, busy: EventLog) -> None:
    """Partial fills, flips, a split, trips, denied orders, three accounts in two partitions."""
    done = project(dsn, busy)
    found = check(dsn, busy)
    written = sum(1 for topic in DECISIONS for _ in records_of(busy, topic))
    assert done.decisions == written == sum(p["decisions"] for p in found["progress"])
    assert done.rows == sum(len(rows) for rows in expected(busy).values())
    assert done.batches == sum(p["batches"] for p in found["progress"]) > 20
    assert (done.unreadable, done.repeats, found["unreadable"]) == (0, 0, [])
    empty = {"fill_busts", "fill_corrections", "anomalies", "drifts", "unread", "unreadable"}
    assert {name for name in ALL if not found[name]} <= empty
    assert len(found["accounts"]) == 3


def test_one_decision_of_every_type(dsn: str, tmp_path: Path) -> None:
    events = decisions()
    kinds = {kind for kind, event in EVENTS.items() if event.topic in DECISIONS}
    assert {type(event).__name__ for event in events} == kinds
    with hand_made(tmp_path, [events]) as log:
        project(dsn, log)
        found = check(dsn, log)
    assert [name for name in ALL if not found[name]] == ["unreadable"]


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("group", [1, 5, 10_000])
def test_batches_of_any_size(dsn: str, tmp_path: Path, size: int, group: int) -> None:
    events = decisions()
    with hand_made(tmp_path, [events[n : n + size] for n in range(0, len(events), size)]) as log:
        project(dsn, log, group=group)
        check(dsn, log)


def test_rows_and_position_agree_after_every_transaction(dsn: str, busy: EventLog) -> None:
    """Seen from outside, at each step: the position's decisions are there, and no other."""
    steps = []
    with connect(dsn) as connection, projecting(connection, busy, group=1) as projector:

        def look(_: object) -> None:
            (said,) = ask(dsn, "SELECT sum(decisions), sum(batches) FROM trading.progress")
            parts = ["signals", "orders", "fills", "position_changes", "days", "pnl", "breaches", "commands"]
            parts += ["breaker_changes"]
            union = " UNION ALL ".join(f"SELECT account, seq FROM trading.{name}" for name in parts)
            changes = "SELECT account, seq FROM trading.order_history WHERE event <> 'OrderRequested'"
            others = "SELECT account, seq FROM trading.transfers"
            (there,) = ask(dsn, f"SELECT count(*) FROM ({union} UNION ALL {changes} UNION ALL {others}) a")
            assert said[0] == there[0]
            steps.append(said)

        projector.catch_up(look)
    assert len(steps) > 20
    assert steps == sorted(set(steps))


def test_a_rebuild_is_the_same_row_by_row(dsn: str, busy: EventLog) -> None:
    project(dsn, busy, group=3)
    first = tables(dsn)
    tell(dsn, "DELETE FROM trading_v1.fills WHERE seq % 3 = 0")
    assert tables(dsn) != first
    done = project(dsn, busy, rebuild=True)
    assert tables(dsn) == first
    assert done.decisions == sum(row["decisions"] for row in first["progress"])


def test_nothing_new_changes_nothing(dsn: str, busy: EventLog) -> None:
    project(dsn, busy)
    before = tables(dsn)
    again = project(dsn, busy)
    assert (again.rows, again.batches) == (0, 0)
    assert tables(dsn) == before


def test_two_logs_share_a_database(dsn: str, busy: EventLog, tmp_path: Path) -> None:
    with hand_made(tmp_path, [decisions()]) as other:
        project(dsn, busy)
        project(dsn, other)
        check(dsn, busy)
        check(dsn, other)
        project(dsn, other, rebuild=True)
        check(dsn, busy)
        check(dsn, other)
    assert len(tables(dsn)["logs"]) == 2


def test_odd_text_numbers_and_times(dsn: str, tmp_path: Path) -> None:
    """What Postgres' COPY could stumble over."""
    events = decisions()
    odd = "a\\b\tc\nd\re\\N é 😀 \"q\" {x,y} 'z'"
    events = [
        evolve(e, cause=odd, ts=1_381_152_600_123_456_789, fee=Decimal("1E-18"), price=Decimal(10**30))
        if isinstance(e, Fill)
        else evolve(e, unpriced=(odd, "", "B,C"))
        if hasattr(e, "unpriced")
        else evolve(e, features={odd: "\\u0041"})
        if hasattr(e, "features")
        else evolve(e, session="a\0b")
        if isinstance(e, DayOpened)
        else e
        for e in events
    ]
    with hand_made(tmp_path, [events]) as log:
        project(dsn, log)
        found, wanted = tables(dsn), expected(log)
    assert found["days"][0]["session"] == "a\ufffdb"
    for name in ("fills", "pnl", "signals"):
        assert found[name] == wanted[name]
    assert found["fills"][0]["ts"].isoformat() == "2013-10-07T13:30:00.123456+00:00"
    assert found["fills"][0]["ts_ns"] == 1_381_152_600_123_456_789


# ------------------------------------------------------------ views


def test_what_stands_now(dsn: str, busy: EventLog) -> None:
    """The views agree with a fold over the log's decisions."""
    project(dsn, busy)
    found = expected(busy)
    books = {(r["account"], r["strategy"], r["symbol"]): r for r in found["position_changes"]}
    nets = {(r["account"], r["symbol"]): r for r in found["position_changes"]}
    states = {r["order_id"]: r for r in found["order_history"]}
    standing = {}
    for row in found["breaker_changes"]:
        key = (row["account"], row["of"], row["reason"])
        if row["event"] == "BreakerCleared":
            standing.pop(key)
        else:
            standing[key] = row
    rows = ask(dsn, "SELECT account, strategy, symbol, quantity, cost, seq FROM trading.positions")
    assert {r[:3]: r[3:] for r in rows} == {k: (r["quantity"], r["cost"], r["seq"]) for k, r in books.items()}
    rows = ask(dsn, "SELECT account, symbol, quantity, cost, seq FROM trading.net_positions")
    assert {r[:2]: r[2:] for r in rows} == {
        k: (r["net_quantity"], r["net_cost"], r["seq"]) for k, r in nets.items()
    }
    rows = ask(dsn, "SELECT order_id, status, filled, leaves, seq FROM trading.order_status")
    assert {r[0]: r[1:] for r in rows} == {
        k: (r["status"], r["filled"], r["leaves"], r["seq"]) for k, r in states.items()
    }
    rows = ask(dsn, "SELECT account, of, reason, seq FROM trading.breaker_reasons")
    assert {r[:3]: r[3] for r in rows} == {k: r["seq"] for k, r in standing.items()}
    last = {r["account"]: r for r in found["pnl"]}
    rows = ask(dsn, "SELECT account, breaker, equity, cash, seq FROM trading.account_status")
    assert {r[0]: r[1:] for r in rows} == {
        account: (_state(account, standing), row["equity"], row["cash"], row["seq"])
        for account, row in last.items()
    }


def _state(account: str, standing: dict[tuple[str, str, str], object]) -> str:
    sets = {of for name, of, _ in standing if name == account}
    return "HALTED" if "halt" in sets else "REDUCING" if sets else "ACTIVE"


def test_executions_are_without_the_busted_and_with_corrected_terms(dsn: str, tmp_path: Path) -> None:
    kinds = {type(e).__name__: e for e in decisions()}
    fill = kinds["Fill"]
    fills = [evolve(fill, seq=n, prev=n - 1, execution=f"x{n}") for n in (1, 2, 3)]
    bust = evolve(kinds["FillBusted"], seq=4, prev=3, fill=f"{ACCOUNT}:1", execution="x1")
    terms = {"quantity": Decimal(7), "price": Decimal("1.25"), "fee": Decimal("0.5")}
    corrected = evolve(kinds["FillCorrected"], seq=5, prev=4, fill=f"{ACCOUNT}:2", execution="x2", **terms)
    with hand_made(tmp_path, [[*fills, bust, corrected]]) as log:
        project(dsn, log)
    rows = ask(dsn, "SELECT execution, quantity, price, fee, corrected FROM trading.executions ORDER BY seq")
    assert rows == [
        ("x2", Decimal(7), Decimal("1.25"), Decimal("0.5"), True),
        ("x3", fill.quantity, fill.price, fill.fee, False),
    ]


def test_readers_read_and_do_not_write(dsn: str, busy: EventLog) -> None:
    project(dsn, busy)
    reader = dsn.replace("//tape@", "//tape_reader@")
    for table in (*TRADING.tables, *TRADING.views):
        assert ask(reader, f"SELECT count(*) >= 0 FROM trading.{table.name}") == [(True,)]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        ask(reader, "DELETE FROM trading_v1.fills")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(f"{reader}&options=-c%20default_transaction_read_only%3Doff", "DELETE FROM trading_v1.fills")


# ------------------------------------------------------------ repeats, holes, what cannot be read


def test_repeats_are_dropped(dsn: str, tmp_path: Path) -> None:
    events = decisions()
    with hand_made(tmp_path, [[*events[:5], *events[:5], *events[5:9], events[8]], events[9:]]) as log:
        done = project(dsn, log)
        assert done.repeats == 6
        found = tables(dsn)
    with hand_made(tmp_path, [events], "clean") as clean:
        wanted = expected(clean)
    for name, rows in wanted.items():
        assert [{**r, "log": ""} for r in found[name]] == [{**r, "log": ""} for r in rows]


@pytest.mark.parametrize("lost", range(len(decisions())))
@pytest.mark.parametrize("size", [4, 100])
def test_a_hole_stops_with_a_named_error(dsn: str, tmp_path: Path, lost: int, size: int) -> None:
    """Whichever decision is missing, the batch it belongs to is not brought in, nor any after it."""
    events = decisions()
    holed = [*events[:lost], Garbled(events[lost], None), *events[lost + 1 :]]
    with hand_made(tmp_path, [holed[n : n + size] for n in range(0, len(events), size)]) as log:
        with pytest.raises(Hole, match=rf"{ACCOUNT}:{lost + 1}\b.*see `tape verify`"):
            project(dsn, log, group=1)
        whole = lost // size * size
        found = tables(dsn)
        assert found["progress"][0]["decisions"] == whole
    with hand_made(tmp_path, [events[:whole]] if whole else [], "whole") as log:
        for name, rows in expected(log).items():
            assert [{**r, "log": ""} for r in found[name]] == [{**r, "log": ""} for r in rows]


FUTURE = b'{"type":"Fill","v":99,"account":"main","seq":%d,"prev":0,"more":1}'
UNREADABLE = (b"", b"{", b"\xff\xfe", b'{"type":"Nothing","v":1}', FUTURE)


@pytest.mark.parametrize("value", UNREADABLE)
@pytest.mark.parametrize("size", [1, 100])
def test_what_cannot_be_read_has_a_table_of_its_own(
    dsn: str, tmp_path: Path, value: bytes, size: int
) -> None:
    """Any decision in turn, and two in a row: all others are brought in."""
    events = decisions()
    for n, at in enumerate(range(0, len(events) - 1, 3)):
        bad = {i: value % (i + 1) if value is FUTURE else value for i in (at, at + 1)}
        mixed = [Garbled(e, bad[i]) if i in bad else e for i, e in enumerate(events)]
        with hand_made(tmp_path, [mixed[i : i + size] for i in range(0, len(mixed), size)], f"{n}") as log:
            done = project(dsn, log)
            assert (done.unreadable, done.decisions) == (2, len(events) - 2)
            rows = tables(dsn, log=log.id)
            found = sorted(rows["unreadable"], key=lambda row: row["bytes"])
            assert [row["bytes"] for row in found] == sorted(bad.values())
            assert all(row["account"] == ACCOUNT and row["reason"] for row in found)
            if value is FUTURE:
                assert [row["seq"] for row in found] == [at + 1, at + 2]
            places = {f"{row['topic']}/{row['partition']}/{row['log_offset']}" for row in found}
            stored = {r.place for t in DECISIONS for r in records_of(log, t) if r.value in bad.values()}
            assert places == stored
        with hand_made(tmp_path, [[e for i, e in enumerate(events) if i not in bad]], f"{n}clean") as clean:
            for name, wanted in expected(clean).items():
                assert [{**r, "log": ""} for r in rows[name]] == [{**r, "log": ""} for r in wanted]


# ------------------------------------------------------------ other logs, other schemas


def test_another_log_under_the_same_name(dsn: str, tmp_path: Path) -> None:
    events = decisions()
    with hand_made(tmp_path, [events], "log") as log:
        project(dsn, log)
    (tmp_path / "log").unlink()
    with hand_made(tmp_path, [events[:4]], "new") as log:
        log.url = f"sqlite:{tmp_path / 'log'}"
        with pytest.raises(OtherLog, match=r"are of another log, log0+; this is new0+: add --rebuild"):
            project(dsn, log)
        assert len(tables(dsn)["fills"]) == 1
        project(dsn, log, rebuild=True)
        assert len(tables(dsn)["logs"]) == 1
        assert tables(dsn)["fills"] == []


def test_a_copy_goes_on_and_another_course_is_refused(dsn: str, tmp_path: Path) -> None:
    """The same log under another name: where the last batch is the same, nothing is done again."""
    events = decisions()
    with hand_made(tmp_path, [events[:6], events[6:9]]) as log:
        project(dsn, log)
    (tmp_path / "elsewhere").mkdir()
    with hand_made(tmp_path / "elsewhere", [events[:6], events[6:9], events[9:]]) as copy:
        assert project(dsn, copy).batches == 1
        check(dsn, copy)
    for name, batches in {
        "other": [events[:4], events[4:8], events[8:12], events[12:]],
        "shorter": [events[:6]],
    }.items():
        (tmp_path / name).mkdir()
        with hand_made(tmp_path / name, batches) as other:
            with pytest.raises(OtherLog, match="batch 2 of partition 0 is another, or gone; add --rebuild"):
                project(dsn, other)
            project(dsn, other, rebuild=True)
            check(dsn, other)
            (tmp_path / "back").mkdir(exist_ok=True)
        with hand_made(tmp_path / "back", [events[:6], events[6:9], events[9:]], "log") as back:
            project(dsn, back, rebuild=True)
        (tmp_path / "back" / "log").unlink()


def test_tables_of_another_layout_are_refused(dsn: str, busy: EventLog) -> None:
    project(dsn, busy)
    before = tables(dsn)
    tell(dsn, "COMMENT ON SCHEMA trading_v1 IS 'other'")
    with pytest.raises(OtherSchema, match="its tables differ; --rebuild drops it"):
        project(dsn, busy)
    project(dsn, busy, rebuild=True)
    assert tables(dsn) == before
    tell(dsn, "COMMENT ON SCHEMA trading IS '2'")
    with pytest.raises(OtherSchema, match="shows version 2, and this Tape writes version 1"):
        project(dsn, busy)


def test_a_schema_that_is_not_ours_is_left_alone(dsn: str, busy: EventLog) -> None:
    tell(dsn, "CREATE SCHEMA trading; CREATE TABLE trading.mine (a int)")
    with pytest.raises(OtherSchema, match=r"a schema trading that is not Tape's"):
        project(dsn, busy)
    assert ask(dsn, "SELECT count(*) FROM trading.mine") == [(0,)]


SECOND = ReadModel(
    "trading",
    2,
    (*TRADING.tables, Table("notes", "New.", (Column("note", "text", False, "new"),), ("note",))),
    (*TRADING.views, Table("big", "New.", (), query="SELECT * FROM {schema}.fills WHERE quantity > 100")),
)
"""A later version: one table and one view more."""


def test_a_new_version_is_shown_once_it_has_caught_up_and_agrees(dsn: str, busy: EventLog) -> None:
    def version() -> list[tuple[str]]:
        return ask(dsn, "SELECT obj_description('trading'::regnamespace, 'pg_namespace')")

    project(dsn, busy)
    first = tables(dsn)
    tell(dsn, "UPDATE trading_v1.fills SET fee = fee + 1 WHERE seq % 5 = 0")
    with connect(dsn) as connection, projecting(connection, busy, model=SECOND, group=1) as projector:
        steps = []
        with pytest.raises(Refused, match=r"\d rows of fills differ between trading_v1 and trading_v2"):
            projector.catch_up(lambda done: steps.append(version()))
        assert set(map(tuple, steps)) == {(("1",),)}
    assert version() == [("1",)]
    project(dsn, busy, rebuild=True)
    assert tables(dsn) == first
    assert project(dsn, busy, model=SECOND).switched
    assert version() == [("2",)]
    assert ask(dsn, "SELECT count(*) FROM trading.notes") == [(0,)]
    reader = dsn.replace("//tape@", "//tape_reader@")
    assert ask(reader, "SELECT count(*) FROM trading.big") == ask(
        dsn, "SELECT count(*) FROM trading_v1.fills WHERE quantity > 100"
    )
    with pytest.raises(OtherSchema, match="shows version 2"):
        project(dsn, busy)
