# SPDX-License-Identifier: BSD-3-Clause
"""A browser loads a page with images from the document root, and has decoded every one of them."""

import random
import re
import struct
import zlib

import pytest

from conftest import FAMILIES, HTTP

SIZES = {"tiny": (1, 1), "icon": (32, 32), "photo": (640, 480), "poster": (1600, 1200)}


def png(width, height, seed):
    """Noise, so that it does not compress: the poster is 5.8 MB on the wire."""
    rng = random.Random(seed)
    rows = b"".join(b"\0" + rng.randbytes(3 * width) for _ in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))


@pytest.fixture
def gallery(tmp_path):
    root = tmp_path / "gallery"
    root.mkdir()
    for seed, (name, (width, height)) in enumerate(SIZES.items()):
        (root / f"{name}.png").write_bytes(png(width, height, seed))
    images = "".join(f'<img id="{name}" src="{name}.png?n={i}">\n' for i in range(3) for name in SIZES)
    (root / "style.css").write_text("img { margin: 4px }\n")
    (root / "index.html").write_text(f"""<!doctype html>
<meta charset="utf-8"><title>gallery</title><link rel="stylesheet" href="style.css">
{images}
<p id="verdict">not loaded</p>
<script>
window.onload = () => {{
	const seen = [...document.images].map((image) =>
		`${{image.id}}=${{image.complete ? image.naturalWidth + "x" + image.naturalHeight : "missing"}}`);
	const margin = getComputedStyle(document.images[0]).marginTop;
	document.getElementById("verdict").textContent = `seen ${{seen.join(" ")}} margin=${{margin}} end`;
}};
</script>
""")
    return root


@pytest.mark.parametrize("family", FAMILIES)
def test_chromium_loads_every_image(bench, gallery, tmp_path, family):
    bench.serve("tap", [f"--http {HTTP}={gallery}"])
    dom = bench.client.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
         f"--user-data-dir={tmp_path / 'profile'}", "--timeout=60000", "--dump-dom", bench.url(family, "")],
        timeout=90).stdout
    verdict = re.search(r'id="verdict">(seen [^<]* end)<', dom)
    assert verdict, "the page did not finish loading"
    want = [f"{name}={width}x{height}" for _ in range(3) for name, (width, height) in SIZES.items()]
    assert verdict[1].split()[1:-2] == want
    assert "margin=4px" in verdict[1]
