# SPDX-License-Identifier: BSD-3-Clause
"""
Where nginx and Barewire answer the same request differently, and what the RFC says that gives us the right.

Cases go by the names of http_cases.py; they, and what both say, may have wildcards. A difference that is not there fails
the test as one does that is not listed. RFC 9110 is HTTP, RFC 9112 is HTTP/1.1.
"""

import dataclasses


@dataclasses.dataclass
class Difference:
    ours: str
    nginx: str
    rfc: str
    cases: list


DIFFERENCES = [
    # ---- the request line
    Difference("204, open", "40[05], *",
               "9110 9.3.7: 'The OPTIONS method requests information about the communication options available for "
               "the target resource'; 13.2.1 has conditions ignored where there is no representation.",
               ["method/OPTIONS", "asterisk/OPTIONS", "body/OPTIONS, *", "if/OPTIONS *"]),
    Difference("405, open", "40[05], close",
               "9112 9.3: 'HTTP implementations SHOULD support persistent connections': a method that is not allowed"
               " leaves the framing as it is. 9110 15.5.6 has 405 for TRACE and CONNECT too.",
               ["method/TRACE", "connect/h", "connect/h:80", "connect/[[]::1]:443", "connect//"]),
    Difference("400, close", "405, close",
               "9112 3.2.3: the authority-form of CONNECT is 'only the host and port'.",
               ["connect/http://h/"]),
    Difference("501, open", "40[05], *",
               "9110 15.6.2: 501 'is the appropriate response when the server does not recognize the request method "
               "and is not capable of supporting it for any resource'; 9.1: 'The method token is case-sensitive', "
               "and any token is one.",
               ["method/PROPFIND", "method/BREW", "method/get", "method/Get", "method/gEt", "method/GET1",
                "method/G-T", "method/G_T", "method/XXX*", "method/!*", "body/BREW, *"]),
    Difference("400, close", "200 *, open",
               "9112 3: 'Recipients of an invalid request-line SHOULD respond with either a 400 (Bad Request) "
               "error'; one SP each, and lenient parsing 'can result in request smuggling'.",
               ["line/two spaces", "line/two spaces later", "line/trailing space"]),
    Difference("400, close", "200 *, open",
               "9112 3.2, RFC 3986 2: the target is ASCII. A fragment is not part of it (9110 7.1: 'The target URI "
               "excludes the reference's fragment component').",
               ["line/high byte in target", "target/fragment", "target/empty fragment", "target/absolute fragment"]),
    Difference("400, close", "200 a.txt, open",
               '9110 7.4: \'a request for an "https" resource MUST be rejected unless it has been received over a '
               "connection that has been secured'. Other schemes are not ours to serve either.",
               ["target/absolute https", "target/absolute ftp"]),
    Difference("404, open", "*",
               "RFC 3986 2.2: 'URIs that differ in the replacement of a reserved character with its corresponding "
               "percent-encoded octet are not equivalent'. No file name has a slash.",
               ["target/encoded slash", "target/encoded slash upper", "target/above the root, slash encoded",
                "HEAD/encoded slash"]),
    Difference("400, close", "200 a.txt, open",
               '9112 2.3: HTTP-version = HTTP-name "/" DIGIT "." DIGIT, one digit each.',
               ["version/1.10", "version/1.01"]),
    Difference("505, close", "400, close",
               "9110 15.6.6: 505 for 'the major version of HTTP that was used in the request message'.",
               ["version/0.9", "protocol/HTTP 2 preface"]),
    Difference("400, close", "no HTTP, close",
               "9112 3: a request line has a version. HTTP/0.9 is not HTTP/1.1 (9112 appendix C.1).",
               ["protocol/none", "protocol/none and a space"]),
    # ---- connections and hosts
    Difference("200 a.txt, open", "200 a.txt, close",
               '9110 7.6.1: Connection = #connection-option, tokens in a list: only one that is "close" is.',
               ["connection/1.1/closed", "connection/1.1/xclose", "connection/1.1/close x",
                'connection/1.1/"close"']),
    Difference("200 a.txt, close", "200 a.txt, open",
               '9112 9.3: \'If the "close" connection option is present, the connection will not persist after the '
               "current response', before anything else is considered.",
               ["connection/1.?/both ways"]),
    Difference("200 a.txt, open", "[45]0[01], close",
               "9110 5.6.3: OWS = *( SP / HTAB ), 'has been excluded' from a field's value (5.5).",
               ["host/spaces", "body/length and spaces", "coding/'chunked \\t'"]),
    Difference("200 a.txt, open", "400, close",
               "9112 3.2: without an authority 'a client MUST send a Host header field with an empty field value'.",
               ["host/empty"]),
    # ---- ranges
    Difference("206 0-25/26, open", "416 bytes [*]/26, open",
               "9110 14.1.2: if last-pos 'is greater than or equal to the current length of the representation data,"
               " the byte range is interpreted as the remainder of the representation', and a suffix longer than it "
               "is all of it. Numbers have no largest digit count.",
               ["range/far beyond", "range/suffix huge"]),
    Difference("200 a.txt, open", "416 bytes [*]/26, open",
               "9110 14.2: 'A server that supports range requests MAY ignore or reject a Range header field that "
               "contains an invalid ranges-specifier'; 15.5.17: 416 is for ranges that are valid.",
               ["range/reversed", "range/dash", "range/two dashes", "range/no dash", "range/letters", "range/hex",
                "range/plus", "range/negative", "range/decimal", "range/tab", "range/only comma",
                "range/one good one bad", "range/two equals"]),
    Difference("200 a.txt, open", "206 2-5/26, open",
               "9110 14.1.2: no space in an int-range; 5.3: no two Range fields.",
               ["range/space within", "range/space within later", "range/twice"]),
    Difference("200 a.txt, open", "*, open",
               "9110 14.2: 'A server MAY ignore the Range header field'. Sets of more than one are.",
               ["range/two", "range/two and spaces", "range/two overlap", "range/two equal", "range/two touch",
                "range/two backwards", "range/three", "range/many", "range/one and suffix",
                "range/one good one after", "range/two after", "range/comma after", "range/comma before"]),
    Difference("200 of 26, open", "*, open",
               "9110 14.2: 'GET is the only method for which range handling is defined', and for another 'A server "
               "MUST ignore a Range header field'.",
               ["range/HEAD *"]),
    # ---- conditions
    Difference("412, open", "412, close",
               "9112 9.3: 'HTTP implementations SHOULD support persistent connections'; a condition that is false is"
               " no fault of the connection.",
               ["if/If-Match weak", "if/If-Match other", "if/If-Match not listed", "if/HEAD If-Match weak",
                "if/HEAD If-Match other", "if/HEAD If-Match not listed", "if/range If-Match weak",
                "if/range If-Match other", "if/range If-Match not listed", "if/If-Unmodified-Since earlier",
                "if/HEAD If-Unmodified-Since earlier", "if/range If-Unmodified-Since earlier",
                "if/If-None-Match *, If-Unmodified-Since earlier",
                "if/If-Modified-Since *, If-Unmodified-Since earlier", "if/If-Match other, *",
                "tag/If-Match no quotes", "tag/If-Match unclosed", "tag/If-Match empty tag", "tag/If-Match empty",
                "tag/If-Match star *", "tag/If-Match no *", "tag/If-Match lower w", "tag/If-Match commas only",
                "tag/If-Match weak listed", "date/If-Unmodified-Since before 1970"]),
    Difference("304, open", "20[06] *, open",
               "9110 13.1.3: 'If the selected representation's last modification date is earlier or equal to the "
               "date provided in the field value, the condition is false.'",
               ["if/If-Modified-Since later", "if/If-Modified-Since future", "if/HEAD If-Modified-Since later",
                "if/HEAD If-Modified-Since future", "if/range If-Modified-Since later",
                "if/range If-Modified-Since future", "if/If-Match same, If-Modified-Since later",
                "if/If-Modified-Since later, If-Unmodified-Since same",
                "if/If-Modified-Since later, If-Unmodified-Since later", "date/If-Modified-Since leap second"]),
    Difference("304, open", "200 a.txt, open",
               "9110 13.1.3: 'A recipient MUST ignore If-Modified-Since if the request contains an If-None-Match "
               "header field'.",
               ["if/If-None-Match same, If-Modified-Since earlier",
                "if/If-None-Match same, If-Modified-Since later"]),
    Difference("200 a.txt, open", "412, close",
               "9110 13.1.4: 'A recipient MUST ignore If-Unmodified-Since if the request contains an If-Match header"
               " field'.",
               ["if/If-Match same, If-Unmodified-Since earlier"]),
    Difference("200 a.txt, open", "412, close",
               "9110 13.1.4: 'A recipient MUST ignore the If-Unmodified-Since header field if the received field "
               "value is not a valid HTTP-date'; 5.6.7 says what is one. A leap second is, and is later.",
               ["date/If-Unmodified-Since epoch", "date/If-Unmodified-Since iso",
                "date/If-Unmodified-Since no day name", "date/If-Unmodified-Since one digit",
                "date/If-Unmodified-Since lower case", "date/If-Unmodified-Since 25 hours",
                "date/If-Unmodified-Since no such day", "date/If-Unmodified-Since leap second",
                "date/If-Unmodified-Since words", "date/If-Unmodified-Since empty"]),
    Difference("200 a.txt, open", "304, open",
               "9110 13.1.3: 'A recipient MUST ignore the If-Modified-Since header field if the received field value"
               " is not a valid HTTP-date, the field value has more than one member'.",
               ["date/If-Modified-Since no zone", "date/If-Modified-Since other zone",
                "date/If-Modified-Since offset", "date/If-Modified-Since length behind it",
                "date/If-Modified-Since two"]),
    Difference("* open", "400, close",
               "9110 5.3: 'A recipient MAY combine multiple field lines within a field section that have the same "
               "field name into one field line', where it is a list; others that we have no use for are not looked "
               "at.",
               ["tag/If-None-Match in two fields", "tag/If-Match in two fields", "expect/twice",
                "field/two authorizations"]),
    # ---- expectations and bodies
    Difference("200 a.txt, open", "100, 200 a.txt, open",
               "9110 10.1.1: 'A server MAY omit sending a 100 (Continue) response [...] if the framing indicates "
               "that there is no content.'",
               ["expect/100-continue, no body", "expect/100-continue, length 0", "expect/upper, no body",
                "expect/upper, length 0"]),
    Difference("405, close", "405, open",
               "9110 10.1.1: with a final status instead of a 100 the client need not send the content, so a server "
               "cannot tell what comes: one that does not read on 'SHOULD indicate whether it intends to close the "
               "connection'.",
               ["expect/100-continue, POST", "expect/upper, POST"]),
    Difference("417, close", "*, open",
               "9110 10.1.1: 'A server that receives an Expect field value containing a member other than "
               "100-continue MAY respond with a 417 (Expectation Failed) status code'.",
               ["expect/other, *", "expect/list, *", "expect/parameter, *", "expect/quoted, *"]),
    Difference("413, close", "413, waits",
               "9110 15.5.14: 'the server MAY close the connection'; nginx does it later.",
               ["expect/too large", "body/too large"]),
    Difference("413, close", "400, close",
               "9110 8.6: 'a recipient MUST anticipate potentially large decimal numerals': 2^63 is a length, and "
               "too large.",
               ["body/2^63"]),
    Difference("413, close", "200 a.txt, waits",
               "9110 15.5.14: content 'larger than the server is willing or able to process'. The chunk says that it"
               " is before it comes.",
               ["body/chunked, too large"]),
    # ---- header fields and limits
    Difference("400, close", "200 a.txt, open",
               '9112 5: field-line = field-name ":" OWS field-value OWS; 9110 5.1: a name is a token. 9110 5.5: '
               "'Field values containing other CTL characters are also invalid'.",
               ["bad field/no colon", "bad field/at in name", "bad field/bracket in name", "bad field/slash in name",
                "bad field/quote in name", "bad field/high byte in name", "bad field/control in value",
                "bad field/escape in value", "bad field/DEL in value", "bad field/vertical tab in value",
                "bad field/comma in name", "bad field/semicolon in name", "bad field/equals in name",
                "bad field/brace in name"]),
    Difference("200 a.txt, open", "400, close",
               "9110 5.4: 'HTTP does not place a predefined limit on the length of each field line'. We bound all of"
               " them together.",
               ["limit/field of 5000", "limit/field of 8000", "limit/name of 5000"]),
    Difference("431, close", "*",
               "RFC 6585 5: 431 where 'the server is unwilling to process the request because its header fields are "
               "too large', 'in total, or [...] a single header field'. The bounds are configured.",
               ["limit/field of 9000", "limit/field of 30000", "limit/9 fields of 1000", "limit/100 fields of 20",
                "limit/101 fields of 20", "limit/1000 fields of 10", "limit/20000 without a line end"]),
    Difference("414, close", "400, close",
               "9112 3: a request line longer than 'any URI it wishes to parse' is 414.",
               ["limit/20000 of a version"]),
    # ---- framing
    Difference("400, close", "200 a.txt, open",
               "9112 2.2: 'a recipient MAY recognize a single LF as a line terminator': it need not, and 'A "
               "recipient of such a bare CR MUST consider that element to be invalid'.",
               ["pipeline/bare LF first", "pipeline/CR CR LF first", "framing/coding hidden by bare LF",
                "framing/length hidden by bare LF", "framing/coding hidden by LF before",
                "framing/length hidden by LF before", "framing/bare LF *", "framing/CR CR LF",
                "framing/bare CR at a value's end", "framing/coding with CR", "framing/chunk size, bare LF",
                "framing/chunk data, bare LF", "framing/chunk last, bare LF", "framing/chunk last, bare LFs",
                "framing/chunk extension, bare LF*", "framing/chunk trailer, bare LF"]),
    Difference("400, close", "501, close",
               "9112 6.1: 'A server MAY reject a request that contains both Content-Length and Transfer-Encoding', "
               "and that is worse than a coding that is not known.",
               ["framing/both, identity", "framing/both, empty coding", "framing/both, gzip"]),
    Difference("400, close", "501, close",
               "9112 6.3: if 'the chunked transfer coding is not the final encoding, the message body length cannot "
               "be determined reliably; the server MUST respond with the 400 (Bad Request) status code and then "
               "close the connection'; 6.1: 'A sender MUST NOT apply the chunked transfer coding more than once'.",
               ["framing/coding=*"]),
    Difference("400, close", "200 a.txt, open",
               "9112 7.1: chunk-size = 1*HEXDIG, and 'recipients MUST anticipate potentially large hexadecimal "
               "numerals'; leading zeros without end are no use to anybody. White space is only before a semicolon "
               "(7.1.1).",
               ["framing/chunk size with 30 zeros", "framing/chunk size before space",
                "framing/chunk size before tab", "framing/chunk size twice",
                "framing/chunk extension, no semicolon"]),
    Difference("400, close", "200 a.txt, open",
               "9112 7.1: chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF.",
               ["framing/chunk data too short"]),
    Difference("400, close", "200 a.txt, open",
               '9112 7.1.1: chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] ), and \'A server'
               " ought to limit the total length of chunk extensions'.",
               ["framing/chunk extension, [!nbC]*", "framing/chunk extension, no [nv]*",
                "framing/chunk extension, behind*"]),
    Difference("400, close", "200 a.txt, open",
               "9112 7.1.2: trailer-section = *( field-line CRLF ), with 5.1 and 5.2 as for a header.",
               ["framing/chunk trailer, space before colon", "framing/chunk trailer, fold",
                "framing/chunk trailer, no *", "framing/chunk trailer, leading space", "framing/chunk trailer, NUL",
                "framing/chunk trailer, control", "framing/chunk trailer, bad name",
                "framing/chunk trailer, a request", "framing/chunk trailer, too long"]),
    Difference("400, close", "200 a.txt, open",
               "9112 3.2: 'A server MUST respond with a 400 (Bad Request) status code [...] to any request message "
               "that contains [...] a Host header field with an invalid field value'.",
               ["framing/host user", "framing/host bad port", "framing/host negative port", "framing/host two ports",
                "framing/host open bracket", "framing/host empty brackets", "framing/host behind brackets",
                "framing/host bad encoding", "framing/host high byte", "framing/host question", "framing/host hash",
                "framing/host backslash", "framing/host quote", "framing/host angle"]),
    Difference("400, close", "200 a.txt, *",
               "9112 3.2: 'a client MUST send a field value for Host that is identical to that authority component'."
               " 3.2.2 has the target win over a Host that disagrees: a deviation, since no client sends it.",
               ["framing/absolute, host another", "framing/absolute, host another port",
                "framing/absolute, host no port", "framing/absolute, host a dot more",
                "framing/absolute, host in 1.0"]),
]
