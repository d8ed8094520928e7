# SPDX-License-Identifier: BSD-3-Clause
"""The least and the most that docs/configuration.md names for a key work, or are refused for a reason that it tells."""

import re
import signal
import subprocess

import pytest
import yaml

from conftest import HTTP, RESP, ROOT

pytestmark = pytest.mark.busy

ROW = re.compile(r"\| `([a-z_.\[\]]+)` \| (?:size, |time, )?(\d+(?: \w+)?) to (\d+(?: \w+)?) \|")
BOUNDS = {key: (least, most) for key, least, most in ROW.findall((ROOT / "docs/configuration.md").read_text())}

# What depends on the machine, the device or another key; with a word of the refusal.
DEPENDS = {
    ("mbufs", 0): "too few", ("mbufs", 1): "MiB left",
    ("workers", 1): "workers",
    ("http[].request_line", 1): "header_bytes", ("http[].header_bytes", 0): "request_line",
    ("steer.syns", 1): "not shared with the kernel", ("steer.packets", 1): "not shared with the kernel",
    ("resp[].memory", 0): "5MiB", ("resp[].memory", 1): "65536MiB",
}


def configuration(key, value, root):
    """The least that makes a server, and the key."""
    def site():
        return {"constants": [{"path": "/", "body": "hello"}], "routes": [{"path": "/echo", "handler": "echo"}]}

    conf = {"device": "ring", "addresses": ["192.0.2.2/24"],
            "http": [{"port": HTTP, "root": str(root), **site(),
                      "hosts": [{"names": ["www.example.org"], **site()}]}],
            "resp": [{"port": RESP}], "echo": [{"port": 7}], "discard": [{"port": 9}]}
    if key.startswith("more_devices"):
        conf["more_devices"] = [{"device": f"memif:{root}/{value}.sock", "addresses": ["198.51.100.2/24"]}]
    at = conf
    *sections, name = key.split(".")
    for section in sections:
        at = at[section[:-2]][0] if section.endswith("[]") else at.setdefault(section, {})
    at[name] = value
    return yaml.safe_dump(conf)


def test_the_table_is_read():
    assert len(BOUNDS) > 35 and {key for key, _ in DEPENDS} < set(BOUNDS)


@pytest.mark.parametrize("key", BOUNDS)
def test_bounds(bench, files, binary, key):
    """Both at once: neither has a device."""
    ns = bench.namespace("x")

    def start(end, value):
        path = bench.tmp_path / f"conf-{end}.yaml"
        # "0 to 24 h": YAML takes a number for a number.
        value = value.replace(" B", "").replace(" ", "")
        path.write_text(configuration(key, int(value) if value.isdigit() else value, files))
        return ns.start([binary, "serve", "-c", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    for end, process in enumerate([start(end, value) for end, value in enumerate(BOUNDS[key])]):
        for line in process.stdout:
            if line.startswith("  nc "):  # what can be pasted is the end of the banner
                process.send_signal(signal.SIGTERM)
                break
        rest, errors = process.communicate(timeout=20)
        if (key, end) in DEPENDS:
            assert process.returncode == 2 and len(errors.splitlines()) == 1 and DEPENDS[key, end] in errors, errors
        else:
            assert process.returncode == 0 and "0 lost" in rest, errors
