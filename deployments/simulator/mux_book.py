"""What Mux keeps, on disk: uploads, assets, and the films that are being prepared, so that a kill forgets none."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from .mux_assets import Asset, Film, Upload
from .private_files import replace_content


class MuxBook:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._file = folder / "book.json"
        self.uploads: dict[str, Upload] = {}
        self.assets: dict[str, Asset] = {}
        self._read()

    def save(self) -> None:
        """Have everything as it is now last."""
        # It is small and changes seldom, so the whole of it is written each time.
        known = {
            "uploads": [asdict(each) for each in self.uploads.values()],
            "assets": [_line(each) for each in self.assets.values()],
        }
        # Privately: the addresses are permissions.
        replace_content(self._file, json.dumps(known).encode())

    def keep_film(self, asset: Asset, content: bytes) -> None:
        """Keep the film until the asset is prepared."""
        self._film(asset).write_bytes(content)

    def drop_film(self, asset: Asset) -> None:
        self._film(asset).unlink(missing_ok=True)

    def film(self, asset: Asset) -> bytes:
        return self._film(asset).read_bytes()

    def unannounced(self) -> list[Asset]:
        """Return the assets of which a webhook is still due."""
        return [asset for asset in self.assets.values() if not (asset.upload_announced and asset.announced)]

    def _film(self, asset: Asset) -> Path:
        return self._folder / f"{asset.id}.film"

    def _read(self) -> None:
        if not self._file.exists():
            return
        known = json.loads(self._file.read_text())
        self.uploads = {line["id"]: Upload(**line) for line in known["uploads"]}
        for line in known["assets"]:
            upload = self.uploads[line.pop("upload_id")]
            film = line.pop("film")
            # A book of before it was kept has no word of it.
            line.setdefault("upload_announced", line["announced"])
            self.assets[line["id"]] = Asset(**line, upload=upload, film=film and Film(**film))


def _line(asset: Asset) -> dict[str, Any]:
    plain = {each.name: getattr(asset, each.name) for each in fields(asset) if each.name not in ("upload", "film")}
    return {**plain, "upload_id": asset.upload.id, "film": asset.film and asdict(asset.film)}
