"""Real Kafka that lets in only those who log in, over TLS, and only to what they may see."""

from __future__ import annotations

from pathlib import Path

from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from tests.certificates import Authority
from tests.kafka_services import RealKafka

PASSWORD = 'the-camera\'s s3cret; "quoted"'
PLAIN_PASSWORD = "the-plain-s3cret"
REAUTHENTICATE_SECONDS = 2  # so soon a withdrawn login is noticed


class SecureKafka(RealKafka):
    """The listener for programs on the host takes SASL over TLS; the other is as it was.

    Args:
        jars: as of `RealKafka`.
        folder: as of `RealKafka`.

    Attributes:
        authority: whose certificate the broker shows, for ``localhost``.
    """

    name = "secure-kafka"

    def __init__(self, jars: Path, folder: Path) -> None:
        self.authority = Authority(folder)
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required"
        host = "listener.name.host"
        changes = {
            "listener.security.protocol.map": "INTERNAL:PLAINTEXT,HOST:SASL_SSL",
            f"{host}.ssl.keystore.type": "PEM",
            f"{host}.ssl.keystore.location": str(self.authority.issue("broker", ["localhost"])),
            f"{host}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            f"{host}.plain.sasl.jaas.config": f'{plain} user_camera="{PLAIN_PASSWORD}";',
            f"{host}.scram-sha-256.sasl.jaas.config": f"{scram};",
            f"{host}.scram-sha-512.sasl.jaas.config": f"{scram};",
            "connections.max.reauth.ms": str(REAUTHENTICATE_SECONDS * 1000),
            "authorizer.class.name": "kafka.security.authorizer.AclAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
            "super.users": "User:ANONYMOUS",  # who comes by the internal listener
        }
        super().__init__(jars, folder, changes)

    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=self.internal_servers)

    def login(
        self, username: str = "camera", mechanism: str = "SCRAM-SHA-512", password: str = PASSWORD
    ) -> dict[str, str]:
        """Return the environment variables with which a program gets in."""
        return {
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": mechanism,
            "KAFKA_SASL_USERNAME": username,
            "KAFKA_SASL_PASSWORD": password,
            "KAFKA_SSL_CAFILE": str(self.authority.file),
        }

    def add_user(self, name: str, password: str = PASSWORD) -> None:
        """Let somebody log in with both kinds of SCRAM; a change of password is the same call."""
        with self.admin() as admin:
            admin.alter_user_scram_credentials(
                [
                    UserScramCredentialUpsertion(name, mechanism, password)
                    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
                ]
            )

    def remove_user(self, name: str) -> None:
        """Withdraw a login."""
        with self.admin() as admin:
            admin.alter_user_scram_credentials(
                [
                    UserScramCredentialDeletion(name, mechanism)
                    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
                ]
            )

    def deny(self, user: str, kind: ResourceType, name: str) -> None:
        """Keep a user from a topic or a group."""
        with self.admin() as admin:
            admin.create_acls(
                [
                    ACL(
                        f"User:{user}",
                        "*",
                        ACLOperation.ALL,
                        ACLPermissionType.DENY,
                        ResourcePattern(kind, name),
                    )
                ]
            )
