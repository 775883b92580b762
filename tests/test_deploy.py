"""docker-compose.yml and what it is made of: commands that exist, settings as a single broker needs them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from eventlog.kafka import broker
from eventlog.kafka.jars import VERSION
from tape.cli import app
from tape.config import SECTIONS, LiveConfig, load
from tape.roles import named

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "tape"}
PLACES = {"listeners", "advertised.listeners", "controller.quorum.voters", "log.dirs"}
"""Settings that differ with where a broker stands."""


def parsed(words: list[str]) -> dict[str, Any]:
    """A command line as `tape` takes it, without running it. Raises for what it does not know."""
    command: Any = typer.main.get_command(app)
    while True:
        context = command.make_context(command.name, list(words), resilient_parsing=False)
        if not hasattr(command, "resolve_command"):
            return dict(context.params)
        rest = [*getattr(context, "_protected_args", []), *context.args]
        _, command, words = command.resolve_command(context, rest)


@pytest.mark.parametrize("name", sorted(OURS))
def test_commands_exist_and_their_configuration_is_mounted(name: str) -> None:
    service = OURS[name]
    params = parsed(service["command"])
    file = Path(str(params.get("config") or params["file"]))
    (mounted,) = (v for v in service["volumes"] if str(file).startswith(v.split(":")[1]))
    source, target, mode = mounted.split(":")
    assert mode == "ro"
    assert (ROOT / source / file.relative_to(target)).is_file()


def test_a_wrong_command_would_be_noticed() -> None:
    for words in (["run", "cores"], ["run", "core", "--confg", "x"], ["config", "aply", "x"]):
        with pytest.raises(Exception, match=r"(?i)no such|not one of"):
            parsed(words)


def test_there_is_a_service_for_each_role(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, service in OURS.items():
        for key, value in service["environment"].items():
            section, _, inner = key.removeprefix("TAPE_").lower().partition("__")
            assert section in LiveConfig.model_fields, name
            assert not inner or inner in SECTIONS[section].model_fields, name
            monkeypatch.setenv(key, re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value))
    wanted = [role.label for role in named(load(ROOT / "deploy" / "tape.toml"))]
    running = [s["command"] for s in OURS.values() if s["command"][0] == "run"]
    params = [parsed(command) for command in running]
    assert sorted("-".join(filter(None, (str(p["role"]), p["name"]))) for p in params) == sorted(wanted)


def test_what_is_referred_to_exists() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in SERVICES, name
            is_once = SERVICES[other].get("restart") == "no"
            assert how["condition"] == ("service_completed_successfully" if is_once else "service_healthy")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).is_dir() if source.startswith(".") else source in COMPOSE["volumes"]
        if build := service.get("build"):
            assert (ROOT / build["context"] / build["dockerfile"]).is_file()
        assert (build is not None) is (name in OURS)
    used = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", [])}
    assert set(COMPOSE["volumes"]) <= used


def test_each_service_says_whether_it_is_well() -> None:
    for name, service in SERVICES.items():
        check = service["healthcheck"]
        if service.get("restart") == "no":
            assert check == {"disable": True}
            continue
        assert check["test"][0] == "CMD", name
        if name in OURS:
            ready = service["command"][service["command"].index("--ready-file") + 1]
            assert check["test"] == ["CMD", "test", "-f", ready]
        assert service["restart"] == "unless-stopped"


def test_ports_are_this_machines_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    assert not any("network_mode" in service for service in SERVICES.values())


def test_kafka_is_set_as_a_single_broker_must_be() -> None:
    kafka = SERVICES["kafka"]
    assert kafka["image"] == f"apache/kafka:{VERSION}"
    given = kafka["environment"]
    needed = dict(line.split("=", 1) for line in (broker.SETTINGS + broker.DURABLE).splitlines())
    for name, value in needed.items():
        variable = f"KAFKA_{name.replace('.', '_').upper()}"
        assert variable in given
        assert name in PLACES or given[variable] == value, name
    assert any(v.split(":")[1] == given["KAFKA_LOG_DIRS"] for v in kafka["volumes"])
    (published,) = kafka["ports"]
    assert f"HOST://{published.rpartition(':')[0]}" in given["KAFKA_ADVERTISED_LISTENERS"].split(",")
    url = OURS["core"]["environment"]["TAPE_LOG"]
    address = url.removeprefix("kafka://").partition("/")[0]
    assert f"PLAINTEXT://{address}" in given["KAFKA_ADVERTISED_LISTENERS"].split(",")


def test_the_image_holds_every_package() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    copied = re.findall(r"^COPY (\w+) \1$", text, re.MULTILINE)
    packages = [path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"]
    assert sorted(copied) == sorted(p for p in packages if p != "benchmarks")
    kept = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    assert [name for name in copied if f"!{name}\n" not in kept] == []
