"""Dead letters: list them, send some back to the stream, or write one to a file.

python -m car_classifier.replay                                 list them by reason
python -m car_classifier.replay --send --reason model_failed    send those back, once
python -m car_classifier.replay --send --at 0@17                send that one back, once
python -m car_classifier.replay --dump letter.json --at 0@17    write its value to a file

What has been sent back is noted on the dead letter topic itself: another run leaves it alone.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from car_classifier.broker import BrokerSettings, connect
from car_classifier.console import (
    add_broker_options,
    broker_settings,
    checked,
    environment_default,
    forgiving_output,
    quiet_kafka_log,
)
from car_classifier.dead_letters import dead_letter_topic
from car_classifier.errors import CarClassifierError, Reason, SettingsError
from car_classifier.letters import Letter, LetterTopic, Place
from car_classifier.outbox import check_topics, open_outbox
from car_classifier.predictions import printable
from car_classifier.shutdown import StopSignal

__all__ = ["main"]


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m car_classifier.replay",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_broker_options(parser)
    add = parser.add_argument
    # fmt: off
    add("--dead-letter-topic", default=environment_default("DEAD_LETTER_TOPIC", None),
        metavar="NAME", help="where they lie [DEAD_LETTER_TOPIC; name of the topic + .dlq]")
    add("--reason", action="append", choices=[reason.value for reason in Reason], default=[],
        metavar="NAME", help="choose those that were rejected for it; may be repeated")
    add("--at", action="append", type=place, default=[], metavar="PARTITION@OFFSET",
        help="choose the one that lies there, as the list shows it; may be repeated")
    add("--all", action="store_true", help="choose all")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--send", action="store_true",
        help="send the chosen ones back to the stream, those that never were")
    action.add_argument("--dump", type=Path, metavar="FILE",
        help="write the value of the chosen one to a new file")
    add("--show", type=checked(int, minimum=0), default=10, metavar="N",
        help="most lines in the list for each reason [%(default)s]")
    # fmt: on
    return parser.parse_args(arguments)


def place(text: str) -> Place:
    """Read ``partition@offset``, for ``argparse``."""
    partition, _, offset = text.partition("@")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected PARTITION@OFFSET, got {text!r}")
    return Place(int(partition), int(offset))


def run(options: argparse.Namespace, stopped: Callable[[], bool]) -> int:
    """Do what is asked for; return the exit status."""
    settings = broker_settings(options)
    name = options.dead_letter_topic or dead_letter_topic(settings.topic)
    check_topics(settings, dead_letter_topic=name)
    if (options.send or options.dump) and not (options.reason or options.at or options.all):
        raise SettingsError("which ones? expected --reason, --at or --all")
    topic = connect(lambda: LetterTopic(settings, name), settings, stopped)
    if topic is None:
        return 0
    with contextlib.closing(topic):
        letters = topic.scan()
        chosen = choose(letters, options)
        if options.dump:
            dump(topic, chosen, options.dump)
        elif options.send:
            return send(topic, settings, chosen, stopped)
        else:
            show(name, chosen if chosen else letters, options.show)
    return 0


def choose(letters: Sequence[Letter], options: argparse.Namespace) -> list[Letter]:
    """The letters that are asked for.

    Raises:
        SettingsError: there is none at a place that was named.
    """
    there = {letter.place for letter in letters}
    for wanted in options.at:
        if wanted not in there:
            raise SettingsError(f"--at: no dead letter lies at {wanted}")
    return [
        letter
        for letter in letters
        if options.all or letter.place in options.at or letter.reason in options.reason
    ]


def show(name: str, letters: Sequence[Letter], most: int) -> None:
    """Print the letters by reason, the most frequent first."""
    by_reason: dict[str, list[Letter]] = defaultdict(list)
    for letter in letters:
        by_reason[letter.reason].append(letter)
    sent_back = sum(letter.sent_back for letter in letters)
    print(f"{name}: {len(letters)} dead letters, {sent_back} of them sent back")
    for reason, group in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        print(f"{printable(reason)}: {len(group)}")
        for letter in group[:most]:
            print(f"  {described(letter)}")
        if len(group) > most:
            print(f"  ... and {len(group) - most} more")


def described(letter: Letter) -> str:
    """One line about a letter, safe to print whatever strangers put into it."""
    moment = datetime.fromtimestamp(letter.time, timezone.utc)
    key = "no key" if letter.key is None else letter.key.decode(errors="backslashreplace")
    note = ", sent back" if letter.sent_back else ""
    return (
        f"{letter.place} from {letter.source}, {moment:%Y-%m-%d %H:%M:%S} UTC, {printable(key)}, "
        f"{letter.size} bytes, attempts: {letter.attempts}{note}: {printable(letter.detail)}"
    )


def dump(topic: LetterTopic, chosen: Sequence[Letter], path: Path) -> None:
    """Write the value of one letter to a file that is not there yet.

    Raises:
        SettingsError: not one was chosen, it has no value, or the file is there already.
    """
    if len(chosen) != 1:
        raise SettingsError(f"--dump: expected one dead letter, {len(chosen)} are chosen")
    value = topic.fetch(chosen[0].place).value
    if value is None:
        raise SettingsError(f"--dump: the message at {chosen[0].place} came without a value")
    try:
        with open(path, "xb") as file:
            file.write(value)
    except OSError as error:
        raise SettingsError(f"--dump: {error}") from error
    print(f"{chosen[0].place}: {len(value)} bytes written to {path}")


def send(
    topic: LetterTopic,
    settings: BrokerSettings,
    chosen: Sequence[Letter],
    stopped: Callable[[], bool],
) -> int:
    """Send letters back to the stream, and note each; return the exit status.

    Letters that came from another topic stay: this one's consumers would not know them.
    """
    outbox = connect(lambda: open_outbox(settings), settings, stopped)
    if outbox is None:
        return 1
    sent = 0
    waiting = [
        letter
        for letter in chosen
        if not letter.sent_back and letter.source.topic == settings.topic
    ]
    with contextlib.closing(outbox):
        for letter in waiting:
            whole = topic.fetch(letter.place)
            # The note only once it is there: who is killed in between sends it again, if at all.
            if not (
                outbox.send([whole.as_it_was(settings.topic)], lambda: not stopped())
                and outbox.send([topic.note(letter.place)], lambda: not stopped())
            ):
                break
            sent += 1
            print(f"Sent back: {described(letter)}", flush=True)
    missed = len(waiting) - sent
    print(f"{sent} sent back, {len(chosen) - len(waiting)} left alone, {missed} given up")
    return 1 if missed else 0


def main() -> int:
    """Run the command line; return the exit status."""
    quiet_kafka_log()
    forgiving_output()
    try:
        return run(parse_options(), StopSignal())
    except CarClassifierError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
