"""Books: how a fill becomes a position.

A book holds a signed quantity and its signed cost. Opening or adding q shares at p adds p·q to
the cost. Reducing by c of |q| shares releases cost·c/|q| (all of it when the book goes flat) and
realises proceeds less what was released. A trade through zero closes first, then opens with the
rest. Realised profit is gross; fees and income stand beside it.

For every book, whatever was traded: cost - realized = sum of price x signed quantity. That is
what keeps the account's identity exact (see `account.py`), because the rounding of a released
part moves profit between now and later, and never makes or loses any.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from schemas import ONE, ZERO, ratio

NET = ""
"""The book of the account's net position, beside the strategies' books."""


class Book(msgspec.Struct):
    """A position of one strategy (or the account's net position) in one symbol."""

    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    realized: Decimal = ZERO
    fees: Decimal = ZERO
    income: Decimal = ZERO
    open_fees: Decimal = ZERO
    """The part of `fees` that what is open now has cost; the closed legs bore the rest."""

    @property
    def average(self) -> Decimal | None:
        """Cost per share, for display; None when flat."""
        return ratio(self.cost, ONE, self.quantity) if self.quantity else None

    @property
    def closed_net(self) -> Decimal:
        """Realised profit of the closed legs, less their fees."""
        return self.realized - self.fees + self.open_fees

    def trade(
        self, quantity: Decimal, price: Decimal, fee: Decimal = ZERO, amount: Decimal | None = None
    ) -> None:
        """Book `quantity` shares (signed) at `price`; `amount` are the dollars, where they are rounded."""
        paid = price * quantity if amount is None else amount
        self.fees += fee
        held = self.quantity
        if not held or (held > 0) == (quantity > 0):
            self._open(quantity, paid, fee)
        elif abs(quantity) <= abs(held):
            self._close(quantity, paid)
        else:
            closing, part = -held, ratio(fee, abs(held), abs(quantity))
            paid_closing = price * closing if amount is None else ratio(amount, abs(held), abs(quantity))
            self._close(closing, paid_closing)
            self._open(quantity - closing, paid - paid_closing, fee - part)

    def _open(self, quantity: Decimal, paid: Decimal, fee: Decimal) -> None:
        self.quantity += quantity
        self.cost += paid
        self.open_fees += fee

    def _close(self, quantity: Decimal, paid: Decimal) -> None:
        flat = quantity == -self.quantity
        part, whole = abs(quantity), abs(self.quantity)
        released = self.cost if flat else ratio(self.cost, part, whole)
        self.open_fees -= self.open_fees if flat else ratio(self.open_fees, part, whole)
        self.realized -= paid + released
        self.cost -= released
        self.quantity += quantity


class Entry(msgspec.Struct):
    """What changed a symbol's books: a trade of one strategy, a transfer, or a split.

    `amount` are the dollars (signed like `quantity`) where price x quantity has too many places.
    """

    kind: Literal["trade", "transfer", "split"]
    session: int
    strategy: str = ""
    other: str = ""
    execution: str = ""
    quantity: Decimal = ZERO
    price: Decimal = ZERO
    fee: Decimal = ZERO
    amount: Decimal | None = None
    num: int = 1
    den: int = 1


class Ledger(msgspec.Struct):
    """A symbol's books with the entries of the last sessions, so that a bust can be unfolded.

    `books` are `base` with `entries` applied in order; the book of the net position is `NET`.
    """

    entries: list[Entry] = msgspec.field(default_factory=list)
    base: dict[str, Book] = msgspec.field(default_factory=lambda: {NET: Book()})
    books: dict[str, Book] = msgspec.field(default_factory=lambda: {NET: Book()})

    @property
    def net(self) -> Book:
        """The account's net position."""
        return self.books[NET]

    def book(self, strategy: str) -> Book:
        """A strategy's book, opened when it does not exist."""
        return self.books.setdefault(strategy, Book())

    def strategies(self) -> list[str]:
        """The strategies with a book, in order of name."""
        return sorted(name for name in self.books if name != NET)

    def add(self, entry: Entry) -> None:
        """Apply an entry and keep it."""
        self.entries.append(entry)
        _apply(self.books, entry)

    def find(self, execution: str) -> Entry | None:
        """The trade that an execution led to, while it is kept."""
        return next((e for e in self.entries if e.kind == "trade" and e.execution == execution), None)

    def rebuild(self) -> None:
        """Fold the entries again, after one was taken out or changed. Income is not folded: it stays."""
        income = {name: book.income for name, book in self.books.items()}
        self.books = {name: msgspec.structs.replace(book) for name, book in self.base.items()}
        for entry in self.entries:
            _apply(self.books, entry)
        for name, amount in income.items():
            self.book(name).income = amount

    def forget(self, before_session: int) -> None:
        """Fold entries of sessions before `before_session` into the base."""
        keep = [i for i, e in enumerate(self.entries) if e.session >= before_session]
        first = keep[0] if keep else len(self.entries)
        for entry in self.entries[:first]:
            _apply(self.base, entry)
        del self.entries[:first]


def _apply(books: dict[str, Book], entry: Entry) -> None:
    if entry.kind == "split":
        _split(books, entry.num, entry.den)
    elif entry.kind == "transfer":
        amount = entry.price * entry.quantity if entry.amount is None else entry.amount
        books.setdefault(entry.strategy, Book()).trade(-entry.quantity, entry.price, ZERO, -amount)
        books.setdefault(entry.other, Book()).trade(entry.quantity, entry.price, ZERO, amount)
    else:
        for name in (NET, entry.strategy):
            book = books.setdefault(name, Book())
            book.trade(entry.quantity, entry.price, entry.fee, entry.amount)


def _split(books: dict[str, Book], num: int, den: int) -> None:
    """Scale the quantities; costs stay. Of the parts of the net, the last takes what rounding leaves."""
    for book in books.values():
        book.quantity = scaled(book.quantity, num, den)
    held = [books[name] for name in sorted(books) if name != NET and books[name].quantity]
    if held:
        held[-1].quantity += books[NET].quantity - sum((b.quantity for b in held), ZERO)


def scaled(quantity: Decimal, num: int, den: int) -> Decimal:
    """quantity x num / den, exact where it can be, else rounded to 18 places."""
    result = ratio(quantity, Decimal(num), Decimal(den))
    whole = result.to_integral_value()
    return whole if result == whole else result
