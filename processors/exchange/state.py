"""What a snapshot of the exchange holds, and the requests on their way to it."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from processors.exchange.book import Asked, Book, Order
from processors.exchange.hours import Hours
from processors.exchange.reporting import What
from schemas import ZERO, Quote, Record


class Request(msgspec.Struct):
    """An order, cancel or replacement on its way; it arrives at `due` (UTC ns)."""

    due: int
    what: What
    order: str
    account: str
    cause: str
    quantity: Decimal | None = None
    limit: Decimal | None = None
    stop: Decimal | None = None


class BookState(msgspec.Struct):
    """A symbol's book without its orders: the last quote, where it stands, and what was taken of it."""

    quote: Quote | None
    topic: str
    partition: int
    offset: int
    quote_ts: int
    trade_ts: int
    bar_ts: int
    ticks: bool
    taken: dict[str, Decimal]

    @classmethod
    def of(cls, book: Book) -> BookState:
        """What is to be kept of a book."""
        record = book.quote or Record("", 0, 0, b"", b"")
        quote = record.event
        assert quote is None or isinstance(quote, Quote)
        taken = book.taken if book.quote is not None and book.taken_of is book.quote else {}
        return cls(
            quote,
            record.topic,
            record.partition,
            record.offset,
            book.quote_ts,
            book.trade_ts,
            book.bar_ts,
            book.ticks,
            {side: quantity for side, quantity in taken.items() if quantity},
        )

    def book(self) -> Book:
        """The book, as it was."""
        book = Book()
        book.quote_ts, book.trade_ts, book.bar_ts = self.quote_ts, self.trade_ts, self.bar_ts
        book.ticks = self.ticks
        if self.quote is not None:
            book.quote = Record(self.topic, self.partition, self.offset, b"", b"", event=self.quote)
            if self.taken:
                book.taken = {"buy": ZERO, "sell": ZERO} | self.taken
                book.taken_of = book.quote
        return book


class State(msgspec.Struct):
    """The whole exchange. Orders stand in the order in which they were accepted, which is their arrival."""

    now: int
    hours: Hours
    orders: list[Order]
    requests: list[Request]
    closed: dict[str, Asked | None]
    books: dict[str, BookState]
