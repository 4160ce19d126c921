"""Reading single samples out of a tar by their byte spans."""

import io
import json
import tarfile
from dataclasses import dataclass
from typing import IO

from m4.errors import UnusableSample
from pipelines import storage
from pipelines.groups import IMAGE_EXTENSIONS, split_member
from pipelines.shards import SampleSpan, ShardRef, unreadable_reason

STREAMS_KEPT = 8


@dataclass(frozen=True)
class ImageText:
    """The encoded image and the caption of one sample."""

    image: bytes
    caption: str


class SpanReader:
    """Reads byte spans of shards, and keeps the shards read last open."""

    def __init__(self) -> None:
        self._streams: dict[str, IO[bytes]] = {}

    def read(self, shard: ShardRef, span: SampleSpan) -> bytes:
        """The bytes of a span.

        Raises `UnusableSample` where the shard cannot be read, or has not the size that it had
        when the span was noted.
        """
        try:
            stream = self._stream(shard)
            stream.seek(span.offset)
            content = stream.read(span.length)
        except OSError as error:
            raise UnusableSample(unreadable_reason(error)) from None
        if len(content) < span.length:
            raise UnusableSample("the span ends outside the shard")
        return content

    def _stream(self, shard: ShardRef) -> IO[bytes]:
        if shard.path not in self._streams:
            stream = storage.open_input(shard.path)
            if stream.seek(0, io.SEEK_END) != shard.size:
                stream.close()
                raise UnusableSample("the shard has changed since its table was made")
            while len(self._streams) >= STREAMS_KEPT:
                self._streams.pop(next(iter(self._streams))).close()
            self._streams[shard.path] = stream
        return self._streams[shard.path]

    def close(self) -> None:
        while self._streams:
            self._streams.popitem()[1].close()


def parse_span(content: bytes, key: str) -> ImageText:
    """Take a sample out of the bytes of its tar members.

    Raises `UnusableSample` where a member carries another key, or the image or caption is missing.
    """
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                found, extension = split_member(member.name)
                if found != key:
                    raise UnusableSample("the span holds another sample")
                stream = tar.extractfile(member)
                assert stream is not None  # a regular file
                members[extension] = stream.read()
    except tarfile.TarError:
        raise UnusableSample("the span does not begin with a tar member") from None
    images = [members[extension] for extension in IMAGE_EXTENSIONS if extension in members]
    if not images:
        raise UnusableSample("no image")
    return ImageText(images[0], _caption(members))


def _caption(members: dict[str, bytes]) -> str:
    if "txt" in members:
        try:
            return members["txt"].decode().strip()
        except UnicodeDecodeError:
            raise UnusableSample("caption is not UTF-8") from None
    try:
        metadata = json.loads(members.get("json", b"null"))
    except ValueError:  # also UnicodeDecodeError
        raise UnusableSample("json cannot be parsed") from None
    if not isinstance(metadata, dict) or not isinstance(metadata.get("caption"), str):
        raise UnusableSample("no caption")
    return metadata["caption"].strip()
