"""Cards of models that make film, sound, text and bodies in space. Their facts are from fal's public pages."""

from __future__ import annotations

from decimal import Decimal

from .card import Card
from .shapes import (
    AUDIO,
    FILE,
    VIDEO,
    choice,
    example,
    file_url,
    flag,
    integer,
    listing,
    number,
    prompt,
    record,
    ref,
    text,
)

_VIDEO = record("video", video=VIDEO)
_NEGATIVE = text(default="blur, distort, and low quality", maxLength=2500)
_EXAMPLES = "https://v3b.fal.media/files/b/example"

MEDIA = (
    Card(
        endpoint="fal-ai/kling-video/v2.5-turbo/pro/image-to-video",
        title="Kling 2.5 Turbo Pro",
        category="image-to-video",
        minutes=2,
        input=record(
            "prompt",
            "image_url",
            prompt=prompt(maxLength=2500),
            image_url=file_url("The first frame."),
            duration=choice("5", "10", default="5"),
            negative_prompt=_NEGATIVE,
            cfg_scale=number(0, 1, default=0.5),
        ),
        output=_VIDEO,
        unit="seconds",
        unit_price=Decimal("0.07"),
    ),
    Card(
        endpoint="fal-ai/veo3/fast",
        title="Veo 3 Fast",
        category="text-to-video",
        minutes=2,
        input=record(
            "prompt",
            prompt=prompt(),
            aspect_ratio=choice("16:9", "9:16", "1:1", default="16:9"),
            duration=choice("4s", "6s", "8s", default="8s"),
            resolution=choice("720p", "1080p", default="720p"),
            generate_audio=flag(True),
            negative_prompt=text(),
            seed=integer(),
        ),
        output=_VIDEO,
        unit="seconds",
        unit_price=Decimal("0.15"),
    ),
    Card(
        endpoint="fal-ai/topaz/upscale/video",
        title="Topaz Video Upscale",
        category="video-to-video",
        tags=("upscaling",),
        input=record(
            "video_url",
            video_url=file_url("The film to enlarge."),
            upscale_factor=number(1, 8, default=2),
            target_fps={"type": "integer", "minimum": 16, "maximum": 60, "nullable": True},
        ),
        output=_VIDEO,
        unit="units",
        unit_price=Decimal("0.01"),
        units_per_file=Decimal(10),  # as charges of it have been seen
        pricing="Ten units for a film of up to eight seconds, twenty for a longer one.",
    ),
    Card(
        endpoint="fal-ai/elevenlabs/tts/eleven-v3",
        title="ElevenLabs v3",
        category="text-to-speech",
        input=record(
            "text",
            text=text("What to say.", minLength=1, maxLength=5000),
            voice=text(default="Rachel"),
            stability=number(0, 1, default=0.5),
            language_code=text(),
            timestamps=flag(False),
            apply_text_normalization=choice("auto", "on", "off", default="auto"),
        ),
        output=record("audio", audio=example(FILE, f"{_EXAMPLES}/speech.mp3")),
        unit="1000 characters",
        unit_price=Decimal("0.1"),
    ),
    Card(
        endpoint="fal-ai/stable-audio-25/text-to-audio",
        title="Stable Audio 2.5",
        category="text-to-audio",
        input=record(
            "prompt",
            prompt=prompt("What it sounds like."),
            seconds_total=integer(1, 190, default=5),
            num_inference_steps=integer(4, 8, default=8),
            guidance_scale=number(1, 25, default=1),
            seed=integer(),
        ),
        output=record("audio", "seed", audio=example(AUDIO, f"{_EXAMPLES}/sound.wav"), seed=integer()),
        unit="audios",
        unit_price=Decimal("0.2"),
    ),
    Card(
        endpoint="fal-ai/whisper",
        title="Whisper",
        category="speech-to-text",
        input=record(
            "audio_url",
            audio_url=file_url("The sound to write down."),
            task=choice("transcribe", "translate", default="transcribe"),
            language={"type": "string", "nullable": True},
            chunk_level=choice("none", "segment", "word", default="segment"),
            num_speakers={"type": "integer", "minimum": 1, "nullable": True},
        ),
        output=record(
            "text",
            "chunks",
            text=text(),
            chunks=listing(ref("WhisperChunk")),
            inferred_languages=listing(choice("en", "de")),
            subtitles=example(FILE, f"{_EXAMPLES}/subtitles.srt"),
            captions=example(FILE, f"{_EXAMPLES}/captions.vtt"),
        ),
        components={
            "WhisperChunk": {
                "title": "WhisperChunk",
                **record(
                    "timestamp",
                    "text",
                    timestamp=listing({"type": "number"}, least=2, most=2),
                    text=text(),
                    speaker={"type": "string", "nullable": True},
                ),
            }
        },
        unit="compute seconds",
        unit_price=Decimal("0.00058"),
    ),
    Card(
        endpoint="fal-ai/hunyuan3d/v2",
        title="Hunyuan3D",
        category="image-to-3d",
        input=record(
            "input_image_url",
            input_image_url=file_url("What the body looks like."),
            num_inference_steps=integer(1, 50, default=50),
            guidance_scale=number(0, 20, default=7.5),
            octree_resolution=integer(1, 1024, default=256),
            textured_mesh=flag(False),
            seed=integer(),
        ),
        output=record("model_mesh", "seed", model_mesh=example(FILE, f"{_EXAMPLES}/mesh.glb"), seed=integer()),
        unit="generations",
        unit_price=Decimal("0.16"),
    ),
    Card(
        endpoint="fal-ai/moondream2",
        title="Moondream2",
        category="vision",
        input=record("image_url", "prompt", image_url=file_url("The picture to look at."), prompt=prompt()),
        output=record("output", output=text()),
        unit="requests",
        unit_price=Decimal("0.0025"),
    ),
    Card(
        endpoint="fal-ai/wan-trainer",
        title="Wan LoRA Trainer",
        category="training",
        kind="training",
        minutes=20,
        input=record(
            "training_data_url",
            training_data_url=file_url("A zip archive of pictures or films."),
            number_of_steps=integer(100, 20_000, default=400),
            learning_rate=number(0.000001, 1, default=0.0002),
            trigger_phrase=text(default=""),
            auto_scale_input=flag(False),
        ),
        output=record(
            "lora_file",
            "config_file",
            lora_file=example(FILE, f"{_EXAMPLES}/lora.safetensors"),
            config_file=example(FILE, f"{_EXAMPLES}/config.json"),
            samples=example(FILE, f"{_EXAMPLES}/samples.zip"),
        ),
        unit="steps",
        unit_price=Decimal("0.005"),
    ),
)
