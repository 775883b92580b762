"""The live configuration: what is refused and how it is said, what goes over what, what it comes to."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from eventlog import LogSpec, create_log
from producers.brokers.gateway import GatewaySettings
from schemas import CoreSettings, OpenAccount, decode, log_prefix, partition_of
from support.cli import here, tape
from support.lean import SAMPLE
from tape.config import SECTIONS, ConfigError, LiveConfig, load, shown
from tape.configuring import check, configured_for, gateway_settings, open_accounts, open_or_make
from tape.errors import WrongInput
from tape.reference import settings_page
from tape.roles import KINDS, named
from tape.wiring import build

DEPLOYED = Path(__file__).parents[2] / "deploy" / "tape.toml"
TWO = """
[[accounts]]
id = "one"
cash = 100_000
limits = { day_loss = 0.02, restricted = ["gme"] }
[[accounts]]
id = "two"
cash = 1000
kind = "cash"
[[strategies]]
name = "cross"
kind = "sma-cross"
account = "one"
symbols = ["spy"]
params = { fast = 5, slow = 20 }
[[strategies]]
name = "hold"
kind = "buy-and-hold"
account = "two"
symbols = ["IBM"]
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "tape.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cor = 1", "there is no key cor; did you mean core?"),
        ('[core]\nfees = "none"', "there is no key core.fees; did you mean fee?"),
        ("[core]\nzzz = 1", "there is no key core.zzz; there are simulated, mark"),
        ('[core]\nfee = "bps"', "core.fee: fee 'bps' is none of: none, bps:X"),
        ('[core]\nmark = "x"', "core.mark: it must be 'side', 'mid' or 'last'"),
        ("[core]\nbuffer = 1.5", "core.buffer: it must be less than 1"),
        ("[core]\nsimulated = false", "core.simulated is false, and there is no [broker]"),
        ('[broker]\nadapter = "sim"', "core.simulated is true, and there is a [broker]"),
        ("[gateway]", "core.simulated is true, and there is a [gateway]"),
        ("[core]\nbuffer = 0.00000000000000000001", "core.buffer: it has more than 15 digits before"),
        ("commit_ms = 0", "commit_ms: it must be greater than or equal to 1"),
        ("[[accounts]]\ncash = 1", "accounts.1.id is missing; add it"),
        ('[[accounts]]\nid = "a b"\ncash = 1', "accounts.1.id: it must be like"),
        ('[[accounts]]\nid = "a"\ncash = "x"', "accounts.1.cash: it must be a number"),
        (
            '[[accounts]]\nid = "a"\ncash = 1\nkind = "cash"\nshorting = true',
            "a cash account cannot sell short",
        ),
        ('[[accounts]]\nid = "a"\ncash = 1\n' * 2, "accounts: id 'a' is given twice"),
        (
            '[[strategies]]\nname = "s"\nkind = "sma-cross"\naccount = "a"\nsymbols = ["SPY"]',
            "strategies: s trades for 'a', and there are no [[accounts]]: add it, or name another",
        ),
        (
            '[feed]\nsymbols = ["SPY"]\nfrom = 2013-10-07\nto = 2013-10-04',
            "feed: to is before from",
        ),
        (
            '[feed]\nsymbols = ["SPY"]\nfrom = 2013-10-07\nto = 2013-10-07\nspeed = 2',
            "feed: on wall time the time is now",
        ),
        ("log = ", "is not TOML"),
    ],
)
def test_what_cannot_be_used_is_named(text: str, said: str, tmp_path: Path) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert str(refused.value).startswith(str(file))
    assert said in str(refused.value)
    ran = here("config", "check", file)
    assert (ran.code, ran.said) == (2, str(refused.value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TWO.replace("day_loss", "dayloss"), "accounts.one.limits: there is no limit 'dayloss'"),
        (TWO.replace("fast = 5", "quick = 5"), "has no parameter 'quick'"),
        (TWO.replace('"sma-cross"', '"none.py:Mine"'), "there is no file"),
        (TWO.replace('"buy-and-hold"', '"buy"'), "there is no built-in strategy 'buy'"),
        (TWO + '[feed]\ndata = "no"\nsymbols = ["SPY"]\nfrom = 2013-10-07\nto = 2013-10-07', "/no"),
    ],
)
def test_what_would_stop_a_role_later_is_refused(text: str, said: str, tmp_path: Path) -> None:
    ran = here("config", "apply", written(tmp_path, text), "--log", f"sqlite:{tmp_path}/log.sqlite")
    assert ran.code == 2
    assert said in ran.said
    assert not (tmp_path / "log.sqlite").exists()


def test_the_environment_goes_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, 'log = "sqlite:log.sqlite"\n[core]\nfee = "bps:1"\nbuffer = 0.1')
    assert load(file).log == f"sqlite:{tmp_path}/log.sqlite"
    monkeypatch.setenv("TAPE_CORE__FEE", "bps:2")
    monkeypatch.setenv("TAPE_LOG", "sqlite:other")
    made = load(file)
    assert (made.core.fee, made.core.buffer, made.log) == ("bps:2", Decimal("0.1"), "sqlite:other")
    assert load(file, log="sqlite:third").log == "sqlite:third"
    monkeypatch.setenv("TAPE_ACCOUNTS", "nothing")
    with pytest.raises(ConfigError, match="lists and tables are written as JSON"):
        load(file)


def test_no_password_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPE_POSTGRES_DSN", "postgresql://me:hidden@db:5432/x")
    for options in ((), ("--json",)):
        ran = tape("config", "show", written(tmp_path, ""), *options)
        assert ran.code == 0
        assert "me@db:5432/x" in ran.out
        assert "hidden" not in ran.out + ran.err
    monkeypatch.setenv("TAPE_POSTGRES_DSN", "postgresql://me:hidden@db:5432/x")
    monkeypatch.setenv("TAPE_COMMIT_MS", "soon")
    ran = tape("config", "show", written(tmp_path, ""))
    assert ran.code == 2
    assert "hidden" not in ran.err


WEBHOOKS = (
    "https://hooks.example.com/services/T0/hidden",
    "https://me:hidden@hooks.example.com/x",
    "https://hidden@hooks.example.com",
    "https://hooks.example.com?token=hidden",
)


@pytest.mark.parametrize("url", WEBHOOKS)
def test_a_webhooks_token_is_shown_nowhere(url: str, tmp_path: Path) -> None:
    """Wherever in its URL it stands, also when the configuration is refused for another reason."""
    file = written(tmp_path, f'[alerts]\nwebhook = "{url}"\n')
    for options in ((), ("--json",)):
        ran = here("config", "show", file, *options)
        assert ran.code == 0
        assert "https://hooks.example.com/..." in ran.out
        assert "hidden" not in ran.out + ran.err
    for text in (f'webhook = "ftp{url}"', f'webhook = ["{url}"]', f'webhook = "{url}"\nhost = "x"'):
        ran = here("config", "check", written(tmp_path, f"[alerts]\n{text}\n"))
        assert ran.code == 2
        assert "alerts." in ran.err
        assert "hidden" not in ran.out + ran.err


def test_what_gateway_and_alerts_keep_to(tmp_path: Path) -> None:
    text = """
[core]
simulated = false
[broker]
[gateway]
reconcile_every_s = 2.5
max_order_age_s = 1
[alerts]
silent_s = 7
behind = 50
behind_s = 3
"""
    config = load(written(tmp_path, text))
    assert gateway_settings(config) == GatewaySettings(reconcile_s=2.5, max_order_age_s=1)
    assert gateway_settings(load(None)) == GatewaySettings()
    alerts = config.alerts
    assert alerts is not None
    assert (alerts.silent_s, alerts.behind, alerts.behind_s) == (7, 50, 3)


def test_paths_are_those_of_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import tape\n\nclass Mine(tape.Strategy):\n    version = '1'\n    def on_bar(self, bar): ...\n"
    )
    (tmp_path / "limits.toml").write_text("day_loss = 0.01\n")
    text = TWO.replace('"sma-cross"', '"mine.py:Mine"').replace("{ fast = 5, slow = 20 }", "{}")
    text = text.replace('{ day_loss = 0.02, restricted = ["gme"] }', '"limits.toml"')
    config = load(written(tmp_path, text))
    check(config)
    assert config.strategies[0].kind == f"{tmp_path}/mine.py:Mine"
    assert config.accounts[0].limits == tmp_path / "limits.toml"


def test_each_partition_gets_its_own_strategies(tmp_path: Path) -> None:
    config = load(written(tmp_path, TWO + '[core]\nfee = "bps:1"\nlatency_ms = 3\n'))
    spec = LogSpec("0123456789abcdef", "wall", account_partitions=3)
    with create_log(f"sqlite:{tmp_path}/log.sqlite", spec) as log:
        found = {p: configured_for(config, log, p) for p in range(3)}
    assert partition_of("one", 3) != partition_of("two", 3)
    for partition, configured in found.items():
        strategies = configured.settings.strategies
        assert {s.account for s in strategies} == {
            a for a in ("one", "two") if partition_of(a, 3) == partition
        }
        assert (configured.partition, configured.log, configured.time) == (partition, spec.id, "wall")
        assert configured.settings.log_prefix == log_prefix(spec.id)
        assert (configured.settings.fee, configured.settings.latency) == ("bps:1", 3_000_000)
        build(configured)
    (cross,) = found[partition_of("one", 3)].settings.strategies
    assert (cross.symbols, cross.params) == (("SPY",), {"fast": "5", "slow": "20"})


def test_accounts_are_asked_for_once(tmp_path: Path) -> None:
    config = load(written(tmp_path, TWO))
    url = f"sqlite:{tmp_path}/log.sqlite"
    with open_or_make(config, url) as log:
        assert open_accounts(config, log) == ["one", "two"]
    with open_or_make(config, url) as log:
        assert open_accounts(config, log) == []
        commands = [
            decode(r.topic, r.value) for p in range(4) for r in log.read("operator.commands", p, gte=0)
        ]
    one, two = sorted((c for c in commands if isinstance(c, OpenAccount)), key=lambda c: c.account)
    assert len(commands) == 2
    assert (one.id, one.cash, one.kind, one.multiplier, one.shorting) == (
        "open-one",
        100_000,
        "margin",
        2,
        True,
    )
    assert (one.limits.day_loss, one.limits.restricted) == (Decimal("0.02"), ("GME",))
    assert (two.kind, two.multiplier, two.shorting) == ("cash", 1, False)


def test_a_log_of_another_time_or_other_partitions_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/log.sqlite"
    open_or_make(load(written(tmp_path, TWO)), url).close()
    for text, said in (
        ('time = "data"', "time is data"),
        ("market_partitions = 2", "market_partitions is 2"),
    ):
        ran = here("config", "apply", written(tmp_path, text), "--log", url)
        assert ran.code == 2
        assert said in ran.said


def test_the_deployed_example_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (DEPLOYED.parent / "../data/sample").resolve() == SAMPLE.resolve()
    check(load(DEPLOYED))
    ran = tape("config", "check", DEPLOYED, "--json")
    assert (ran.code, ran.json["ok"]) == (0, True)
    assert {"core", "feed", "broker-sim", "gateway-0", "gateway-1"} <= set(ran.json["roles"])
    as_json = tape("config", "show", DEPLOYED, "--json").json
    assert as_json == json.loads(json.dumps(shown(load(DEPLOYED))))


def test_without_a_file_there_are_defaults() -> None:
    assert load(None) == LiveConfig()
    with pytest.raises(WrongInput, match="cannot be read"):
        load(Path("nowhere.toml"))


def test_the_page_of_settings_is_that_of_the_models() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page(), "write it anew: make docs"
    silent = [
        f"{model.__name__}.{name}"
        for model in SECTIONS.values()
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert silent == []


def test_every_setting_of_the_core_can_be_made() -> None:
    """Those that a log and its accounts say are no user's."""
    fields = set(CoreSettings.model.model_fields) - {"log_prefix", "strategies"}
    keys = {name.removesuffix("_ms") for name in SECTIONS["core"].model_fields}
    assert keys == fields


def test_the_roles_that_a_configuration_names(tmp_path: Path) -> None:
    feed = '[feed]\nsymbols = ["SPY"]\n'
    gateways = [f"gateway-{p}" for p in sorted({partition_of(account, 4) for account in ("one", "two")})]
    for text, log, kinds in (
        ("", "sqlite:x", ["core", "heartbeat"]),
        ('time = "data"', "sqlite:x", ["core"]),
        (feed, "kafka://h:1/x", ["core", "seal", "feed"]),
        ('postgres_dsn = "postgresql://u@h/d"\n' + feed, "sqlite:x", ["core", "project", "feed"]),
        (
            "[core]\nsimulated = false\n[broker]\n[alerts]\n" + TWO + feed,
            "sqlite:x",
            ["broker-sim", *gateways, "core", "alerts", "feed"],
        ),
    ):
        roles = named(load(written(tmp_path, text), log=log))
        assert [role.label for role in roles] == kinds
        assert {role.kind for role in roles} <= set(KINDS)
    outside = TWO.replace("params = { fast = 5, slow = 20 }", 'where = "faust"')
    assert "strategies-cross" in {role.label for role in named(load(written(tmp_path, outside)))}
