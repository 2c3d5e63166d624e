"""Sentences and words of long captions."""

from __future__ import annotations

import pytest

from lift.text.sentences import count_words, first_words, sentences, sub_captions

TEXT = 'Sunny day. A man says "Hi. Bye." to Dr. Smith. A man says "Hi. Bye." to Dr. Smith. Go!'


def test_sentences_are_all_of_a_text():
    found = sentences(TEXT)
    assert found == [
        "Sunny day.",
        'A man says "Hi. Bye." to Dr. Smith.',
        'A man says "Hi. Bye." to Dr. Smith.',
        "Go!",
    ]
    assert " ".join(found) == TEXT
    assert sub_captions(TEXT) == found[1:2]  # long ones, each once
    assert sentences("one, without an end") == ["one, without an end"]
    assert sentences("") == sentences(" ... ") == []


@pytest.mark.parametrize("count", range(1, 25))
def test_the_first_words_are_so_many(count):
    found = first_words(TEXT, count)
    assert TEXT.startswith(found) and count_words(found) == min(count, count_words(TEXT))
