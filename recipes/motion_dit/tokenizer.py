"""A small T5 tokenizer: the words of the captions, and single characters for all others."""

from __future__ import annotations

import math
import string
from collections import Counter

from transformers import T5TokenizerFast

SPECIAL = ("<pad>", "</s>", "<unk>")
"""In T5's order: padding has the id 0."""
WORD_START = "▁"
CHARACTER_SCORE = -20.0
"""Far below every word's, so that a word that is known is never spelt out."""
MAX_LENGTH = 128
"""Tokens that LTX's pipelines pad every prompt to; the longest caption needs 9."""


def build_tokenizer(captions: list[str]) -> T5TokenizerFast:
    """A unigram vocabulary whose scores are the logarithms of the words' shares."""
    counts = Counter(word for caption in captions for word in caption.split())
    words = {WORD_START + word: math.log(n / counts.total()) for word, n in counts.items()}
    printable = string.digits + string.ascii_letters + string.punctuation
    characters = dict.fromkeys((WORD_START, *printable), CHARACTER_SCORE)
    pieces = dict.fromkeys(SPECIAL, 0.0) | characters | words
    return T5TokenizerFast(vocab=list(pieces.items()), extra_ids=0, model_max_length=MAX_LENGTH)
