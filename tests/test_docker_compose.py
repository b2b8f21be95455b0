"""docker-compose.yml: its promises, its settings translated, and real Kafka started from them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import ConfigResource, KafkaAdminClient
from kafka.errors import MessageSizeTooLargeError

from tests.compose import (
    kafka_properties,
    listeners,
    load_compose,
    property_name,
    zookeeper_properties,
)
from tests.conftest import require_real_kafka
from tests.kafka_services import TOPIC, RealKafka, missing_tools

MIB = 1024 * 1024
SERVERS = ["zookeeper", "kafka"]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return load_compose()


@pytest.fixture(scope="module")
def settings(compose: dict[str, Any]) -> dict[str, str]:
    """Kafka's server.properties."""
    return kafka_properties(compose["services"]["kafka"]["environment"])


class TestFile:
    def test_every_image_is_pinned_to_one_confluent_7_9_release(
        self, compose: dict[str, Any]
    ) -> None:
        images = [compose["services"][name]["image"] for name in [*SERVERS, "create-topic"]]
        assert all(
            re.fullmatch(r"confluentinc/cp-(kafka|zookeeper):7\.9\.\d+", image) for image in images
        )
        assert len({image.split(":")[1] for image in images}) == 1

    def test_nothing_can_be_reached_from_another_machine(self, compose: dict[str, Any]) -> None:
        published = {
            name: [str(port) for port in service.get("ports", [])]
            for name, service in compose["services"].items()  # those of every profile
        }
        assert published["kafka"]
        for name, ports in published.items():
            assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports), name

    def test_no_service_gets_more_of_this_machine_than_it_needs(
        self, compose: dict[str, Any]
    ) -> None:
        # Each of these would make the addresses above, or the container's walls, void.
        undermining = {"network_mode", "privileged", "pid", "ipc", "cap_add", "devices"}
        for name, service in compose["services"].items():
            assert not undermining & service.keys(), name
            mounts = [str(volume) for volume in service.get("volumes", [])]
            assert not [mount for mount in mounts if "docker.sock" in mount], name
        assert not [network for network in (compose.get("networks") or {}).values() if network], (
            "networks of the host's"
        )

    @pytest.mark.parametrize(
        ("service", "folders"),
        [
            ("zookeeper", ["/var/lib/zookeeper/data", "/var/lib/zookeeper/log"]),
            ("kafka", ["/var/lib/kafka/data"]),
        ],
    )
    def test_data_lives_in_named_volumes(
        self, compose: dict[str, Any], service: str, folders: list[str]
    ) -> None:
        volumes = [volume.split(":") for volume in compose["services"][service]["volumes"]]
        assert [folder for _, folder in volumes] == folders
        assert all(name in compose["volumes"] for name, _ in volumes)

    @pytest.mark.parametrize("service", SERVERS)
    def test_servers_have_a_health_check_and_come_back_after_a_crash(
        self, compose: dict[str, Any], service: str
    ) -> None:
        assert compose["services"][service]["healthcheck"]["test"][:2] == ["CMD", "timeout"]
        assert compose["services"][service]["restart"] == "unless-stopped"

    def test_each_service_waits_until_the_one_before_is_healthy(
        self, compose: dict[str, Any]
    ) -> None:
        services = compose["services"]
        healthy = {"condition": "service_healthy"}
        assert services["kafka"]["depends_on"] == {"zookeeper": healthy}
        assert services["create-topic"]["depends_on"] == {"kafka": healthy}

    def test_compose_1_and_2_both_read_it(self, compose: dict[str, Any]) -> None:
        # 1.28 and later read a file without a version, 2.x warns about one; 1.x refuses booleans.
        assert "version" not in compose
        values = [
            value
            for service in compose["services"].values()
            for value in service.get("environment", {}).values()
        ]
        assert not [value for value in values if isinstance(value, bool)]

    def test_one_listener_is_for_the_host_and_one_for_containers(
        self, compose: dict[str, Any], settings: dict[str, str]
    ) -> None:
        listening = listeners(settings["listeners"])
        announced = listeners(settings["advertised.listeners"])
        assert announced == {"INTERNAL": ("kafka", 29092), "HOST": ("localhost", 9092)}
        assert {name: port for name, (_, port) in listening.items()} == {
            name: port for name, (_, port) in announced.items()
        }
        assert compose["services"]["kafka"]["ports"] == ["127.0.0.1:9092:9092"]
        assert settings["inter.broker.listener.name"] == "INTERNAL"

    def test_a_message_of_20_mib_fits_with_its_headers(self, settings: dict[str, str]) -> None:
        assert int(settings["message.max.bytes"]) > 20 * MIB
        assert settings["replica.fetch.max.bytes"] == settings["message.max.bytes"]

    def test_the_topic_is_created_once_with_three_partitions(self, compose: dict[str, Any]) -> None:
        command = " ".join(compose["services"]["create-topic"]["command"])
        assert f"--topic {TOPIC} --partitions 3 " in command
        assert "--if-not-exists" in command


class TestTranslation:
    @pytest.mark.parametrize(
        ("variable", "expected"),
        [
            ("KAFKA_BROKER_ID", "broker.id"),
            ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "listener.security.protocol.map"),
            ("KAFKA_WITH__UNDERSCORE", "with_underscore"),
            ("KAFKA_WITH___DASH", "with-dash"),
        ],
    )
    def test_a_variable_becomes_a_property(self, variable: str, expected: str) -> None:
        assert property_name(variable) == expected

    def test_options_of_the_jvm_and_foreign_variables_are_no_properties(self) -> None:
        environment = {"KAFKA_HEAP_OPTS": "-Xmx1g", "LANG": "C", "KAFKA_BROKER_ID": 1}
        assert kafka_properties(environment) == {
            "broker.id": "1",
            "log.dirs": "/var/lib/kafka/data",
        }

    def test_zookeeper_properties_are_spelled_as_zookeeper_spells_them(self) -> None:
        environment = {"ZOOKEEPER_CLIENT_PORT": 2181, "ZOOKEEPER_ADMIN_ENABLE_SERVER": "false"}
        assert zookeeper_properties(environment) == {
            "clientPort": "2181",
            "admin.enableServer": "false",
            "dataDir": "/var/lib/zookeeper/data",
            "dataLogDir": "/var/lib/zookeeper/log",
        }

    def test_a_setting_that_the_zookeeper_image_ignores_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="ignores ZOOKEEPER_4LW_COMMANDS_WHITELIST"):
            zookeeper_properties({"ZOOKEEPER_4LW_COMMANDS_WHITELIST": "ruok"})


class TestOnRealKafka:
    def test_kafka_knows_every_setting(self, real_kafka: RealKafka) -> None:
        # Kafka warns about a misspelled setting and goes on without it.
        with KafkaAdminClient(bootstrap_servers=real_kafka.bootstrap_servers) as admin:
            brokers = admin.describe_configs([ConfigResource("BROKER", "1")], config_filter="all")
        effective = brokers["broker"]["1"]
        moved = {"zookeeper.connect", "listeners", "advertised.listeners", "log.dirs"}
        expected = {name: value for name, value in real_kafka.settings.items() if name not in moved}
        assert {name: effective[name]["value"] for name in expected} == expected

    def test_the_topic_has_three_partitions(self, real_kafka: RealKafka) -> None:
        with KafkaAdminClient(bootstrap_servers=real_kafka.bootstrap_servers) as admin:
            (topic,) = admin.describe_topics([TOPIC])
        assert len(topic["partitions"]) == 3

    def test_creating_the_topic_again_changes_nothing(self, real_kafka: RealKafka) -> None:
        real_kafka.create_topic_as_compose_does()

    @pytest.mark.parametrize("mebibytes", [15, 20])
    def test_a_large_message_goes_through(self, real_kafka: RealKafka, mebibytes: int) -> None:
        sent = bytes(range(256)) * (mebibytes * MIB // 256)
        real_kafka.create_topic(topic := f"large-{mebibytes}")
        with producer(real_kafka) as camera:
            camera.send(topic, key=b"cam01", value=sent).get(timeout=60)
        with KafkaConsumer(
            topic,
            bootstrap_servers=real_kafka.bootstrap_servers,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=21 * MIB,
            fetch_max_bytes=21 * MIB,
            consumer_timeout_ms=60_000,
        ) as consumer:
            assert next(consumer).value == sent

    def test_a_larger_message_is_refused(self, real_kafka: RealKafka) -> None:
        with producer(real_kafka) as camera, pytest.raises(MessageSizeTooLargeError):
            camera.send(TOPIC, value=bytes(22 * MIB)).get(timeout=60)

    def test_health_checks_tell_a_stopped_broker_from_a_running_one(
        self, real_kafka: RealKafka
    ) -> None:
        assert [real_kafka.is_healthy(server) for server in SERVERS] == [True, True]
        real_kafka.stop()
        try:
            assert [real_kafka.is_healthy(server) for server in SERVERS] == [True, False]
        finally:
            real_kafka.start()
        assert real_kafka.is_healthy("kafka")


class TestMachineWithoutJava:
    def test_the_test_is_skipped_by_name(self) -> None:
        with pytest.raises(pytest.skip.Exception, match="java and mvn"):
            require_real_kafka(missing_tools(which=lambda _: None), ci=False)

    def test_ci_fails_instead(self) -> None:
        with pytest.raises(pytest.fail.Exception, match="mvn"):
            require_real_kafka(["mvn"], ci=True)

    def test_nothing_happens_where_all_is_there(self) -> None:
        require_real_kafka(missing_tools(which=lambda tool: f"/usr/bin/{tool}"), ci=True)


def producer(broker: RealKafka) -> KafkaProducer:
    return KafkaProducer(bootstrap_servers=broker.bootstrap_servers, max_request_size=23 * MIB)
