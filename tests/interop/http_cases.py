# SPDX-License-Identifier: BSD-3-Clause
"""
Requests, as bytes, for test_http_nginx.py: systematically what varies, and by hand what is known to be read in
two ways.

A name is unique and begins with its group. "{etag}" and "{modified}" stand for what the server that is asked gave out
for /a.txt. FRAMING are those whose end, or whose host, two servers could see differently: Barewire refuses every one.
"""

import dataclasses
import itertools

HOST = "Host: h\r\n"
PROBE = b"GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n"
LETTERS = b"abcdefghijklmnopqrstuvwxyz"
MODIFIED = 784111777  # RFC 9110's own: Sun, 06 Nov 1994 08:49:37 GMT

# The document root: path to content.
FILES = {
    "a.txt": LETTERS,
    "probe": b"the probe\n",
    "empty": b"",
    "big": bytes(range(256)) * 1024,
    "dir/index.html": b"<title>dir</title>",
    "dir/b.txt": b"b\n",
    "bare/c.txt": b"c\n",
    "sp ace.txt": b"space\n",
    "per%cent": b"percent\n",
    "caf\u00e9": b"coffee\n",
    "q?x": b"question\n",
    "~tilde": b"tilde\n",
    "...": b"dots\n",
    ".hidden": b"hidden\n",
    "semi;colon": b"semicolon\n",
    "plus+": b"plus\n",
    "back\\slash": b"backslash\n",
    "UPPER": b"upper\n",
}


@dataclasses.dataclass
class Case:
    name: str
    raw: bytes
    answers: int = 1  # final ones, if all goes well: more are read, fewer are waited for in vain
    heads: tuple = ()  # which of them are to HEAD
    is_framing: bool = False


def everything():
    groups = (lines, targets, versions, connections, hosts, ranges, conditions, expectations, bodies, fields, limits,
              pipelines, framing)
    made = [case for group in groups for case in group()]
    names = [case.name for case in made]
    assert len(set(names)) == len(names), sorted(name for name in set(names) if names.count(name) > 1)
    return made


def get(name, fields="", target="/a.txt", method="GET", version="1.1", host=HOST, body="", **more):
    raw = f"{method} {target} HTTP/{version}\r\n{host}{fields}\r\n{body}".encode("latin-1")
    return Case(name, raw, heads=(0,) if method == "HEAD" else (), **more)


# ---- the request line ----------------------------------------------------------------------------------------


def lines():
    for method in (
        "GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "BREW", "get", "Get",
        "gEt", "GET1", "G-T", "G_T", "X" * 40, "!#$%&'*+-.^_`|~",
    ):
        yield get(f"method/{method}", method=method)
    for method in ("OPTIONS", "GET", "HEAD", "POST", "BREW"):
        yield get(f"asterisk/{method}", method=method, target="*")
    for target in ("h:80", "h", "[::1]:443", "h:x", "/", "http://h/"):
        yield get(f"connect/{target}", method="CONNECT", target=target)
    for name, line in {
        "two spaces": "GET  /a.txt HTTP/1.1",
        "two spaces later": "GET /a.txt  HTTP/1.1",
        "tab": "GET\t/a.txt HTTP/1.1",
        "tab later": "GET /a.txt\tHTTP/1.1",
        "leading space": " GET /a.txt HTTP/1.1",
        "trailing space": "GET /a.txt HTTP/1.1 ",
        "trailing word": "GET /a.txt HTTP/1.1 x",
        "space in target": "GET /sp ace.txt HTTP/1.1",
        "no target": "GET HTTP/1.1",
        "no method": "/a.txt HTTP/1.1",
        "empty method": " /a.txt HTTP/1.1",
        "method only": "GET",
        "garbage": "\x16\x03\x01\x02",
        "bracket in method": "G(T /a.txt HTTP/1.1",
        "colon in method": "GE:T /a.txt HTTP/1.1",
        "vertical tab": "GET\x0b/a.txt HTTP/1.1",
        "form feed": "GET /a.txt\x0cHTTP/1.1",
        "NUL in target": "GET /a\0.txt HTTP/1.1",
        "NUL in method": "GE\0T /a.txt HTTP/1.1",
        "control in target": "GET /a\x01.txt HTTP/1.1",
        "DEL in target": "GET /a\x7f.txt HTTP/1.1",
        "high byte in target": "GET /caf\xc3\xa9 HTTP/1.1",
        "bare CR in target": "GET /a\r.txt HTTP/1.1",
        "bare CR before CR LF": "GET /a.txt HTTP/1.1\r",
    }.items():
        yield Case(f"line/{name}", f"{line}\r\n{HOST}\r\n".encode("latin-1"))


def versions():
    for version in (
        "1.0", "1.1", "1.2", "1.9", "1.10", "1.01", "01.1", "1.", "1", ".1", "0.9", "2.0", "3.0", "9.9", "1.1.1",
        "1,1", "1.x", "+1.1", "-1.1", "1.1a", " 1.1", "",
    ):
        yield get(f"version/{version}", version=version)
    for protocol in ("http/1.1", "Http/1.1", "HTTPS/1.1", "HTP/1.1", "HTTP 1.1", "HTTP", "ICY/1.1", "RTSP/1.0", "HTTP//1.1"):
        yield Case(f"protocol/{protocol}", f"GET /a.txt {protocol}\r\n{HOST}\r\n".encode())
    yield Case("protocol/none", b"GET /a.txt\r\n")
    yield Case("protocol/none and a space", b"GET /a.txt \r\n")
    yield Case("protocol/HTTP 2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


def targets():
    paths = {
        "plain": "/a.txt", "root": "/", "missing": "/missing", "directory": "/dir/", "directory, no slash": "/dir",
        "directory without index": "/bare/", "file with slash": "/a.txt/", "below a file": "/a.txt/x",
        "query": "/a.txt?x=y&z", "empty query": "/a.txt?", "two question marks": "/a.txt?a?b",
        "query with dots": "/a.txt?/../..", "query with %00": "/a.txt?%00", "query with bad %": "/a.txt?%zz",
        "query of a directory": "/dir?x=1", "fragment": "/a.txt#f", "empty fragment": "/a.txt#",
        "two slashes": "//a.txt", "slashes within": "/dir//b.txt", "many slashes": "/" * 50 + "a.txt",
        "dot": "/./a.txt", "dots": "/dir/../a.txt", "dots at the end": "/dir/..", "dot at the end": "/dir/.",
        "dots and slash": "/dir/../", "many dots": "/dir/./.././dir/../a.txt", "above the root": "/../a.txt",
        "above the root later": "/dir/../../a.txt", "only dots": "/..", "three dots": "/...", "hidden": "/.hidden",
        "dots in a name": "/a..txt", "dots encoded": "/dir/%2e%2e/a.txt", "dots encoded upper": "/dir/%2E%2E/a.txt",
        "dots half encoded": "/dir/.%2e/a.txt", "above the root encoded": "/%2e%2e/a.txt",
        "above the root, slash encoded": "/..%2fa.txt", "dots twice encoded": "/dir/%252e%252e/a.txt",
        "encoded letter": "/%61.txt", "encoded whole": "/%61%2e%74%78%74", "encoded slash": "/dir%2fb.txt",
        "encoded slash upper": "/dir%2Fb.txt", "encoded space": "/sp%20ace.txt", "plus is no space": "/sp+ace.txt",
        "plus": "/plus+", "plus encoded": "/plus%2b", "encoded percent": "/per%25cent",
        "encoded question": "/q%3fx", "encoded hash": "/a%23", "encoded NUL": "/a.txt%00",
        "encoded NUL within": "/a%00.txt", "encoded LF": "/a%0a", "encoded CR LF": "/a%0d%0aX:y", "bad %": "/%",
        "bad %4": "/%4", "bad %4g": "/%4g", "bad %g4": "/%g4", "bad %%": "/%%", "bad %u": "/%u0061.txt",
        "utf-8": "/caf%c3%a9", "utf-8 upper": "/caf%C3%A9", "latin-1": "/caf%e9",
        "overlong slash": "/..%c0%af..%c0%afa.txt", "overlong dot": "/%c0%ae%c0%ae/a.txt", "tilde": "/~tilde",
        "tilde encoded": "/%7etilde", "semicolon": "/semi;colon", "parameter": "/a.txt;x=1",
        "backslash": "/back\\slash", "backslash dots": "/dir\\..\\a.txt", "backslash encoded": "/back%5cslash",
        "case": "/A.TXT", "upper": "/UPPER", "colon": "/a:b", "quote": "/a\"b", "angles": "/<a>", "braces": "/{a}",
        "bar": "/a|b", "caret": "/a^b", "backtick": "/a`b", "brackets": "/[a]", "star": "/*", "at": "/@",
        "equals": "/a=b", "comma": "/a,b", "apostrophe": "/a'b", "dollar": "/$a", "drive": "/c:/a.txt",
        "proc": "/proc/self/environ", "passwd": "/../../../../etc/passwd", "empty": "/empty", "big": "/big",
        "asterisk below": "/*/a.txt", "long name": "/" + "n" * 255, "too long a name": "/" + "n" * 256,
        "no slash": "a.txt", "scheme only": "http:", "no authority": "http://", "empty authority": "http:///a.txt",
        "absolute": "http://h/a.txt", "absolute upper": "HTTP://H/a.txt", "absolute no path": "http://h",
        "absolute query only": "http://h?x", "absolute https": "https://h/a.txt", "absolute ftp": "ftp://h/a.txt",
        "absolute fragment": "http://h/a.txt#f", "absolute dots": "http://h/dir/../a.txt",
        "absolute encoded": "http://h/%61.txt", "absolute one slash": "http:/h/a.txt",
        "absolute backslash": "http:\\\\h/a.txt",
    }
    for name, path in paths.items():
        yield get(f"target/{name}", target=path)
    for name in (
        "plain", "root", "missing", "directory", "directory, no slash", "empty", "big", "encoded NUL",
        "above the root", "bad %", "dots", "encoded slash", "absolute", "query",
    ):
        yield get(f"HEAD/{name}", target=paths[name], method="HEAD")


# ---- header fields -------------------------------------------------------------------------------------------


def connections():
    tokens = [
        "", "close", "Close", "CLOSE", "keep-alive", "Keep-Alive", "keep-alive, close", "close, keep-alive",
        "x, close ,y", " close", "close,", ",close", ",,,close", "closed", "xclose", "close x", "\"close\"",
        "upgrade", "Upgrade, HTTP2-Settings", "TE, close", "te", "host", "\tclose\t",
    ]
    for version, token in itertools.product(("1.0", "1.1"), tokens):
        yield get(f"connection/{version}/{token}", f"Connection: {token}\r\n", version=version)
    for version in ("1.0", "1.1"):
        yield get(f"connection/{version}/two fields", "Connection: x\r\nConnection: close\r\n", version=version)
        yield get(f"connection/{version}/both ways", "Connection: close\r\nConnection: keep-alive\r\n", version=version)
        yield get(f"connection/{version}/both ways round", "Connection: keep-alive\r\nConnection: close\r\n",
                  version=version)
        yield get(f"connection/{version}/none, HEAD", method="HEAD", version=version)
        yield get(f"connection/{version}/close, HEAD", "Connection: close\r\n", method="HEAD", version=version)
        yield get(f"connection/{version}/proxy-connection", "Proxy-Connection: keep-alive\r\n", version=version)
        yield get(f"connection/{version}/keep-alive field", "Keep-Alive: timeout=5\r\n", version=version)
        yield get(f"connection/{version}/404", "Connection: keep-alive\r\n", target="/missing", version=version)
        yield get(f"connection/{version}/304", "Connection: keep-alive\r\nIf-None-Match: {etag}\r\n", version=version)
    yield get("connection/1.1/h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
              "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n")
    yield get("connection/1.1/websocket", "Connection: Upgrade\r\nUpgrade: websocket\r\n"
              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n")


def hosts():
    for name, host in {
        "none, 1.0": "", "name": "Host: example.org\r\n", "port": "Host: h:8080\r\n", "upper": "HOST: H\r\n",
        "lower": "host: h\r\n", "no space": "Host:h\r\n", "spaces": "Host:  \t h \t \r\n", "empty": "Host:\r\n",
        "IPv4": "Host: 192.0.2.1:80\r\n", "IPv6": "Host: [2001:db8::1]\r\n",
        "IPv6 and port": "Host: [::1]:8080\r\n", "dot": "Host: h.\r\n", "underscore": "Host: a_b\r\n",
        "encoded": "Host: %68\r\n", "empty port": "Host: h:\r\n", "hyphens": "Host: -a-\r\n",
        "digits": "Host: 12345\r\n", "sub-delims": "Host: a!$&'()*+,;=b\r\n",
    }.items():
        yield get(f"host/{name}", host=host, version="1.0" if "1.0" in name else "1.1")


def ranges():
    sets = {
        "first": "0-0", "some": "2-5", "all": "0-25", "to the end": "0-", "from": "20-", "last byte": "25-25", "beyond": "20-100",
        "far beyond": "0-99999999999999999999", "suffix": "-5", "suffix 1": "-1", "suffix all": "-26", "suffix more": "-100",
        "suffix huge": "-99999999999999999999", "suffix 0": "-0", "at the end": "26-", "at the end to": "26-30", "after": "100-200",
        "first huge": "99999999999999999999-", "reversed": "5-2", "empty": "", "dash": "-", "two dashes": "--1", "no dash": "5",
        "letters": "a-b", "hex": "0x1-0x5", "plus": "+1-5", "negative": "-1-5", "decimal": "1.0-5", "space before": " 2-5",
        "space after": "2-5 ", "space within": "2 -5", "space within later": "2- 5", "tab": "2-\t5", "leading zeros": "0002-0005",
        "comma after": "2-5,", "comma before": ",2-5", "only comma": ",", "two": "0-1,4-5", "two and spaces": "0-1, 4-5",
        "two overlap": "0-5,3-8", "two equal": "0-5,0-5", "two touch": "0-1,2-3", "two backwards": "10-12,0-2", "three": "0-0,2-2,4-4",
        "one and suffix": "0-1,-2", "one good one after": "0-1,100-200", "one good one bad": "0-1,x", "two after": "100-,200-",
        "many": ",".join(f"{i}-{i}" for i in range(0, 26, 2)), "many all": ",".join(["0-"] * 20),
    }
    for name, text in sets.items():
        yield get(f"range/{name}", f"Range: bytes={text}\r\n")
    for name, field in {
        "unit upper": "Bytes=2-5", "unit unknown": "lines=2-5", "no unit": "2-5",
        "space before equals": "bytes =2-5", "colon": "bytes:2-5", "unit only": "bytes", "two equals": "bytes==2-5",
        "none": "none", "empty field": "",
    }.items():
        yield get(f"range/{name}", f"Range: {field}\r\n")
    yield get("range/twice", "Range: bytes=2-5\r\nRange: bytes=7-8\r\n")
    for name, text in {"some": "2-5", "after": "100-", "suffix": "-5"}.items():
        yield get(f"range/HEAD {name}", f"Range: bytes={text}\r\n", method="HEAD")
        yield get(f"range/1.0 {name}", f"Range: bytes={text}\r\n", version="1.0")
        yield get(f"range/empty file {name}", f"Range: bytes={text}\r\n", target="/empty")
        yield get(f"range/missing file {name}", f"Range: bytes={text}\r\n", target="/missing")
        yield get(f"range/directory {name}", f"Range: bytes={text}\r\n", target="/dir/")
        yield get(f"range/big {name}", f"Range: bytes={text}\r\n", target="/big")
    for first, last in ((0, 1), (1023, 1024), (65535, 65536), (65536, 131071), (1, 262142), (262143, 262143), (262143, ""), (262144, "")):
        yield get(f"range/big {first}-{last}", f"Range: bytes={first}-{last}\r\n", target="/big")


DATES = {
    "same": "{modified}", "earlier": "Sun, 06 Nov 1994 08:49:36 GMT", "later": "Sun, 06 Nov 1994 08:49:38 GMT",
    "future": "Fri, 31 Dec 2100 23:59:59 GMT",
}
TAGS = {
    "same": "{etag}", "weak": "W/{etag}", "other": '"other"', "any": "*", "listed": '"x", {etag}, "y"',
    "not listed": '"x", "y"',
}


def conditions():
    fields = {"If-Match": TAGS, "If-None-Match": TAGS, "If-Modified-Since": DATES, "If-Unmodified-Since": DATES}
    # One field, every pair of them, and the range's condition.
    for field, values in fields.items():
        for name, value in values.items():
            yield get(f"if/{field} {name}", f"{field}: {value}\r\n")
            yield get(f"if/HEAD {field} {name}", f"{field}: {value}\r\n", method="HEAD")
            yield get(f"if/404 {field} {name}", f"{field}: {value}\r\n", target="/missing")
            yield get(f"if/range {field} {name}", f"{field}: {value}\r\nRange: bytes=2-5\r\n")
    for (field, values), (other, other_values) in itertools.combinations(fields.items(), 2):
        telling = ("same", "other", "earlier", "later")
        for one, two in itertools.product([n for n in values if n in telling], [n for n in other_values if n in telling]):
            yield get(f"if/{field} {one}, {other} {two}", f"{field}: {values[one]}\r\n{other}: {other_values[two]}\r\n")
    for name, value in {**TAGS, **DATES}.items():
        where = "date " if value in DATES.values() else ""
        yield get(f"if/If-Range {where}{name}", f"If-Range: {value}\r\nRange: bytes=2-5\r\n")
        yield get(f"if/If-Range {where}{name}, no range", f"If-Range: {value}\r\n")
        yield get(f"if/If-Range {where}{name}, unsatisfiable", f"If-Range: {value}\r\nRange: bytes=100-\r\n")
    dates = {
        "rfc850": "Sunday, 06-Nov-94 08:49:37 GMT", "asctime": "Sun Nov  6 08:49:37 1994",
        "asctime, zero": "Sun Nov 06 08:49:37 1994", "epoch": "784111777", "iso": "1994-11-06T08:49:37Z",
        "no zone": "Sun, 06 Nov 1994 08:49:37", "other zone": "Sun, 06 Nov 1994 08:49:37 CET",
        "offset": "Sun, 06 Nov 1994 08:49:37 +0000", "wrong day name": "Mon, 06 Nov 1994 08:49:37 GMT",
        "no day name": "06 Nov 1994 08:49:37 GMT", "one digit": "Sun, 6 Nov 1994 08:49:37 GMT",
        "lower case": "sun, 06 nov 1994 08:49:37 gmt", "25 hours": "Sun, 06 Nov 1994 25:49:37 GMT",
        "no such day": "Wed, 30 Feb 1994 08:49:37 GMT", "leap second": "Sat, 31 Dec 2016 23:59:60 GMT",
        "words": "yesterday", "empty": "", "length behind it": "Sun, 06 Nov 1994 08:49:37 GMT; length=26",
        "before 1970": "Sun, 06 Nov 1960 08:49:37 GMT",
        "two": "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    }
    for name, value in dates.items():
        yield get(f"date/If-Modified-Since {name}", f"If-Modified-Since: {value}\r\n")
        yield get(f"date/If-Unmodified-Since {name}", f"If-Unmodified-Since: {value}\r\n")
    tags = {
        "no quotes": "abc", "unclosed": '"abc', "empty tag": '""', "empty": "", "star in quotes": '"*"', "star listed": '*, "x"',
        "star after": '"x", *', "no comma": '"x" {etag}', "lower w": "w/{etag}", "no commas nor spaces": '"x"{etag}', "commas only": ",,,",
        "empty members": ', ,{etag}, ,', "spaces": '  {etag}  ', "comma in a tag": '"a,b", {etag}', "weak listed": '"x", W/{etag}',
        "same, then bad": '{etag}, bad', "many": ", ".join(f'"{i:016x}"' for i in range(6)) + ", {etag}",
    }
    for name, value in tags.items():
        yield get(f"tag/If-None-Match {name}", f"If-None-Match: {value}\r\n")
        yield get(f"tag/If-Match {name}", f"If-Match: {value}\r\n")
    yield get("tag/If-None-Match in two fields", 'If-None-Match: "x"\r\nIf-None-Match: {etag}\r\n')
    yield get("tag/If-Match in two fields", 'If-Match: "x"\r\nIf-Match: {etag}\r\n')
    for method in ("OPTIONS", "POST", "PUT", "DELETE"):
        yield get(f"if/{method} If-Match other", 'If-Match: "other"\r\n', method=method)
        yield get(f"if/{method} If-None-Match any", "If-None-Match: *\r\n", method=method)


def expectations():
    for name, value in {
        "100-continue": "100-continue", "upper": "100-Continue", "other": "200-maybe", "empty": "",
        "list": "100-continue, x", "parameter": "100-continue;x=y", "quoted": "\"100-continue\"",
    }.items():
        yield get(f"expect/{name}, no body", f"Expect: {value}\r\n")
        yield get(f"expect/{name}, length 0", f"Expect: {value}\r\nContent-Length: 0\r\n")
        yield get(f"expect/{name}, body", f"Expect: {value}\r\nContent-Length: 5\r\n", body="12345")
        yield get(f"expect/{name}, POST", f"Expect: {value}\r\nContent-Length: 5\r\n", body="12345", method="POST")
    yield get("expect/1.0", "Expect: 100-continue\r\nContent-Length: 5\r\n", body="12345", version="1.0")
    yield get("expect/chunked", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", body="5\r\n12345\r\n0\r\n\r\n")
    yield get("expect/twice", "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n", body="12345")
    yield get("expect/too large", "Expect: 100-continue\r\nContent-Length: 2000000\r\n")


def fields():
    for name, text in {
        "empty value": "X:", "spaces": "X:  \t y \t ", "high bytes": "X: \x80\xff", "quotes": 'X: "',
        "colon": "X: a:b", "digits": "0: x", "token": "!#$%&'*+-.^_`|~: x", "underscore": "X_Y: x", "dot": "X.Y: x",
        "long name": "X" * 200 + ": x", "long value": "X: " + "y" * 1000, "tab within": "X: a\tb",
        "unknown": "Foo: bar", "same twice": "X: 1\r\nX: 2", "cookie": "Cookie: a=b; c=d",
        "two cookies": "Cookie: a=b\r\nCookie: c=d", "authorization": "Authorization: Basic eDp5",
        "two authorizations": "Authorization: Basic eDp5\r\nAuthorization: Basic eDp6",
        "referer twice": "Referer: a\r\nReferer: b", "accept": "Accept: */*;q=0",
        "accept nothing": "Accept: image/png", "accept-encoding": "Accept-Encoding: gzip, br",
        "identity refused": "Accept-Encoding: identity;q=0", "te": "TE: trailers, gzip", "trailer": "Trailer: X",
        "max-forwards": "Max-Forwards: 0", "via": "Via: 1.1 x", "x-forwarded-host": "X-Forwarded-Host: evil",
        "forwarded": "Forwarded: for=1;host=evil", "override": "X-HTTP-Method-Override: DELETE",
        "original": "X-Original-URL: /missing", "content-type": "Content-Type: text/plain",
        "cache-control": "Cache-Control: no-cache", "only-if-cached": "Cache-Control: only-if-cached",
        "user-agent": "User-Agent: curl/8", "origin": "Origin: null",
    }.items():
        yield get(f"field/{name}", text + "\r\n")
    for name, text in {
        "no colon": "X", "empty name": ": x", "space in name": "X Y: x", "at in name": "X@Y: x",
        "bracket in name": "X[: x", "slash in name": "X/Y: x", "quote in name": '"X": x',
        "control in name": "X\x01: x", "high byte in name": "X\xff: x", "control in value": "X: \x01",
        "escape in value": "X: \x1b[2J", "DEL in value": "X: \x7f", "vertical tab in value": "X: a\x0bb",
        "comma in name": "X,Y: x", "semicolon in name": "X;Y: x", "equals in name": "X=Y",
        "brace in name": "X{Y: x",
    }.items():
        yield get(f"bad field/{name}", text + "\r\n")


# ---- bodies, limits, pipelines -------------------------------------------------------------------------------


def chunked(name, body, method="GET", **more):
    return get(name, "Transfer-Encoding: chunked\r\n", body=body, method=method, **more)


def bodies():
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"):
        yield get(f"body/{method}, length", "Content-Length: 5\r\n", body="12345", method=method)
        yield get(f"body/{method}, length 0", "Content-Length: 0\r\n", method=method)
        yield chunked(f"body/{method}, chunked", "5\r\n12345\r\n0\r\n\r\n", method)
    yield get("body/missing file, length", "Content-Length: 5\r\n", body="12345", target="/missing")
    yield get("body/length with zeros", "Content-Length: 0005\r\n", body="12345")
    yield get("body/length and spaces", "Content-Length:  \t5 \t\r\n", body="12345")
    yield get("body/1.0, length", "Content-Length: 5\r\n", body="12345", version="1.0")
    yield get("body/1.0, length, kept", "Content-Length: 5\r\nConnection: keep-alive\r\n", body="12345", version="1.0")
    yield get("body/a request within", f"Content-Length: {len(PROBE)}\r\n", body=PROBE.decode())
    yield get("body/64 KiB", "Content-Length: 65536\r\n", body="x" * 65536)
    yield get("body/too large", "Content-Length: 2000000\r\n")
    yield get("body/2^63", f"Content-Length: {1 << 63}\r\n")
    yield chunked("body/chunked, 64 KiB", "10000\r\n" + "x" * 65536 + "\r\n0\r\n\r\n")
    yield chunked("body/chunked, 500 chunks", "1\r\nx\r\n" * 500 + "0\r\n\r\n")
    yield chunked("body/chunked, too large", "FFFFFF\r\n")
    yield chunked("body/chunked, a request within", f"{len(PROBE):x}\r\n{PROBE.decode()}\r\n0\r\n\r\n")
    for name, text in {
        "empty": "0\r\n\r\n", "upper hex": "A\r\n0123456789\r\n0\r\n\r\n",
        "lower hex": "a\r\n0123456789\r\n0\r\n\r\n", "zeros": "005\r\n12345\r\n000\r\n\r\n",
        "extension": "5;x\r\n12345\r\n0\r\n\r\n", "extension with value": "5;x=y\r\n12345\r\n0;z=0\r\n\r\n",
        "extension quoted": "5;x=\"y;\\\"z\"\r\n12345\r\n0\r\n\r\n",
        "two extensions": "5;x;y=z\r\n12345\r\n0\r\n\r\n", "space before extension": "5 ;x\r\n12345\r\n0\r\n\r\n",
        "spaces in extension": "5 ; x = y\r\n12345\r\n0\r\n\r\n", "trailer": "5\r\n12345\r\n0\r\nX: y\r\n\r\n",
        "two trailers": "0\r\nX: y\r\nZ:\r\n\r\n", "trailer of length": "0\r\nContent-Length: 50\r\n\r\n",
        "trailer of coding": "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "trailer of connection": "0\r\nConnection: close\r\n\r\n", "trailer of host": "0\r\nHost: evil\r\n\r\n",
        "trailer with high bytes": "0\r\nX: \xff\r\n\r\n",
    }.items():
        yield chunked(f"chunked/{name}", text)
    for value in ("chunked", "Chunked", "CHUNKED", " chunked", "chunked \t"):
        yield get(f"coding/{value!r}", f"Transfer-Encoding:{value}\r\n", body="0\r\n\r\n")


def limits():
    for size in (1000, 4000, 4095, 4096, 4097, 5000, 20000):
        target = "/a.txt?".ljust(size - len("GET  HTTP/1.1\r\n"), "x")
        yield get(f"limit/request line of {size}", target=target)
    for size in (1000, 3000, 5000, 8000, 9000, 30000):
        yield get(f"limit/field of {size}", "X: ".ljust(size - 2, "y") + "\r\n")
    for count, size in ((7, 1000), (9, 1000), (50, 100), (99, 20), (100, 20), (101, 20), (1000, 10), (5, 2)):
        fields_of = (f"X{i}:".ljust(size - 2, "y") + "\r\n" for i in range(count))
        yield get(f"limit/{count} fields of {size}", "".join(fields_of))
    yield get("limit/name of 5000", "X" * 5000 + ": y\r\n")
    yield Case("limit/20000 of a method", b"G" * 20000)
    yield Case("limit/20000 of a version", b"GET / HTTP/1." + b"1" * 20000)
    yield Case("limit/20000 without a line end", b"GET /a.txt HTTP/1.1\r\nX: " + b"y" * 20000)


def pipelines():
    one = b"GET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n"
    missing = b"GET /missing HTTP/1.1\r\nHost: h\r\n\r\n"
    head = b"HEAD /a.txt HTTP/1.1\r\nHost: h\r\n\r\n"
    big = b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n"
    post = b"POST /a.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12345"
    chunks = b"GET /a.txt HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\n12345\r\n0\r\nX: y\r\n\r\n"
    close = b"GET /a.txt HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    kept = b"GET /a.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    for name, parts, heads in (
            ("two", [one, one], ()), ("ten", [one] * 10, ()), ("sixty", [one] * 60, ()), ("two hundred", [one] * 200, ()),
            ("mixed", [one, missing, head, big, one], (2,)), ("heads", [head] * 5, range(5)), ("big ones", [big] * 5, ()),
            ("bodies", [post, one, post, one], ()), ("chunked", [chunks, one, chunks, one], ()), ("kept 1.0", [kept, kept, one], ()),
            ("1.0 in the middle", [one, b"GET /a.txt HTTP/1.0\r\n\r\n", one], ()), ("close in the middle", [one, close, one], ()),
            ("close first", [close, one], ()), ("bad in the middle", [one, b"BAD\r\n\r\n", one], ()),
            ("bad at the end", [one, one, b"GET / HTTP/9.9\r\n\r\n"], ()), ("not found ten times", [missing] * 10, ()),
            ("ranges", [b"GET /a.txt HTTP/1.1\r\nHost: h\r\nRange: bytes=%d-%d\r\n\r\n" % (i, i + 3) for i in range(10)], ())):
        yield Case(f"pipeline/{name}", b"".join(parts), answers=len(parts), heads=tuple(heads))
    yield Case("pipeline/empty line first", b"\r\n" + one)
    yield Case("pipeline/three empty lines first", b"\r\n\r\n\r\n" + one)
    yield Case("pipeline/empty line between", one + b"\r\n" + one, answers=2)
    yield Case("pipeline/empty line after a body", post + b"\r\n" + one, answers=2)
    yield Case("pipeline/space line first", b" \r\n" + one)
    yield Case("pipeline/bare LF first", b"\n" + one)
    yield Case("pipeline/CR CR LF first", b"\r\r\n" + one)


# ---- what could be read in two ways --------------------------------------------------------------------------


def framing():
    def bad(name, fields, body="", **more):
        return get(f"framing/{name}", fields, body=body, is_framing=True, **more)

    chunks = "0\r\n\r\n"
    coding = "Transfer-Encoding: chunked\r\n"
    # Content-Length (RFC 9110 8.6, RFC 9112 6.2, 6.3)
    for value in (
        "+5", "-5", "0x5", "5_0", "5 0", "5,5", "5, 5", "5,6", "5;", "5.0", "5e0", "five", "", "\"5\"", "5\x0b",
        "\x0b5", "0b101", "1,", ",1", "\xb2", "5\xa0", "--5", "++5", "5-", "0,0", "0, 5", "[5]", "NaN", "5\x00",
        "5 chunked",
    ):
        yield bad(f"length {value!r}", f"Content-Length: {value}\r\n", "12345")
    for first, second in ((5, 5), (5, 6), (0, 5), (5, 0), (5, ""), ("", 5), (5, "+5"), (0, 0)):
        yield bad(f"lengths {first} and {second}", f"Content-Length: {first}\r\nContent-Length: {second}\r\n", "12345")
    yield bad("lengths, not next to each other", "Content-Length: 5\r\nX: y\r\ncontent-length: 5\r\n", "12345")
    # Both (6.1, 6.3), and codings (6.1, 7)
    for name, fields in {
        "length first": "Content-Length: 5\r\n" + coding, "coding first": coding + "Content-Length: 5\r\n",
        "length 0": "Content-Length: 0\r\n" + coding, "bad length": coding + "Content-Length: x\r\n",
        "upper case": "CONTENT-LENGTH: 5\r\nTRANSFER-ENCODING: CHUNKED\r\n",
        "identity": "Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
        "empty coding": "Content-Length: 5\r\nTransfer-Encoding:\r\n",
        "gzip": "Content-Length: 5\r\nTransfer-Encoding: gzip\r\n",
    }.items():
        yield bad(f"both, {name}", fields, chunks)
    for value in (
        "identity", "gzip", "x", "chunked, chunked", "chunked, gzip", "chunked, identity", "chunked;q=1",
        "chunked;", ";chunked", "\"chunked\"", "'chunked'", "xchunked", "chunkedx", "chunk", "x chunked",
        "chunked x", ", chunked", "chunked,", ",chunked,", ",", "", "\x0bchunked", "chunked\x0b", "chunked\x0c",
        "chunked\xa0", "\xa0chunked", "chunked\x1f", "chunked\xdf", "trailers", "chunked, x", "compress",
        "chunked\tx", "[chunked]", "(chunked)", "chunked()",
    ):
        yield bad(f"coding={value!r}", f"Transfer-Encoding: {value}\r\n", chunks)
    for value in ("gzip, chunked", "identity, chunked", "cow, chunked", "deflate, chunked"):
        yield bad(f"unknown coding={value}", f"Transfer-Encoding: {value}\r\n", chunks)
    for name, value in {"NUL after": "chunked\0", "NUL before": "\0chunked", "NUL within": "chun\0ked", "CR": "chunked\r"}.items():
        yield bad(f"coding with {name}", f"Transfer-Encoding: {value}\r\n", chunks)
    for first, second in itertools.product(("chunked", "identity", "gzip", "x", ""), repeat=2):
        if first == "chunked" or second == "chunked":
            yield bad(f"codings {first!r} and {second!r}",
                      f"Transfer-Encoding: {first}\r\nTransfer-Encoding: {second}\r\n", chunks)
    for name, text in {
        "space before colon": "Transfer-Encoding : chunked\r\n",
        "tab before colon": "Transfer-Encoding\t: chunked\r\n", "leading space": " Transfer-Encoding: chunked\r\n",
        "folded": "Transfer-Encoding:\r\n chunked\r\n", "folded, tab": "Transfer-Encoding:\r\n\tchunked\r\n",
        "folded list": "Transfer-Encoding: gzip,\r\n chunked\r\n", "bare LF": "Transfer-Encoding: chunked\n",
        "bare CR": "Transfer-Encoding: chunked\rX: y\r\n", "LF before": "X: y\nTransfer-Encoding: chunked\r\n",
        "CR before": "X: y\rTransfer-Encoding: chunked\r\n", "NUL before": "X: y\0Transfer-Encoding: chunked\r\n",
        "NUL in name": "Transfer-\0Encoding: chunked\r\n",
        "vertical tab before colon": "Transfer-Encoding\x0b: chunked\r\n",
    }.items():
        yield bad(f"coding hidden by {name}", text, chunks)
        text = text.replace("Transfer-", "Content-").replace("Encoding", "Length").replace("chunked", "5")
        yield bad(f"length hidden by {name}", text, "12345")
    for name, fields in {
        "chunked": coding, "chunked, kept": coding + "Connection: keep-alive\r\n",
        "both": coding + "Content-Length: 5\r\n", "identity": "Transfer-Encoding: identity\r\n",
        "gzip": "Transfer-Encoding: gzip\r\n",
    }.items():
        yield bad(f"1.0, {name}", fields, chunks, version="1.0")
    # Line ends, folding, NUL (2.2, 5.1, 5.2, RFC 9110 5.5)
    for name, raw in {
        "bare LF after the line": "GET /a.txt HTTP/1.1\nHost: h\r\n\r\n",
        "bare LF after a field": "GET /a.txt HTTP/1.1\r\nHost: h\n\r\n",
        "bare LF at the end": "GET /a.txt HTTP/1.1\r\nHost: h\r\n\n",
        "bare LF throughout": "GET /a.txt HTTP/1.1\nHost: h\n\n", "LF CR": "GET /a.txt HTTP/1.1\n\rHost: h\n\r\n\r",
        "bare CR after the line": "GET /a.txt HTTP/1.1\rHost: h\r\n\r\n",
        "bare CR after a field": "GET /a.txt HTTP/1.1\r\nHost: h\rX: y\r\n\r\n",
        "bare CR throughout, LF": "GET /a.txt HTTP/1.1\rHost: h\r\r\n\r\n",
        "CR CR LF": "GET /a.txt HTTP/1.1\r\nHost: h\r\r\n\r\n",
        "bare CR in a value": "GET /a.txt HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
        "bare CR at a value's end": "GET /a.txt HTTP/1.1\r\nHost: h\r\nX: a\r\r\n\r\n",
        "bare CR before a name": "GET /a.txt HTTP/1.1\r\nHost: h\r\n\rX: a\r\n\r\n",
        "NUL in a value": "GET /a.txt HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
        "NUL in a name": "GET /a.txt HTTP/1.1\r\nHost: h\r\nX\0: a\r\n\r\n",
        "NUL after the line": "GET /a.txt HTTP/1.1\0\r\nHost: h\r\n\r\n",
        "NUL in the empty line": "GET /a.txt HTTP/1.1\r\nHost: h\r\n\0\r\n\r\n",
        "fold": "GET /a.txt HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
        "fold with tab": "GET /a.txt HTTP/1.1\r\nHost: h\r\nX: a\r\n\tb\r\n\r\n",
        "fold of nothing": "GET /a.txt HTTP/1.1\r\nHost: h\r\nX: a\r\n \r\n\r\n",
        "fold of the host": "GET /a.txt HTTP/1.1\r\nHost:\r\n h\r\n\r\n",
        "fold first": "GET /a.txt HTTP/1.1\r\n X: a\r\nHost: h\r\n\r\n",
        "fold with colon": "GET /a.txt HTTP/1.1\r\nHost: h\r\nX: a\r\n Content-Length: 5\r\n\r\n",
        "space before colon": "GET /a.txt HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n",
        "tab before colon": "GET /a.txt HTTP/1.1\r\nHost: h\r\nX\t: y\r\n\r\n",
        "space before the host's colon": "GET /a.txt HTTP/1.1\r\nHost : h\r\n\r\n",
    }.items():
        yield Case(f"framing/{name}", raw.encode("latin-1"), is_framing=True)
    # Chunks (7.1)
    for name, text in {
        "size of 16 digits": "1000000000000000\r\n", "size of 17 digits": "10000000000000005\r\n12345\r\n0\r\n\r\n",
        "size of 2^64 - 1": "FFFFFFFFFFFFFFFF\r\n", "size with 30 zeros": "0" * 30 + "5\r\n12345\r\n0\r\n\r\n",
        "size 0x5": "0x5\r\n12345\r\n0\r\n\r\n", "size +5": "+5\r\n12345\r\n0\r\n\r\n",
        "size -5": "-5\r\n12345\r\n0\r\n\r\n", "size 5_0": "5_0\r\n12345\r\n0\r\n\r\n",
        "size with h": "5h\r\n12345\r\n0\r\n\r\n", "size empty": "\r\n12345\r\n0\r\n\r\n",
        "size g": "g\r\n12345\r\n0\r\n\r\n", "size after space": " 5\r\n12345\r\n0\r\n\r\n",
        "size before space": "5 \r\n12345\r\n0\r\n\r\n", "size before tab": "5\t\r\n12345\r\n0\r\n\r\n",
        "size, NUL": "5\0\r\n12345\r\n0\r\n\r\n", "size, comma": "5,\r\n12345\r\n0\r\n\r\n",
        "size, dot": "5.0\r\n12345\r\n0\r\n\r\n", "size twice": "5 5\r\n12345\r\n0\r\n\r\n",
        "size, bare LF": "5\n12345\r\n0\r\n\r\n", "size, bare CR": "5\r12345\r\n0\r\n\r\n",
        "size, CR CR LF": "5\r\r\n12345\r\n0\r\n\r\n", "data too long": "5\r\n123456\r\n0\r\n\r\n",
        "data too short": "5\r\n1234\r\n0\r\n\r\n", "data, bare LF": "5\r\n12345\n0\r\n\r\n",
        "data, bare CR": "5\r\n12345\r0\r\n\r\n", "data, no line end": "5\r\n123450\r\n\r\n",
        "last, bare LF": "0\r\n\n", "last, bare LFs": "0\n\n", "last, bare CR": "0\r\n\rX",
        "extension, control": "5;\x01\r\n12345\r\n0\r\n\r\n", "extension, NUL": "5;x=\0\r\n12345\r\n0\r\n\r\n",
        "extension, bare LF": "5;x\n12345\r\n0\r\n\r\n",
        "extension, bare LF, then a size": "5;\n12345\r\n0\r\n\r\n",
        "extension, bare CR": "5;x\rx\r\n12345\r\n0\r\n\r\n", "extension, no name": "5;\r\n12345\r\n0\r\n\r\n",
        "extension, no name but a value": "5;=y\r\n12345\r\n0\r\n\r\n",
        "extension, no value": "5;x=\r\n12345\r\n0\r\n\r\n",
        "extension, two semicolons": "5;;x\r\n12345\r\n0\r\n\r\n",
        "extension, last semicolon": "5;x;\r\n12345\r\n0\r\n\r\n",
        "extension, two equals": "5;x==y\r\n12345\r\n0\r\n\r\n",
        "extension, no semicolon": "5 x=y\r\n12345\r\n0\r\n\r\n",
        "extension, two words": "5;x y\r\n12345\r\n0\r\n\r\n",
        "extension, quote open": "5;x=\"y\r\n12345\r\n0\r\n\r\n",
        "extension, CR LF in quotes": "5;x=\"\r\n\"\r\n12345\r\n0\r\n\r\n",
        "extension, behind quotes": "5;x=\"y\"z\r\n12345\r\n0\r\n\r\n",
        "extension, quoted name": "5;\"x\"\r\n12345\r\n0\r\n\r\n",
        "extension, high byte": "5;\xff\r\n12345\r\n0\r\n\r\n",
        "extension, last space": "5;x \r\n12345\r\n0\r\n\r\n",
        "extension, too long": "5;" + "x" * 5000 + "\r\n12345\r\n0\r\n\r\n",
        "trailer, space before colon": "0\r\nX : y\r\n\r\n", "trailer, fold": "0\r\nX: y\r\n z\r\n\r\n",
        "trailer, no colon": "0\r\nX\r\n\r\n", "trailer, no name": "0\r\n: y\r\n\r\n",
        "trailer, leading space": "0\r\n X: y\r\n\r\n", "trailer, bare LF": "0\r\nX: y\n\r\n",
        "trailer, bare CR": "0\r\nX: y\rZ: z\r\n\r\n", "trailer, NUL": "0\r\nX: \0\r\n\r\n",
        "trailer, control": "0\r\nX: \x01\r\n\r\n", "trailer, bad name": "0\r\nX Y: z\r\n\r\n",
        "trailer, a request": "0\r\nGET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n",
        "trailer, too long": "0\r\nX: " + "y" * 20000 +         "\r\n\r\n",
    }.items():
        yield get(f"framing/chunk {name}", coding, body=text, is_framing=True)
    # Host (3.2, 3.2.2, RFC 9110 7.2)
    for name, host in {
        "none": "", "twice": "Host: h\r\nHost: h\r\n", "twice and different": "Host: h\r\nHost: i\r\n",
        "twice, not next to each other": "Host: h\r\nX: y\r\nhost: h\r\n", "two in one": "Host: h, i\r\n",
        "space within": "Host: a b\r\n", "slash": "Host: h/\r\n", "path": "Host: h/path\r\n",
        "user": "Host: u@h\r\n", "scheme": "Host: http://h\r\n", "bad port": "Host: h:8x\r\n",
        "negative port": "Host: h:-1\r\n", "two ports": "Host: h:1:2\r\n", "IPv6 without brackets": "Host: ::1\r\n",
        "open bracket": "Host: [::1\r\n", "empty brackets": "Host: []\r\n", "behind brackets": "Host: [::1]x\r\n",
        "bad encoding": "Host: %4\r\n", "control": "Host: h\x01\r\n", "NUL": "Host: h\0\r\n",
        "high byte": "Host: h\xff\r\n", "question": "Host: h?x\r\n", "hash": "Host: h#x\r\n",
        "backslash": "Host: h\\x\r\n", "quote": 'Host: "h"\r\n', "angle": "Host: <h>\r\n",
        "tab within": "Host: a\tb\r\n",
    }.items():
        yield get(f"framing/host {name}", host=host, is_framing=True)
    yield get("framing/host twice, 1.0", host="Host: h\r\nHost: i\r\n", version="1.0", is_framing=True)
    for name, target, host in (
        ("another", "http://i/a.txt", HOST), ("another port", "http://h:81/a.txt", HOST),
        ("no port", "http://h/a.txt", "Host: h:81\r\n"), ("none", "http://h/a.txt", ""),
        ("empty", "http://h/a.txt", "Host:\r\n"), ("user", "http://u@h/a.txt", HOST),
        ("bad authority", "http://h:x/a.txt", HOST), ("bad authority, NUL", "http://h%00/a.txt", HOST),
        ("a dot more", "http://h./a.txt", HOST), ("in 1.0", "http://i/a.txt", HOST),
    ):
        version = "1.0" if "1.0" in name else "1.1"
        yield get(f"framing/absolute, host {name}", target=target, host=host, version=version, is_framing=True)
