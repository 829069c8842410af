"""Render the pictures of the emoji world: `python benchmarks/builtin_models/emoji_pictures.py`.

The pictograms come from five packages of the npm registry, fetched by `npm pack` and checked against the digests below.
Needs `npm` and `pip install resvg-py==0.5.0`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from drift_pl.builtin.emoji.pictures import RESOLUTION, SHEET
from drift_pl.builtin.emoji.things import STYLES, THINGS

PACKAGES = {
    "noto": ("1.2.9", "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw=="),
    "noto-v1": ("1.2.5", "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA=="),
    "fluent-emoji-flat": (
        "1.2.6",
        "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
    ),
    "fluent-emoji-high-contrast": (
        "1.2.6",
        "esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w==",
    ),
    "fxemoji": ("1.2.2", "UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ=="),
}
"""Set -> version and SHA-512 of the package `@iconify-json/SET`, as the registry states it."""

OVERSAMPLING = 4
"""Pictures are rendered at this many times their size, then reduced."""


def fetch(name: str, folder: Path) -> dict[str, Any]:
    """A package's `icons.json`.

    Raises:
        SystemExit: the package is not the one that is pinned.
    """
    version, digest = PACKAGES[name]
    command = ["npm", "pack", "--silent", f"@iconify-json/{name}@{version}"]
    archive = folder / subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != digest:
        raise SystemExit(f"@iconify-json/{name}@{version} has the digest {found}, not {digest}")
    with tarfile.open(archive) as package:
        member = package.extractfile("package/icons.json")
        assert member is not None
        return json.load(member)


def find(icons: dict[str, Any], name: str) -> dict[str, Any]:
    """A pictogram by its name or by an alias; one set writes names without hyphens.

    Raises:
        KeyError: the set has no such pictogram.
    """
    for spelling in (name, name.replace("-", "")):
        if spelling in icons["icons"]:
            return icons["icons"][spelling]
        if spelling in icons.get("aliases", {}):
            return icons["icons"][icons["aliases"][spelling]["parent"]]
    raise KeyError(name)


def render(icons: dict[str, Any], name: str) -> Image.Image:
    """A pictogram on white, as large as it fits into a square."""
    import resvg_py  # of this command alone

    icon = find(icons, name)
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    size = max(width, height)
    body = icon["body"].replace("currentColor", "black")
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{(width - size) / 2} {(height - size) / 2} {size} {size}">{body}</svg>'
    )
    pixels = RESOLUTION * OVERSAMPLING
    drawn = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=pixels, height=pixels))))
    page = Image.new("RGBA", drawn.size, "white")
    page.alpha_composite(drawn.convert("RGBA"))
    return page.convert("RGB").resize((RESOLUTION, RESOLUTION), Image.Resampling.LANCZOS)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        sets = [fetch(name, Path(folder)) for name in STYLES.values()]
    sheet = Image.new("RGB", (RESOLUTION * len(STYLES), RESOLUTION * len(THINGS)))
    for row, name in enumerate(THINGS.values()):
        for column, icons in enumerate(sets):
            sheet.paste(render(icons, name), (RESOLUTION * column, RESOLUTION * row))
    SHEET.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(SHEET, optimize=True)
    print(f"{len(THINGS)} things in {len(STYLES)} styles: {SHEET}, {SHEET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
