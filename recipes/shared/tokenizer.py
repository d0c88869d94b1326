"""A small CLIP tokenizer whose byte-pair merges are learned from the captions."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
MAX_LENGTH = 16
"""Tokens in a prompt; the longest caption of the emoji needs 11."""


def prepare_tokenizer(
    captions: list[str], folder: Path, max_length: int = MAX_LENGTH
) -> CLIPTokenizer:
    """Learn the tokenizer once: ties are broken at random, so a resumed run must not relearn it."""
    if not folder.exists():
        train_tokenizer(captions, max_length).save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def train_tokenizer(
    captions: list[str], max_length: int = MAX_LENGTH, max_merges: int = 2000
) -> CLIPTokenizer:
    """Learn merges on the captions and lay the vocabulary out as CLIP does.

    That is: 256 bytes, the same bytes at a word's end, one entry for each merge in order, and the
    two special tokens last.  Any text can so be written, if need be byte by byte.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols = alphabet + [byte + WORD_END for byte in alphabet]
    merges = learn_merges(captions, alphabet, max_merges)
    pieces = symbols + [first + second for first, second in merges] + [START, END]
    return CLIPTokenizer(
        vocab={piece: index for index, piece in enumerate(dict.fromkeys(pieces))},
        merges=merges,
        model_max_length=max_length,
    )


def learn_merges(captions: list[str], alphabet: list[str], limit: int) -> list[tuple[str, str]]:
    """Run byte-pair encoding over the captions, split into words as CLIP splits them."""
    splitter = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    learner.normalizer = splitter.normalizer
    learner.pre_tokenizer = splitter.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(alphabet) + limit,
        initial_alphabet=alphabet,
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    return [tuple(pair) for pair in _merges(learner)]


def _merges(learner: Tokenizer) -> list[list[str]]:
    """The merges, which only the serialised form of a tokenizer gives away."""
    return json.loads(learner.to_str())["model"]["merges"]
