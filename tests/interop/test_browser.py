# SPDX-License-Identifier: BSD-3-Clause
"""A browser loads pages from the document root, and says itself that it has all that is on them."""

import pathlib
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


def dump(bench, tmp_path, url, *options):
    """The page as it stands when it has loaded."""
    return bench.client.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
         f"--user-data-dir={tmp_path / 'profile'}", "--timeout=60000", *options, "--dump-dom", url], timeout=90).stdout


@pytest.mark.parametrize("family", FAMILIES)
def test_chromium_loads_every_image(bench, gallery, tmp_path, family):
    bench.serve("tap", [f"--http {HTTP}={gallery}"])
    dom = dump(bench, tmp_path, bench.url(family, ""))
    verdict = re.search(r'id="verdict">(seen [^<]* end)<', dom)
    assert verdict, "the page did not finish loading"
    want = [f"{name}={width}x{height}" for _ in range(3) for name, (width, height) in SIZES.items()]
    assert verdict[1].split()[1:-2] == want
    assert "margin=4px" in verdict[1]


# ---- a hundred assets ----------------------------------------------------------------------------------------

ASSETS = {"css": 25, "js": 25, "svg": 20, "png": 25, "ttf": 5}


@pytest.fixture
def hundred(tmp_path):
    """A page of a hundred files, each of which leaves a trace of its own where it was loaded and understood."""
    assert sum(ASSETS.values()) == 100
    fonts = sorted(pathlib.Path("/usr/share/fonts").rglob("*.ttf"))
    assert fonts, "no font on this machine"
    root = tmp_path / "hundred"
    root.mkdir()
    for i in range(ASSETS["css"]):
        (root / f"{i}.css").write_text(f":root {{ --css{i}: {i + 1}; }}\n" + f"/* {'-' * 100 * i} */\n")
    for i in range(ASSETS["js"]):
        (root / f"{i}.js").write_text(f"window.ran = (window.ran || 0) + {1 << i};\n" + f"// {'-' * 200 * i}\n")
    for i in range(ASSETS["svg"]):
        (root / f"{i}.svg").write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="{i + 1}" height="7"/>')
    for i in range(ASSETS["png"]):
        (root / f"{i}.png").write_bytes(png(10 * i + 1, 9, i))
    for i in range(ASSETS["ttf"]):
        (root / f"{i}.ttf").write_bytes(fonts[i % len(fonts)].read_bytes())
    styles = "".join(f'<link rel="stylesheet" href="{i}.css">\n' for i in range(ASSETS["css"]))
    scripts = "".join(f'<script src="{i}.js"></script>\n' for i in range(ASSETS["js"]))
    images = "".join(f'<img src="{i}.{kind}">\n' for kind in ("svg", "png") for i in range(ASSETS[kind]))
    faces = "".join(f"@font-face {{ font-family: f{i}; src: url({i}.ttf); }}\n" for i in range(ASSETS["ttf"]))
    words = "".join(f'<p style="font-family: f{i}">word</p>\n' for i in range(ASSETS["ttf"]))
    (root / "index.html").write_text(f"""<!doctype html>
<meta charset="utf-8"><title>a hundred</title><link rel="icon" href="data:,">
<script>window.errors = 0; window.addEventListener("error", () => {{ window.errors++; }}, true);</script>
{styles}<style>{faces}</style>
{scripts}{images}{words}
<p id="verdict">not loaded</p>
<script>
window.onload = async () => {{
	await document.fonts.ready;
	const style = getComputedStyle(document.documentElement);
	let css = 0;
	for (let i = 0; i < {ASSETS["css"]}; i++)
		css += Number(style.getPropertyValue(`--css${{i}}`)) == i + 1;
	const fonts = [...document.fonts].filter((font) => font.status == "loaded").length;
	const widths = [...document.images].map((image) => image.complete ? image.naturalWidth : 0).join();
	const fetched = performance.getEntriesByType("resource").filter((entry) => entry.responseStatus == 200).length;
	document.getElementById("verdict").textContent =
		`seen css=${{css}} js=${{window.ran}} fonts=${{fonts}} widths=${{widths}} fetched=${{fetched}} ` +
		`errors=${{window.errors}} end`;
}};
</script>
""")
    return root


@pytest.mark.parametrize("device", ["tap", "packet"])
def test_chromium_renders_a_page_of_a_hundred_assets(bench, hundred, tmp_path, device):
    bench.serve(device, [f"--http {HTTP}={hundred}"])
    # Fonts may come after all else that a page waits for: this goes on, in a time that stands still for the network.
    dom = dump(bench, tmp_path, bench.url("v4", ""), "--virtual-time-budget=20000")
    verdict = re.search(r'id="verdict">seen ([^<]*) end<', dom)
    assert verdict, "the page did not finish loading"
    seen = dict(word.split("=") for word in verdict[1].split())
    widths = [*(i + 1 for i in range(ASSETS["svg"])), *(10 * i + 1 for i in range(ASSETS["png"]))]
    assert seen == {"css": str(ASSETS["css"]), "js": str((1 << ASSETS["js"]) - 1), "fonts": str(ASSETS["ttf"]),
                    "widths": ",".join(map(str, widths)), "fetched": "100", "errors": "0"}
    counters = bench.server.stop()
    # Browsers have at most six connections to a host, and may open one more than they use.
    assert counters["tcp.accepted"] <= 8, "connections were not kept"
