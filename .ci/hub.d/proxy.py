"""A proxy that is slow or breaks answers: proxy.py PORT UPSTREAM_PORT [--delay SECONDS] [--every N] [--limit N] [--log FILE].

Each request waits for the delay, then goes to 127.0.0.1:UPSTREAM_PORT. Every Nth answer of 200 or 206 to a request for a range is
broken in the next of the ways below, up to the limit. The log has a line for each: the way, and the request.
"""
import argparse
import asyncio
import re

WAYS = ["cut", "hang up", "500", "503", "429", "408", "403", "short", "shifted", "whole", "no range", "other total"]


async def read_head(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {}
    for line in lines[1:]:
        if ":" in line:
            name, value = line.split(":", 1)
            fields[name.strip().lower()] = value.strip()
    return lines[0], fields


class Proxy:
    def __init__(self, options):
        self.options, self.ranges, self.broken = options, 0, 0
        self.requests = {}
        self.log = open(options.log, "a", buffering=1) if options.log else None

    def next_way(self, fields):
        if not self.options.every or "range" not in fields or self.broken >= self.options.limit:
            return None
        self.ranges += 1
        if self.ranges % self.options.every:
            return None
        self.broken += 1
        return WAYS[self.broken % len(WAYS)]

    async def serve(self, reader, writer):
        upstream = None
        try:
            while True:
                line, fields = await read_head(reader)
                await asyncio.sleep(self.options.delay)
                if upstream is None:
                    upstream = await asyncio.open_connection("127.0.0.1", self.options.upstream)
                if not await self.answer(line, fields, upstream, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            if upstream:
                upstream[1].close()

    async def answer(self, line, fields, upstream, writer):
        target = line.split(" ")[1]
        request = [line] + [f"{name}: {value}" for name, value in fields.items()]
        upstream[1].write(("\r\n".join(request) + "\r\n\r\n").encode("latin-1"))
        status, head = await read_head(upstream[0])
        left = int(head.get("content-length", 0))
        code = int(status.split(" ")[1])
        way = self.next_way(fields) if code == 206 else None
        if self.log:
            self.log.write(f"{way or 'good'}\t{target}\t{fields.get('range', '')}\n")
        size = int(re.sub(r".*/", "", head.get("content-range", "/0")) or 0)
        closes = way in ("cut", "hang up")
        if way in ("500", "503", "429", "408", "403"):
            await upstream[0].readexactly(left)
            extra = "Retry-After: 0\r\n" if way == "429" else ""
            writer.write(f"HTTP/1.1 {way} No\r\n{extra}Content-Length: 2\r\n\r\nno".encode())
            await writer.drain()
            return True
        sent = left
        if way == "cut":
            sent = left // 2
        elif way == "hang up":
            sent = 0
        elif way == "short":
            sent = head["content-length"] = left - left // 3
        elif way == "shifted":
            first, last = map(int, re.match(r"bytes (\d+)-(\d+)", head["content-range"]).groups())
            head["content-range"] = f"bytes {first + 1}-{last + 1}/{size}"
        elif way == "whole":
            status = "HTTP/1.1 200 OK"
            head.pop("content-range")
        elif way == "no range":
            head.pop("content-range")
        elif way == "other total":
            head["content-range"] = head["content-range"].replace(f"/{size}", "/*")
        out = [status] + [f"{name}: {value}" for name, value in head.items()]
        writer.write(("\r\n".join(out) + "\r\n\r\n").encode("latin-1"))
        while left:
            piece = await upstream[0].read(min(left, 1 << 18))
            if not piece:
                return False
            left -= len(piece)
            if sent > 0:
                writer.write(piece[:sent])
                sent -= min(sent, len(piece))
                await writer.drain()
        return not closes


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("upstream", type=int)
    parser.add_argument("--delay", type=float, default=0)
    parser.add_argument("--every", type=int, default=0)
    parser.add_argument("--limit", type=int, default=1 << 30)
    parser.add_argument("--log")
    options = parser.parse_args()
    server = await asyncio.start_server(Proxy(options).serve, "127.0.0.1", options.port)
    async with server:
        await server.serve_forever()


asyncio.run(main())
