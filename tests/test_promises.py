"""The README says what happens when...; each of its rows has a test that fails if it is not so."""

from __future__ import annotations

import importlib
import re

import pytest

from tests.test_readme import README

# First cell of the row -> the tests that keep it true.
KEPT_BY = {
    "the consumer is killed while photos are in the model": [
        "test_nothing_lost.test_a_consumer_killed_with_a_batch_in_the_model_skips_no_photo",
    ],
    "the producer is killed": [
        "test_nothing_lost.test_a_producer_killed_in_the_middle_has_sent_all_that_it_says",
    ],
    "another consumer joins or leaves while photos are in the model": [
        "test_nothing_lost.test_a_rebalance_with_a_batch_in_the_model_skips_no_photo",
        "test_end_to_end.test_consumers_of_a_group_share_the_topic_and_take_over",
    ],
    "a commit fails": ["test_nothing_lost.test_photos_of_a_commit_that_fails_come_again"],
    "the model needs longer for a batch than Kafka waits for a sign of life": [
        "test_nothing_lost."
        "test_a_batch_longer_in_the_model_than_the_group_waits_for_polls_is_answered_once",
    ],
    "the broker is stopped and started": [
        "test_end_to_end.test_a_broker_restarted_in_between_loses_nothing",
    ],
    "the broker is away while answers wait to be sent": [
        "test_nothing_lost.test_answers_that_come_while_the_broker_is_away_go_out_when_it_is_back",
    ],
    "a message is no photo": [
        "test_dead_letters.test_whatever_is_rejected_lies_verbatim_on_the_dead_letter_topic",
    ],
    "the largest message that Kafka takes is no photo": [
        "test_dead_letters.test_the_largest_message_that_the_topic_takes_becomes_a_dead_letter",
    ],
    "the model fails on a batch, or memory is short": [
        "test_retrying.test_photos_that_fail_together_are_classified_one_by_one",
        "test_retrying.test_a_photo_is_blamed_after_three_attempts_of_its_own",
        "test_retrying.test_memory_that_is_short_for_decoding_is_tried_again_alone",
    ],
    "the model fails on everything": [
        "test_nothing_lost.test_a_model_that_breaks_ends_the_consumer_and_condemns_no_photo",
    ],
    "whoever reads the consumer's stdout goes away": [
        "test_end_to_end."
        "test_a_consumer_whose_reader_has_gone_ends_quietly_and_commits_nothing_unread",
    ],
    "the topic's partitions change while the consumer polls": [
        "test_rebalancing.test_a_join_that_outlasts_a_poll_is_not_forgotten",
    ],
    "a dead letter is sent back twice": [
        "test_replay.test_chosen_letters_go_back_as_they_were_and_only_once",
    ],
}


def test_every_row_of_the_table_is_kept_by_a_test_and_the_other_way_round() -> None:
    section = README.split("### What happens when...", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", section, re.MULTILINE)[1:]

    assert rows == list(KEPT_BY)


@pytest.mark.parametrize("test", [test for tests in KEPT_BY.values() for test in tests])
def test_the_tests_that_keep_the_table_true_exist(test: str) -> None:
    module, name = test.split(".")

    assert callable(getattr(importlib.import_module(f"tests.{module}"), name))
