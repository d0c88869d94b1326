"""The sounds: eight instruments, each played in five ways, made by a few lines of arithmetic.

Nothing is recorded or fetched.  Within one caption the pitch, the moment, the speed and the
loudness differ from sound to sound, so that there is something left to be drawn from noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import lfilter

from adaptive_diffusion.miniatures.griffin_lim import GriffinLim

RATE = 8000
SAMPLES = 8192
"""About one second."""

Rng = np.random.Generator


@dataclass(frozen=True)
class Note:
    """When it begins and how long it is held, in seconds, and its pitch in hertz."""

    start: float
    duration: float
    pitch: float


def bell(note: Note, time: np.ndarray, rng: Rng) -> np.ndarray:
    """Two inharmonic partials modulated in frequency, which ring on after the note."""
    decay = np.exp(-time / rng.uniform(0.25, 0.45))
    ratio = rng.uniform(1.38, 1.44)
    modulator = 4 * decay * np.sin(2 * np.pi * ratio * note.pitch * time)
    return decay * np.sin(2 * np.pi * note.pitch * time + modulator)


def guitar(note: Note, time: np.ndarray, rng: Rng) -> np.ndarray:
    """A string after Karplus and Strong: a burst of noise that goes round in a softening loop."""
    period = RATE / note.pitch - 0.5  # the loop's average takes half a sample
    whole = int(period)
    share = period - whole
    burst = np.zeros(len(time))
    burst[:whole] = rng.uniform(-1, 1, whole)
    burst[:whole] -= burst[:whole].mean()
    loss = 0.996 ** (440 / note.pitch)
    loop = np.zeros(whole + 3)  # a delay of `period`, then the average of two neighbours
    loop[0] = 1
    loop[whole : whole + 3] -= 0.5 * loss * np.array([1 - share, 1.0, share])
    return lfilter([1.0], loop, burst)


def flute(note: Note, time: np.ndarray, rng: Rng) -> np.ndarray:
    """Few harmonics, a vibrato that sets in late, and breath."""
    depth = 0.012 * np.clip(time / 0.3, 0, 1)
    vibrato = np.cumsum(1 + depth * np.sin(2 * np.pi * rng.uniform(4.5, 6) * time)) / RATE
    phase = 2 * np.pi * note.pitch * vibrato
    tone = np.sin(phase) + 0.25 * np.sin(2 * phase) + 0.08 * np.sin(3 * phase)
    breath = lfilter([1, -1], [1, -0.7], rng.normal(size=len(time)))
    return (tone + 0.03 * breath) * envelope(time, note.duration, attack=0.06, release=0.05)


def organ(note: Note, time: np.ndarray, rng: Rng) -> np.ndarray:
    """Pipes an octave apart and a twelfth, at full strength from the beginning to the end."""
    drawbars = {0.5: 0.6, 1: 1.0, 2: 0.8, 3: 0.5, 4: 0.5, 8: 0.3}
    tone = sum(
        strength * np.sin(2 * np.pi * ratio * note.pitch * time + rng.uniform(0, 6))
        for ratio, strength in drawbars.items()
        if ratio * note.pitch < RATE / 2
    )
    return 0.5 * tone * envelope(time, note.duration, attack=0.01, release=0.015)


def trumpet(note: Note, time: np.ndarray, rng: Rng) -> np.ndarray:
    """Many harmonics, the high ones coming in late and leaving early."""
    swell = envelope(time, note.duration, attack=0.08, release=0.08)
    tone = np.zeros(len(time))
    for harmonic in range(1, int(RATE / 2 / note.pitch)):
        strength = harmonic**0.4 * swell ** (1 + 0.35 * harmonic) * np.exp(-0.12 * harmonic)
        tone += strength * np.sin(2 * np.pi * harmonic * note.pitch * time + rng.uniform(0, 6))
    return 0.4 * tone


def drum(note: Note, time: np.ndarray, rng: Rng) -> np.ndarray:
    """A skin whose pitch falls as it comes to rest, and the stroke's noise."""
    sweep = note.pitch * (0.6 + 0.8 * np.exp(-time / 0.04))
    skin = np.sin(2 * np.pi * np.cumsum(sweep) / RATE) * np.exp(-time / rng.uniform(0.06, 0.1))
    stroke = rng.normal(size=len(time)) * np.exp(-time / 0.015)
    return skin + 0.5 * stroke


def whistle(note: Note, time: np.ndarray, rng: Rng) -> np.ndarray:
    """One pure tone, two octaves up, that is slid into from below."""
    pitch = 4 * note.pitch * (1 - 0.25 * np.exp(-time / rng.uniform(0.03, 0.05)))
    tone = np.sin(2 * np.pi * np.cumsum(pitch) / RATE)
    return tone * envelope(time, note.duration, attack=0.03, release=0.04)


def laser(note: Note, time: np.ndarray, rng: Rng) -> np.ndarray:
    """A square wave that falls two octaves within a quarter of a second."""
    pitch = note.pitch * (0.8 + 5 * np.exp(-time / rng.uniform(0.06, 0.08)))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = np.sin(phase) + np.where(3 * pitch < RATE / 2, np.sin(3 * phase) / 3, 0)
    return tone * np.exp(-time / 0.15)


def envelope(time: np.ndarray, duration: float, attack: float, release: float) -> np.ndarray:
    """From 0 to 1 and, after `duration`, back."""
    return np.clip(time / attack, 0, 1) * np.clip((duration + release - time) / release, 0, 1)


Instrument = Callable[[Note, np.ndarray, Rng], np.ndarray]
INSTRUMENTS: dict[str, Instrument] = {
    function.__name__: function
    for function in (bell, guitar, flute, organ, trumpet, drum, whistle, laser)
}


def low(rng: Rng) -> list[Note]:
    """One note from the octave below 220 Hz."""
    return [_single(rng, rng.uniform(0, 7))]


def high(rng: Rng) -> list[Note]:
    """One note from the octave above 440 Hz."""
    return [_single(rng, rng.uniform(24, 31))]


def rising(rng: Rng) -> list[Note]:
    """Three notes, each three to five half-tones above the one before."""
    return _three(rng, +1)


def falling(rng: Rng) -> list[Note]:
    """The same downwards."""
    return _three(rng, -1)


def repeated(rng: Rng) -> list[Note]:
    """The same short note five times."""
    pitch, start, beat = rng.uniform(8, 20), rng.uniform(0, 0.08), rng.uniform(0.16, 0.19)
    return [Note(start + i * beat, 0.5 * beat, _hertz(pitch)) for i in range(5)]


def _single(rng: Rng, half_tones: float) -> Note:
    return Note(rng.uniform(0, 0.25), rng.uniform(0.45, 0.65), _hertz(half_tones))


def _three(rng: Rng, sign: int) -> list[Note]:
    middle, start, beat = rng.uniform(10, 20), rng.uniform(0, 0.1), rng.uniform(0.26, 0.31)
    steps = sign * np.array([-rng.uniform(3, 5), 0, rng.uniform(3, 5)])
    return [Note(start + i * beat, 0.75 * beat, _hertz(middle + steps[i])) for i in range(3)]


def _hertz(half_tones: float) -> float:
    return 130.8 * 2 ** (half_tones / 12)  # above the C below middle C


WAYS: dict[str, Callable[[Rng], list[Note]]] = {
    function.__name__: function for function in (low, high, rising, falling, repeated)
}
PHRASES: dict[str, tuple[str, ...]] = {
    "low": ("a {} playing a low note", "a low note on a {}", "a deep {}"),
    "high": ("a {} playing a high note", "a high note on a {}", "a high {}"),
    "rising": ("a {} playing three rising notes", "three notes going up on a {}", "a rising {}"),
    "falling": (
        "a {} playing three falling notes",
        "three notes going down on a {}",
        "a falling {}",
    ),
    "repeated": (
        "a {} playing short repeated notes",
        "the same short note again and again on a {}",
        "a fast {}",
    ),
}
"""Captions of a way of playing; the first of each is the one that checks ask with."""


@dataclass(frozen=True)
class Sound:
    """What is heard: which instrument, and how it is played."""

    instrument: str
    way: str

    def captions(self) -> list[str]:
        """All that it may be called."""
        article = "an" if self.instrument[0] in "aeiou" else "a"
        return [
            phrase.replace("a {}", article + " {}").format(self.instrument)
            for phrase in PHRASES[self.way]
        ]


SOUNDS = [Sound(instrument, way) for instrument in INSTRUMENTS for way in WAYS]


def synthesise(sound: Sound, rng: Rng) -> np.ndarray:
    """One rendering, `SAMPLES` floats in [-1, 1]."""
    samples = np.zeros(SAMPLES)
    play = INSTRUMENTS[sound.instrument]
    for note in WAYS[sound.way](rng):
        first = int(note.start * RATE)
        time = np.arange(SAMPLES - first) / RATE
        samples[first:] += play(note, time, rng)
    loudness = 10 ** (rng.uniform(-14, -4) / 20)
    return loudness * samples / np.abs(samples).max()


def synthesise_all(each: int, seed: int) -> tuple[torch.Tensor, list[Sound]]:
    """As many renderings of each sound: waveforms `(n, SAMPLES)`, and what they are."""
    rng = np.random.default_rng(seed)
    sounds = [sound for sound in SOUNDS for _ in range(each)]
    waveforms = np.stack([synthesise(sound, rng) for sound in sounds])
    return torch.from_numpy(waveforms).float(), sounds


def spectrograms(each: int, seed: int) -> tuple[torch.Tensor, list[Sound]]:
    """Their log-mel spectrograms `(n, frames, bands)`, as the vocoder takes them."""
    waveforms, sounds = synthesise_all(each, seed)
    analyse = GriffinLim().analyse
    return torch.cat([analyse(part) for part in waveforms.split(64)]), sounds
