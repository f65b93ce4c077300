"""Values that somebody should have thought of, for every header that is looked at."""

from __future__ import annotations

from collections.abc import Mapping

from bench.fuzz.http_calls import SECRET
from bench.fuzz.requests import BROKEN

NASTY_HEADERS: Mapping[str, tuple[str, ...]] = {
    "Authorization": ("", "Bearer", "Bearer ", f"Bearer {SECRET}", f"bearer  {SECRET} x", "Basic eDp5", BROKEN),
    "Cookie": ("careca-session=", 'careca-session="', "careca-session=gAAAAA==", "; ; =", f"careca-session={BROKEN}"),
    "Range": ("bytes=0-0", "bytes=-1", "bytes=5-1", "bytes=0-,1-2", f"bytes={'9' * 30}-", "bytes=a-b", "x=1-2"),
    "If-Match": ('"0"', '"1"', "*", '"-1"', f'"{"9" * 30}"', 'W/"0"', "0", '""', '"a", "b"'),
    "If-None-Match": ('"0"', "*", "x"),
    "If-Range": ('"0"', "Thu, 01 Jan 1970 00:00:00 GMT", "x"),
    "Last-Event-ID": ("0", "-1", "9" * 30, "1-1", "x", "\u2028", BROKEN),
    "Upload-Length": ("0", "-1", "1", "9" * 30, "1.5", "0x10", "\u0661", ""),
    "Upload-Offset": ("0", "-1", "1", "9" * 30, "1.5", ""),
    "Upload-Metadata": ("filename", "filename !!", "filename ////", ",", "filename Li4vLi4vZXRj,filename eA=="),
    "Tus-Resumable": ("", "0.2.0", "1.0.0, 1.0.0"),
    "Content-Type": (
        *("", "application/json", "text/plain", "application/json; charset=utf-16", "application/offset+octet-stream"),
        *("multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary="', "/", BROKEN),
        *(f"multipart/form-data; boundary={'a' * 3_000}", "application/x-www-form-urlencoded", "multipart/mixed"),
    ),
    "Content-Length": ("0", "1", "-1", "9" * 12, "9" * 30, "1e3", "5, 6", "+5", " 7"),
    "Transfer-Encoding": ("chunked", "gzip, chunked", "identity", "chunked, chunked"),
    "Content-Encoding": ("gzip", "x"),
    "Host": ("", "localhost:", "evil.example", "127.0.0.1:1@x", "[::1", "a" * 3_000, BROKEN),
    "Origin": ("null", "http://127.0.0.1", "https://evil.example", "http://[", "://", "", BROKEN),
    "Sec-Fetch-Site": ("cross-site", "same-site", "none", "x"),
    "X-Request-Id": ("", " ", "a b", "../../x", "%00", "a" * 200, '"', "-" * 65, BROKEN),
    "X-Careca-Submitter": ("", "a", "x", "a b", "/", "a" * 200, "\u00e9", "\0", BROKEN),
    "Accept": ("", "*/*;q=x", "text/event-stream", BROKEN),
    "Accept-Encoding": ("gzip", "gzip;q=x", "*", "br"),
    "Expect": ("100-continue", "x"),
    "Connection": ("", "keep-alive", "upgrade", "close, x"),
    "Upgrade": ("websocket", "h2c", "x"),
    "traceparent": ("", "00-0-0-0", f"00-{'f' * 32}-{'f' * 16}-01", f"00-{'0' * 32}-{'0' * 16}-00", BROKEN),
    "X-HTTP-Method-Override": ("DELETE",),
    "X-Forwarded-For": ("1.2.3.4, ::1", BROKEN),
    "X-Forwarded-Proto": ("https", "x"),
    "Access-Control-Request-Method": ("PUT", "x"),
}
