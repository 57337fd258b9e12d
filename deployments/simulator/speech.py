"""Speech for those who only want to hear that something is said: a tone for each word, as MP3 or WAV.

The pitch is the voice's own, and moves with the words.
"""

from __future__ import annotations

import io
import math
import wave
import zlib
from array import array
from collections.abc import Iterator

CHARACTERS_PER_SECOND = 15  # a thousand are about a minute, as with a real voice
_SHORTEST_SECONDS = 0.5
_TONES = (0, 2, 4, 7, 9, 12)  # half tones above the voice's own
_LOUDNESS = 9000  # of 32767
_SOUND_SHARE = 0.75  # of a word's time; the rest is silence
_FADE_SECONDS = 0.008  # so that tones do not click


def make_speech(text: str, *, voice_id: str, sample_rate: int = 44_100, bit_rate: int = 128_000) -> bytes:
    # Here, since PyAV takes 17 MB that a simulator of pictures does without.
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=sample_rate, options={"compression_level": "9"})
        stream.bit_rate = bit_rate
        stream.layout = "mono"
        stream.format = "s16p"
        for number, samples in enumerate(_pieces(_samples(text, voice_id, sample_rate))):
            frame = av.AudioFrame(format="s16p", layout="mono", samples=len(samples))
            frame.sample_rate = sample_rate
            frame.pts = number * _PIECE
            # A plane may be longer than its samples: FFmpeg aligns it.
            frame.planes[0].update(samples.tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def make_wave(text: str, *, voice_id: str, seconds: float | None = None, sample_rate: int = 16_000) -> bytes:
    """Make the same as WAV. `seconds`: how long it is to be, whatever is said."""
    samples = _samples(text, voice_id, sample_rate)
    if seconds is not None:
        wanted = max(1, round(seconds * sample_rate))
        samples = (samples * (wanted // len(samples) + 1))[:wanted]
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.tobytes())
    return out.getvalue()


def seconds_of(text: str) -> float:
    return max(len(text) / CHARACTERS_PER_SECOND, _SHORTEST_SECONDS)


_PIECE = 1152  # samples in a frame of MP3


def _pieces(samples: array[int]) -> Iterator[array[int]]:
    for start in range(0, len(samples), _PIECE):
        yield samples[start : start + _PIECE]


def _samples(text: str, voice_id: str, sample_rate: int) -> array[int]:
    own_pitch = 150 + zlib.crc32(voice_id.encode()) % 150
    words = text.split() or ["…"]
    per_letter = seconds_of(text) * sample_rate / sum(len(word) + 1 for word in words)
    samples = array("h")
    for word in words:
        total = int((len(word) + 1) * per_letter)
        pitch = own_pitch * 2 ** (_TONES[zlib.crc32(word.encode()) % len(_TONES)] / 12)
        tone = _tone(pitch, int(total * _SOUND_SHARE), sample_rate)
        samples.extend(tone)
        samples.extend(array("h", bytes(2 * (total - len(tone)))))
    return samples


def _tone(pitch: float, length: int, sample_rate: int) -> array[int]:
    # One period of a sine, repeated: that costs next to nothing.
    period = max(2, round(sample_rate / pitch))
    wave = array("h", (int(_LOUDNESS * math.sin(2 * math.pi * n / period)) for n in range(period)))
    tone = (wave * (length // period + 1))[:length]
    fade = min(int(_FADE_SECONDS * sample_rate), length // 2)
    for n in range(fade):
        tone[n] = tone[n] * n // fade
        tone[-1 - n] = tone[-1 - n] * n // fade
    return tone
