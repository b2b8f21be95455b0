"""Reads docker-compose.yml and translates its settings as the Confluent images do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

COMPOSE_FILE = Path(__file__).parents[1] / "docker-compose.yml"

# KAFKA_* variables that the image's start script uses itself and leaves out of server.properties.
_NOT_PROPERTIES = {
    "KAFKA_VERSION",
    "KAFKA_HEAP_OPTS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_OPTS",
    "KAFKA_JMX_OPTS",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
}

# The ZooKeeper image has a list instead of a rule, and passes over what is not on it in silence.
# These are the entries of a single server without TLS.
_ZOOKEEPER_PROPERTIES = {
    "ZOOKEEPER_CLIENT_PORT": "clientPort",
    "ZOOKEEPER_TICK_TIME": "tickTime",
    "ZOOKEEPER_MAX_CLIENT_CNXNS": "maxClientCnxns",
    "ZOOKEEPER_MIN_SESSION_TIMEOUT": "minSessionTimeout",
    "ZOOKEEPER_MAX_SESSION_TIMEOUT": "maxSessionTimeout",
    "ZOOKEEPER_SNAP_COUNT": "snapCount",
    "ZOOKEEPER_PRE_ALLOC_SIZE": "preAllocSize",
    "ZOOKEEPER_AUTOPURGE_SNAP_RETAIN_COUNT": "autopurge.snapRetainCount",
    "ZOOKEEPER_AUTOPURGE_PURGE_INTERVAL": "autopurge.purgeInterval",
    "ZOOKEEPER_ADMIN_ENABLE_SERVER": "admin.enableServer",
    "ZOOKEEPER_ADMIN_SERVER_PORT": "admin.serverPort",
}


def load_compose(path: Path = COMPOSE_FILE) -> dict[str, Any]:
    """Return docker-compose.yml as plain dictionaries and lists."""
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def kafka_properties(environment: Mapping[str, object]) -> dict[str, str]:
    """Translate the environment of a cp-kafka container into its server.properties."""
    properties = {
        property_name(variable): str(value)
        for variable, value in environment.items()
        if variable.startswith("KAFKA_") and variable not in _NOT_PROPERTIES
    }
    properties.setdefault("log.dirs", "/var/lib/kafka/data")
    return properties


def property_name(variable: str) -> str:
    """Translate `KAFKA_SOME_THING` into `some.thing`; `__` stands for `_` and `___` for `-`."""
    separators = {"_": ".", "__": "_", "___": "-"}
    name = variable.removeprefix("KAFKA_").lower()
    return re.sub("_+", lambda run: separators[run.group()], name)


def zookeeper_properties(environment: Mapping[str, object]) -> dict[str, str]:
    """Translate the environment of a cp-zookeeper container into its zookeeper.properties.

    Raises:
        ValueError: a variable that the image would pass over.
    """
    ignored = sorted(
        variable
        for variable in environment
        if variable.startswith("ZOOKEEPER_") and variable not in _ZOOKEEPER_PROPERTIES
    )
    if ignored:
        raise ValueError(f"the cp-zookeeper image ignores {', '.join(ignored)}")
    properties = {"dataDir": "/var/lib/zookeeper/data", "dataLogDir": "/var/lib/zookeeper/log"}
    for variable, name in _ZOOKEEPER_PROPERTIES.items():
        if variable in environment:
            properties[name] = str(environment[variable])
    return properties


def listeners(value: str) -> dict[str, tuple[str, int]]:
    """Split `NAME://host:port,...` into name -> (host, port)."""
    parsed = {}
    for listener in value.split(","):
        name, address = listener.split("://")
        host, port = address.rsplit(":", 1)
        parsed[name] = (host, int(port))
    return parsed
