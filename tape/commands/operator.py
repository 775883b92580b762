"""`tape halt`, `rearm`, `limits`, `cancel`, `flatten`, `deposit`, `withdraw`, `order`, `replace`, `open`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tape.commands.options import FAILED, decimal, users_code, wrong

Log = Annotated[str, typer.Argument(metavar="LOG", help="sqlite:PATH, a path, or kafka://HOST:PORT/NAME.")]
Named = Annotated[str, typer.Option("--account", metavar="A", help="Which account.")]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="Why; it stands in the log.")]
Who = Annotated[
    str | None, typer.Option("--who", metavar="NAME", help="Who asks.  [default: the user, at this machine]")
]
Id = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="ID",
        help="The command's id: given again, it does nothing more.  [default: a new one]",
    ),
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait", min=0, max=3600, metavar="SECONDS", help="How long to wait for the core's answer."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
LimitsFile = Annotated[
    Path | None, typer.Option("--limits", metavar="FILE", help="A TOML file with the account's limits.")
]
WAIT_S = 10.0
CODES = """
    \b
    Exit codes:
      0  done
      1  the core refused, an order was denied, or no core has answered yet: the command stands in the log
      2  wrong input; nothing was written
"""


def documented(function: Any) -> Any:
    """Adds what the exit codes mean, the same for all."""
    function.__doc__ = f"{(function.__doc__ or '').rstrip()}\n{CODES}"
    return function


@documented
def halt(
    log: Log,
    why: Why,
    account: Annotated[
        str | None, typer.Option("--account", metavar="A", help="Which account; or --all.")
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every account of the log.")] = False,
    who: Who = None,
    id: Id = None,
    wait: Wait = WAIT_S,
    as_json: Json = False,
) -> None:
    """Stop an account: no strategy's order passes any more, and its working orders are cancelled.

    Positions stay (`tape flatten` closes them); `tape rearm --reason operator` lets it trade again.

    \b
    Example:
      tape halt kafka://127.0.0.1:9092/live --account growth --why "bad news"
    """
    from schemas import HaltAccount
    from tape.operating import asked_for
    from tape.topics import opened

    if (account is None) == (not everyone):
        raise wrong("account", "say which: either --account A, or --all")
    if everyone and id is not None:
        raise wrong("id", "an id is one command's; leave it out with --all")
    with opened(log) as reader:
        names = list(asked_for(reader)) if account is None else [account]
    if not names:
        raise wrong("all", f"{log} has no account yet")
    _tell(log, HaltAccount, names, why, who, id, wait, as_json)


@documented
def rearm(
    log: Log,
    account: Named,
    reason: Annotated[
        str,
        typer.Option(
            "--reason",
            metavar="REASON",
            help="Which of the reasons that stand (`tape status` shows them): operator, day-loss, "
            "absolute-loss, drawdown, integrity, drift, overfill...",
        ),
    ],
    why: Why,
    limits: LimitsFile = None,
    who: Who = None,
    id: Id = None,
    wait: Wait = WAIT_S,
    as_json: Json = False,
) -> None:
    """Take back one reason for which an account was halted or reduced.

    Refused while the condition behind it still holds: a loss limit is first to be raised, with --limits or
    `tape limits`.

    \b
    Example:
      tape rearm kafka://127.0.0.1:9092/live --account growth --reason operator --why "looked into it"
    """
    from schemas import Rearm

    _tell(log, Rearm, [account], why, who, id, wait, as_json, reason=reason, limits=_limits(limits))


@documented
def limits(
    log: Log,
    account: Named,
    why: Annotated[
        str | None, typer.Option("--why", metavar="TEXT", help="Why; needed where they are changed.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="A TOML file: these, and no others, from now on."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Change one, leave the others; 'none' for no limit."
        ),
    ] = None,
    who: Who = None,
    id: Id = None,
    wait: Wait = WAIT_S,
    as_json: Json = False,
) -> None:
    """Show an account's limits, or set them.

    \b
    Examples:
      tape limits runs/log --account growth
      tape limits runs/log --account growth --set day_loss=0.03 --set max_notional=50_000 --why "as agreed"
    """
    from schemas import Limits, SetLimits, plain
    from tape.limits import in_force, limits_of, read_limits
    from tape.operating import limits_now
    from tape.topics import opened

    if file is None and not changes:
        with opened(log) as reader, users_code():
            found, multiplier = limits_now(reader, account)
        shown = in_force(found, multiplier)
        if as_json:
            print(
                json.dumps({"account": account, "multiplier": plain(multiplier), "limits": shown}, indent=2)
            )
        else:
            print("\n".join(f"{name} = {value}" for name, value in shown.items()))
        return
    if why is None:
        raise wrong("why", "say why; it stands in the log")
    if file is not None:
        base = read_limits(file, {})
    else:
        with opened(log) as reader, users_code():
            base, _ = limits_now(reader, account)
    fields = {name: getattr(base, name) for name in Limits.model.model_fields}
    new = limits_of(dict(map(_change, changes or ())), fields, "--set")
    _tell(log, SetLimits, [account], why, who, id, wait, as_json, limits=new)


def _change(text: str) -> tuple[str, Any]:
    """A NAME=VALUE; the value as TOML has it, or a word."""
    import tomllib
    from decimal import Decimal

    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise wrong("set", f"'{text}' is not NAME=VALUE, as in day_loss=0.03")
    try:
        return name.strip(), tomllib.loads(f"value = {value}", parse_float=Decimal)["value"]
    except (ValueError, ArithmeticError):
        return name.strip(), value.strip()


@documented
def cancel(
    log: Log,
    account: Named,
    order: Annotated[str, typer.Argument(metavar="ORDER", help="The order's id, as `tape asof` shows it.")],
    why: Why,
    who: Who = None,
    id: Id = None,
    wait: Wait = WAIT_S,
    as_json: Json = False,
) -> None:
    """Ask for an order to be cancelled. It has ended when the broker says so; until then it may still fill.

    \b
    Example:
      tape cancel runs/log 8ae9c6-growth-33 --account growth --why "no longer wanted"
    """
    from schemas import CancelOrder

    _tell(log, CancelOrder, [account], why, who, id, wait, as_json, order=order)


@documented
def replace(
    log: Log,
    account: Named,
    order: Annotated[str, typer.Argument(metavar="ORDER", help="The order's id, as `tape asof` shows it.")],
    why: Why,
    quantity: Annotated[
        str | None,
        typer.Option("--quantity", metavar="N", help="The whole order's, what is filled included."),
    ] = None,
    limit: Annotated[str | None, typer.Option("--limit", metavar="PRICE", help="Its limit price.")] = None,
    stop: Annotated[str | None, typer.Option("--stop", metavar="PRICE", help="Its stop price.")] = None,
    who: Who = None,
    id: Id = None,
    wait: Wait = WAIT_S,
    as_json: Json = False,
) -> None:
    """Change the terms of a working order.

    \b
    Example:
      tape replace runs/log 8ae9c6-growth-33 --account growth --limit 182.50 --why "follow the market"
    """
    from schemas import ReplaceOrder

    if quantity is None and limit is None and stop is None:
        raise wrong("quantity", "say what is to change: --quantity, --limit or --stop")
    terms = {"quantity": quantity, "limit": limit, "stop": stop}
    _tell(log, ReplaceOrder, [account], why, who, id, wait, as_json, order=order, **_numbers(terms))


@documented
def flatten(
    log: Log,
    account: Named,
    why: Why,
    symbol: Annotated[
        str | None, typer.Option("--symbol", metavar="SYMBOL", help="This one alone.  [default: all]")
    ] = None,
    who: Who = None,
    id: Id = None,
    wait: Wait = WAIT_S,
    as_json: Json = False,
) -> None:
    """Close an account's positions at the market: working orders are cancelled first. It passes a halt.

    Strategies may trade again at once: halt the account first if they must not.

    \b
    Example:
      tape flatten kafka://127.0.0.1:9092/live --account growth --why "out before the close"
    """
    from schemas import Flatten

    wanted = None if symbol is None else symbol.upper()
    _tell(log, Flatten, [account], why, who, id, wait, as_json, symbol=wanted)


@documented
def deposit(
    log: Log,
    account: Named,
    amount: Annotated[str, typer.Argument(metavar="DOLLARS", help="How much.")],
    why: Why,
    who: Who = None,
    id: Id = None,
    wait: Wait = WAIT_S,
    as_json: Json = False,
) -> None:
    """Book cash that has come in; it is no profit of the day.

    \b
    Example:
      tape deposit runs/log 25000 --account growth --why "transfer of 2 March"
    """
    from schemas import Deposit

    _tell(log, Deposit, [account], why, who, id, wait, as_json, amount=decimal("amount", amount, "0"))


@documented
def withdraw(
    log: Log,
    account: Named,
    amount: Annotated[str, typer.Argument(metavar="DOLLARS", help="How much; at most the cash there is.")],
    why: Why,
    who: Who = None,
    id: Id = None,
    wait: Wait = WAIT_S,
    as_json: Json = False,
) -> None:
    """Book cash that has gone out; it is no loss of the day.

    \b
    Example:
      tape withdraw runs/log 1500.50 --account growth --why "fees of the bank"
    """
    from schemas import Withdraw

    _tell(log, Withdraw, [account], why, who, id, wait, as_json, amount=decimal("amount", amount, "0"))


@documented
def order(
    log: Log,
    account: Named,
    symbol: Annotated[str, typer.Option("--symbol", metavar="SYMBOL", help="What to trade.")],
    side: Annotated[str, typer.Option("--side", metavar="buy|sell", help="buy or sell.")],
    quantity: Annotated[str, typer.Option("--quantity", metavar="N", help="Shares.")],
    why: Why,
    kind: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="market, limit, stop or stop_limit.")
    ] = "market",
    limit: Annotated[str | None, typer.Option("--limit", metavar="PRICE", help="The limit price.")] = None,
    stop: Annotated[str | None, typer.Option("--stop", metavar="PRICE", help="The stop price.")] = None,
    tif: Annotated[str, typer.Option("--tif", metavar="TIF", help="day, gtc, ioc, fok...")] = "day",
    extended: Annotated[
        bool, typer.Option("--extended", help="Before the open and after the close too.")
    ] = False,
    strategy: Annotated[
        str, typer.Option("--strategy", metavar="NAME", help="In whose book it is.")
    ] = "operator",
    who: Who = None,
    id: Id = None,
    wait: Wait = WAIT_S,
    as_json: Json = False,
) -> None:
    """Place an order by hand. It passes the same checks as a strategy's; in a halt only if it reduces.

    \b
    Example:
      tape order runs/log --account growth --symbol IBM --side sell --quantity 100 \\
        --type limit --limit 182.5 --why "take the profit"
    """
    from schemas import PlaceOrder

    terms = {"quantity": quantity, "limit": limit, "stop": stop}
    _tell(
        log,
        PlaceOrder,
        [account],
        why,
        who,
        id,
        wait,
        as_json,
        symbol=symbol.upper(),
        side=side,
        order_type=kind,
        tif=tif,
        extended=extended,
        strategy=strategy,
        **_numbers(terms),
    )


@documented
def open_(
    log: Log,
    account: Named,
    cash: Annotated[str, typer.Option("--cash", metavar="DOLLARS", help="What it begins with.")],
    why: Why,
    kind: Annotated[str, typer.Option("--kind", metavar="cash|margin", help="cash or margin.")] = "margin",
    multiplier: Annotated[
        str | None,
        typer.Option(
            "--multiplier", metavar="N", help="Buying power per dollar of equity.  [default: 2, cash 1]"
        ),
    ] = None,
    shorting: Annotated[
        bool | None,
        typer.Option("--shorting/--no-shorting", help="May sell short.  [default: with margin]"),
    ] = None,
    fractions: Annotated[bool, typer.Option("--fractions", help="May hold fractions of shares.")] = False,
    limits: LimitsFile = None,
    who: Who = None,
    id: Id = None,
    wait: Wait = WAIT_S,
    as_json: Json = False,
) -> None:
    """Open an account. The core of its partition is to be started again if it had no account before.

    \b
    Example:
      tape open kafka://127.0.0.1:9092/live --account second --cash 50000 --why "a second book"
    """
    from schemas import OpenAccount
    from tape.limits import read_limits

    is_margin = kind == "margin"
    _tell(
        log,
        OpenAccount,
        [account],
        why,
        who,
        id,
        wait,
        as_json,
        is_new=True,
        cash=decimal("cash", cash, "0"),
        kind=kind,
        multiplier=decimal("multiplier", multiplier or ("2" if is_margin else "1"), "0"),
        shorting=is_margin if shorting is None else shorting,
        fractions=fractions,
        limits=read_limits(limits, {}),
    )


# ------------------------------------------------------------ what they have in common


def _limits(file: Path | None) -> Any:
    from tape.limits import read_limits

    return None if file is None else read_limits(file, {})


def _numbers(texts: dict[str, str | None]) -> dict[str, Any]:
    return {name: None if text is None else decimal(name, text, "0") for name, text in texts.items()}


def _tell(
    log: str,
    event: Any,
    accounts: list[str],
    why: str,
    who: str | None,
    id: str | None,
    wait: float,
    as_json: bool,
    *,
    is_new: bool = False,
    **fields: Any,
) -> None:
    """Check the command, write it for each account, wait for the answers, and print them."""
    from tape.operating import answer_json, answer_text, command, new_id, require, tell, whoami
    from tape.topics import opened

    if not why.strip():
        raise wrong("why", "say why; it stands in the log")
    common = {"who": who or whoami(), "why": why.strip(), **fields}
    commands = [command(event, id=id or new_id(), account=account, **common) for account in accounts]
    with opened(log) as reader:
        for account in () if is_new else accounts:
            require(reader, account)
        url = reader.url
    answers = tell(url, commands, wait)
    if as_json:
        shown = [answer_json(answer) for answer in answers]
        print(json.dumps(shown[0] if len(shown) == 1 else {"answers": shown}, indent=2))
    else:
        print("\n".join(line for answer in answers for line in answer_text(answer)))
    if not all(answer.is_done for answer in answers):
        raise typer.Exit(FAILED)
