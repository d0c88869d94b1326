"""A small RoBERTa tokenizer whose byte-pair merges are learned from the captions."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import RobertaTokenizer

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
MAX_LENGTH = 16
"""Tokens in a prompt; the longest caption needs 12."""


def prepare_tokenizer(captions: list[str], folder: Path) -> RobertaTokenizer:
    """Learn the tokenizer once: ties are broken at random, so a resumed run must not relearn it."""
    if not folder.exists():
        train_tokenizer(captions).save_pretrained(folder)
    return RobertaTokenizer.from_pretrained(folder)


def train_tokenizer(captions: list[str]) -> RobertaTokenizer:
    """All bytes, so that any text can be written, and whatever longer pieces the captions need."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    learned = json.loads(learner.to_str())["model"]  # only the serialised form gives it away
    return RobertaTokenizer(
        vocab=learned["vocab"],
        merges=[tuple(pair) for pair in learned["merges"]],
        add_prefix_space=True,
        model_max_length=MAX_LENGTH,
    )
