"""The tables that results are kept in, on SQLite and on PostgreSQL.

Every table of messages has the message's place on Kafka for its key, so a redelivery changes
nothing. Text from strangers is cut to `LONGEST_TEXT` letters before it gets here: PostgreSQL
refuses to index more than 2,704 bytes a row.
"""

from __future__ import annotations

import math

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    inspect,
    select,
)

from car_classifier.errors import SettingsError

__all__ = [
    "CONFIDENCE_BUCKETS",
    "LATENCY_BUCKETS",
    "cameras",
    "confidence_bucket",
    "dead_letters",
    "hour_confidence",
    "hour_counts",
    "hour_dead",
    "hour_latency",
    "hour_of",
    "latency_bucket",
    "latency_bucket_start_ms",
    "metadata",
    "migrate",
    "minute_confidence",
    "minute_counts",
    "minute_dead",
    "minute_latency",
    "minute_of",
    "predictions",
    "schema_version",
    "thumbnails",
    "version_of",
]

# Letters of a name. Three of these, at four bytes each, fit in a key of `minute_counts`.
LONGEST_TEXT = 200

CONFIDENCE_BUCKETS = 20  # of equal width, 0 to 1

# Bucket 0 ends at 1 ms (a camera's clock may be ahead of ours: it has what is negative, too), and
# each further one at 2 ** (1 / LATENCY_STEPS) times the end of the one before: 19 % more.
LATENCY_STEPS = 4
LATENCY_BUCKETS = 31 * LATENCY_STEPS  # the last begins after 12 days and has no end

metadata = MetaData()


def _key() -> list[Column[int] | Column[str]]:
    """Where a message lies on Kafka: the primary key."""
    return [
        Column("topic", Text, primary_key=True),
        Column("partition", Integer, primary_key=True, autoincrement=False),
        Column("offset", BigInteger, primary_key=True, autoincrement=False),
    ]


# Times are seconds since 1970.
predictions = Table(
    "predictions",
    metadata,
    *_key(),
    Column("captured", Double, nullable=False),  # by the camera's clock
    Column("received", Double, nullable=False),  # when it came off Kafka
    Column("predicted", Double, nullable=False),
    Column("camera_id", Text, nullable=False),
    Column("image_name", Text, nullable=False),
    # The best guess, even where the model is not certain. A model of "": the make is all we know.
    Column("make", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("year", Integer),
    Column("certain", Boolean, nullable=False),  # confidence reached the threshold
    Column("confidence", Double, nullable=False),  # 0..1
    # JSON: [{"make", "model", "year", "confidence"}, ...], best first, model and year may be null.
    Column("top_k", Text, nullable=False),
    Column("latency_ms", Double, nullable=False),  # from captured to predicted
    Column("model_file", Text, nullable=False),  # which model answered
    Column("model_sha256", Text, nullable=False),
    Index("predictions_predicted", "predicted"),
    Index("predictions_camera", "camera_id", "predicted"),
    Index("predictions_car", "make", "model", "predicted"),
    Index("predictions_image", "image_name"),
)

# Apart, so that looking through the predictions does not read pictures.
thumbnails = Table(
    "thumbnails",
    metadata,
    *_key(),
    Column("jpeg", LargeBinary, nullable=False),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    *_key(),
    Column("rejected", Double, nullable=False),
    Column("camera_key", Text),  # the message's key; null if it had none
    Column("reason", Text, nullable=False),  # one of `car_classifier.errors.Reason`
    Column("detail", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),  # of the message's value, in bytes
    Index("dead_letters_rejected", "rejected"),
)

# The latest photo of each camera.
cameras = Table(
    "cameras",
    metadata,
    Column("camera_id", Text, primary_key=True),
    Column("last_captured", Double, nullable=False),
    Column("last_predicted", Double, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
)


def _counts(name: str, time: str, *columns: Column[int] | Column[str] | Column[bool]) -> Table:
    """How many messages there were, for each minute or hour of prediction (or rejection)."""
    start = Column(time, BigInteger, primary_key=True, autoincrement=False)
    count = Column("count", BigInteger, nullable=False)
    return Table(name, metadata, start, *columns, count)


def _text_key(name: str) -> Column[str]:
    return Column(name, Text, primary_key=True)


def _bucket() -> Column[int]:
    return Column("bucket", Integer, primary_key=True, autoincrement=False)


def _car() -> list[Column[str] | Column[bool]]:
    certain = Column("certain", Boolean, primary_key=True)
    return [_text_key("make"), _text_key("model"), certain]


minute_counts = _counts("minute_counts", "minute", _text_key("camera_id"), *_car())
minute_confidence = _counts("minute_confidence", "minute", _bucket())
minute_latency = _counts("minute_latency", "minute", _text_key("camera_id"), _bucket())
minute_dead = _counts("minute_dead", "minute", _text_key("reason"))

# For long stretches of time: with some traffic nearly every photo is the only one of its car,
# camera and minute, and a week of those is as long as the predictions themselves.
hour_counts = _counts("hour_counts", "hour", *_car())
hour_confidence = _counts("hour_confidence", "hour", _bucket())
hour_latency = _counts("hour_latency", "hour", _text_key("camera_id"), _bucket())
hour_dead = _counts("hour_dead", "hour", _text_key("reason"))

schema_version = Table(
    "schema_version", metadata, Column("version", Integer, primary_key=True, autoincrement=False)
)

# What leads from version 1 to 2, from 2 to 3, ...: statements that both databases understand. A new
# database gets the tables above as they are.
MIGRATIONS: list[list[str]] = []

_MIGRATION_LOCK = 0x636C6173  # any number that is ours


def minute_of(seconds: float) -> int:
    """The minute's first second since 1970."""
    return math.floor(seconds / 60) * 60


def hour_of(seconds: float) -> int:
    """The hour's first second since 1970."""
    return math.floor(seconds / 3600) * 3600


def confidence_bucket(confidence: float) -> int:
    """0 to `CONFIDENCE_BUCKETS` - 1 for a confidence of 0..1."""
    return max(0, min(int(confidence * CONFIDENCE_BUCKETS), CONFIDENCE_BUCKETS - 1))


def latency_bucket(milliseconds: float) -> int:
    """0 to `LATENCY_BUCKETS` - 1 for any latency."""
    if milliseconds < 1:
        return 0
    return min(1 + int(math.log2(milliseconds) * LATENCY_STEPS), LATENCY_BUCKETS - 1)


def latency_bucket_start_ms(bucket: int) -> float:
    """The smallest latency in a bucket, which is where the one before it ends."""
    return 0.0 if bucket == 0 else 2.0 ** ((bucket - 1) / LATENCY_STEPS)


def version_of(connection: Connection) -> int | None:
    """Return the schema's version, None where there is none yet."""
    if not inspect(connection).has_table(schema_version.name):
        return None
    version: int | None = connection.scalar(select(func.max(schema_version.c.version)))
    return version


def migrate(engine: Engine) -> None:
    """Create the tables, or bring those of an older version up to date.

    One transaction, which only one consumer is in at a time: on PostgreSQL by this lock, on SQLite
    because `car_classifier.engine` begins transactions for writing as such.

    Raises:
        SettingsError: the tables are of a newer version than this program.
        SQLAlchemyError: the database does not answer, or not to us.
    """
    newest = 1 + len(MIGRATIONS)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        version = version_of(connection)
        if version is None:
            metadata.create_all(connection)
            connection.execute(schema_version.insert().values(version=newest))
        elif version > newest:
            raise SettingsError(
                f"the database's tables are of version {version}, this program knows up to "
                f"{newest}: use the newer program that made them, or another database"
            )
        elif version < newest:
            for statements in MIGRATIONS[version - 1 :]:
                for statement in statements:
                    connection.exec_driver_sql(statement)
            connection.execute(schema_version.update().values(version=newest))
