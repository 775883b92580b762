"""Apache Kafka's jars, fetched once by Maven and kept by version."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

VERSION = "4.1.0"
ARTIFACTS = (
    ("org.apache.kafka", "kafka_2.13", VERSION),
    ("org.apache.kafka", "kafka-tools", VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.24.3"),
)
TIMEOUT_S = 900

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>tape</groupId><artifactId>kafka</artifactId><version>1</version>
<dependencies>{dependencies}</dependencies></project>
"""
DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


class NoKafka(Exception):
    """Kafka cannot be had here; the message says what to install."""


def cache_folder() -> Path:
    """Where the jars of this version are kept: $XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "tape" / f"kafka-{VERSION}"


def java() -> str:
    """The Java launcher. Raises `NoKafka`."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else None
    found = found or shutil.which("java")
    if found is None:
        raise NoKafka(
            "Kafka needs a Docker engine, or a JDK 17 with Maven: neither java nor an engine was found"
        )
    return found


def jars(say: Callable[[str], None] = lambda text: None) -> Path:
    """The folder with Kafka's jars; downloaded (54 MB) when it is not there yet. Raises `NoKafka`."""
    kept = cache_folder()
    if kept.is_dir():
        return kept
    maven = shutil.which("mvn")
    if maven is None:
        raise NoKafka("Kafka needs a Docker engine, or a JDK 17 with Maven: mvn was not found")
    say(f"downloading Apache Kafka {VERSION} (54 MB, once)")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".kafka-") as folder:
        _download(maven, Path(folder))
        try:
            (Path(folder) / "lib").rename(kept)
        except OSError:
            if not kept.is_dir():  # another process was first
                raise
    return kept


def _download(maven: str, folder: Path) -> None:
    dependencies = "".join(DEPENDENCY.format(*artifact) for artifact in ARTIFACTS)
    (folder / "pom.xml").write_text(POM.format(dependencies=dependencies), encoding="utf-8")
    command = [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={folder / 'lib'}"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if ran.returncode or not list(folder.glob("lib/kafka_*.jar")):
        raise NoKafka(
            f"Maven could not fetch Apache Kafka {VERSION}:\n{(ran.stdout + ran.stderr).strip()[-2000:]}"
        )
