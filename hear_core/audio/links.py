"""Streams inside audio files: what really is in a file, whatever its header promises.

libsndfile believes headers: it reads one stream of a file, and of that as many samples as the
header promises or an estimate suggests. The functions here look at the frames or pages of the
formats where this loses audio, and divide a file into *links*: parts that libsndfile reads to
their true end, if need be with a header that is made or mended in memory.

- MPEG audio (MP3): every frame is counted. A file of several streams, each with a Xing header, is
  divided there; without a Xing header, or with one that promises too little, a link gets one with
  the number of frames that were counted.
- Ogg (Vorbis, Opus, FLAC): chained streams (RFC 3533) are divided at the first page of each.
- FLAC: appended streams are divided; a number of samples that is lower than that of the last frame
  is replaced.
- WAV: appended files are divided; missing data is reported.
- AIFF, AU, CAF, IFF, MAT, NIST, RF64, VOC, W64: missing data is reported.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, Literal, NamedTuple, Protocol, TypeAlias

_CHUNK = 1 << 20  # bytes read at a time

Piece: TypeAlias = bytes | tuple[int, int]
"""Bytes, or the first byte of a part of a file and one past the last."""


class Link(NamedTuple):
    """A stream in a file.

    Attributes:
        pieces: Parts of the file that the stream consists of; None if it is the whole file.
        problem: Problem of the stream, as the end of a sentence that begins with its name.
        skip: Number of samples at its start that are not part of it.
    """

    pieces: tuple[Piece, ...] | None = None
    problem: str | None = None
    skip: int = 0


class Openable(Protocol):
    """A file, or something that opens like one."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO: ...


def find_links(path: Openable) -> list[Link]:
    """Return the streams of a file in order; one that is the whole file if nothing is special.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        start = _skip_id3(file, 0)
        file.seek(start)
        head = file.read(12)
        for is_format, links in _FORMATS:
            if is_format(head):
                return links(file, start) or [Link()]
    return [Link()]


class Pieces(io.RawIOBase):
    """A file that consists of bytes and parts of another file.

    Args:
        file: The other file; it is not closed with this one.
        pieces: Parts of the file that it consists of.
    """

    def __init__(self, file: BinaryIO, pieces: tuple[Piece, ...]) -> None:
        self._file, self._pieces, self._position = file, pieces, 0
        sizes = [len(p) if isinstance(p, bytes) else p[1] - p[0] for p in pieces]
        self._starts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any buffer
        view, done = memoryview(buffer).cast("B"), 0
        for piece, start, stop in zip(self._pieces, self._starts, self._starts[1:], strict=False):
            if not start <= self._position < stop:
                continue
            size = min(stop - self._position, len(view) - done)
            first = self._position - start
            if isinstance(piece, bytes):
                content = piece[first : first + size]
            else:
                self._file.seek(piece[0] + first)
                content = self._file.read(size)
            view[done : done + len(content)] = content
            done += len(content)
            self._position += len(content)
            if len(content) < size or done == len(view):
                break
        return done


# --- MPEG audio -----------------------------------------------------------------------------------

# Bit rates in kbit/s by version (1 or not) and layer; index 0 is free format, 15 is invalid.
_BIT_RATES = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_SIZE_BITS = 0xFFFEFE00  # of a header: sync, version, layer, bit rate, sample rate, padding
_STREAM_BITS = 0xFFFE0C00  # sync, version, layer, sample rate: the same in all frames of a stream
_NO_CRC, _MONO = 0x00010000, 0x000000C0
_XING, _XING_FRAMES, _XING_BYTES = (b"Xing", b"Info"), 1, 2
_VBRI_PLACE = 4 + 32
_SILENT = 8  # frames
_DECODER_DELAY = 529  # samples, of layer III
_LONGEST_FRAME = 8192  # bytes, and more
_FEW = 1  # frames by which encoders differ in what they count


def _is_mpeg(head: bytes) -> bool:
    return len(head) >= 4 and _frame_size(struct.unpack_from(">I", head)[0]) > 0


def _frame_size(header: int) -> int:
    """Return the size of an MPEG frame in bytes; 0 of what is not its header, or free format."""
    version, layer = header >> 19 & 3, _layer(header)
    bit_rate, sample_rate = header >> 12 & 15, header >> 10 & 3
    if header >> 21 != 0x7FF or version == 1 or layer == 4 or bit_rate == 15 or sample_rate == 3:
        return 0
    bits = _BIT_RATES[version == 3, layer][bit_rate] * 1000
    hertz, padding = _SAMPLE_RATES[version][sample_rate], header >> 9 & 1
    if layer == 1:
        return (12 * bits // hertz + padding) * 4 if bits else 0
    half = layer == 3 and version != 3
    return (72 if half else 144) * bits // hertz + padding if bits else 0


def _layer(header: int) -> int:
    return 4 - (header >> 17 & 3)


def _xing_place(header: int) -> int:
    """Return where in a frame of layer III the Xing header is."""
    mono = header & _MONO == _MONO
    return 4 + ((17 if mono else 32) if header >> 19 & 3 == 3 else (9 if mono else 17))


class _Stream:
    """MPEG frames that belong together, and how many of them their header promises.

    Args:
        start: First byte in the file.
        header: Header of the first frame.
        lead: First frame, if it holds a Xing or VBRI header instead of audio.
    """

    def __init__(self, start: int, header: int, lead: bytes) -> None:
        self.start, self.stop, self.header, self.lead = start, start, header, lead
        self.frames, self.complete, self.promised = 0, True, 0
        place = _xing_place(header)
        if lead[place : place + 4] in _XING:
            flags, frames = struct.unpack_from(">II", lead, place + 4)
            self.promised = frames if flags & _XING_FRAMES else 0
        elif lead:
            self.promised = struct.unpack_from(">I", lead, _VBRI_PLACE + 14)[0]


def _mpeg_links(file: BinaryIO, start: int) -> list[Link]:
    streams = [stream for stream in _mpeg_streams(file, start) if stream.frames]
    if not streams:
        return []
    links = []
    for stream in streams:
        problem = None
        if not stream.complete or (stream.promised > stream.frames + _FEW):
            problem = (
                f"is truncated: its last {'frame' if not stream.complete else 'part'} is missing"
            )
        elif stream.promised and stream.promised < stream.frames - _FEW:
            problem = f"promises {stream.promised} frames in its header, but has {stream.frames}"
        pieces: tuple[Piece, ...] | None = ((stream.start, stream.stop),)
        skip = 0
        if stream.promised < stream.frames and _layer(stream.header) == 3:
            body = (stream.start + len(stream.lead), stream.stop)
            lead, skip = _new_lead(stream, body[1] - body[0])
            pieces = (lead, body)
        elif len(streams) == 1:
            pieces = None
        links.append(Link(pieces, problem, skip))
    return links


def _mpeg_streams(file: BinaryIO, position: int) -> Iterator[_Stream]:
    """Yield the streams of a file from a position on; a Xing header begins a new one."""
    stream: _Stream | None = None
    sizes: dict[int, int] = {}
    base, data = position, b""
    file.seek(0, io.SEEK_END)
    end = file.tell()
    while position < end:
        offset = position - base
        if (offset + 2 * _LONGEST_FRAME > len(data) and base + len(data) < end) or not data:
            file.seek(position)
            base, data, offset = position, file.read(_CHUNK), 0
        if len(data) - offset < 4:
            break
        header: int = struct.unpack_from(">I", data, offset)[0]
        key = header & _SIZE_BITS
        size = sizes.get(key)
        if size is None:
            size = sizes[key] = _frame_size(key)
        if not size:
            tag = _tag_size(data[offset : offset + 32])
            position = position + tag if tag else _next_frame(file, position + 1)
            continue
        leads = _leads(data, offset, header)
        if stream is None or leads or (header ^ stream.header) & _STREAM_BITS:
            if stream is not None:
                if not leads and not _follows(data, offset + size, header):
                    position = _next_frame(file, position + 1)  # what looks like a frame by chance
                    continue
                yield stream
            stream = _Stream(position, header, data[offset : offset + size] if leads else b"")
        stream.complete = position + size <= end
        stream.frames += stream.complete and not leads
        position += size
        stream.stop = min(position, end)
    if stream is not None:
        yield stream


def _leads(data: bytes, offset: int, header: int) -> bool:
    """Return whether a frame of layer III holds a Xing or VBRI header instead of audio."""
    if _layer(header) != 3:
        return False
    place, vbri = offset + _xing_place(header), offset + _VBRI_PLACE
    return data[place : place + 4] in _XING or data[vbri : vbri + 4] == b"VBRI"


def _follows(data: bytes, offset: int, header: int) -> bool:
    """Return whether a frame of the same stream as another one begins at a place."""
    if offset + 4 > len(data):
        return False
    following: int = struct.unpack_from(">I", data, offset)[0]
    return _frame_size(following) > 0 and not (header ^ following) & _STREAM_BITS


def _next_frame(file: BinaryIO, position: int) -> int:
    """Return where, from a position on, two frames of one stream follow one another."""
    while True:
        file.seek(position)
        data = file.read(_CHUNK)
        offset = data.find(b"\xff")
        while 0 <= offset <= len(data) - 4:
            header: int = struct.unpack_from(">I", data, offset)[0]
            if (size := _frame_size(header)) and _follows(data, offset + size, header):
                return position + offset
            offset = data.find(b"\xff", offset + 1)
        if len(data) < _CHUNK:
            return position + len(data)
        position += _CHUNK - _LONGEST_FRAME


def _new_lead(stream: _Stream, size: int) -> tuple[bytes, int]:
    """Return what a stream begins with whose header is to promise the frames that it has.

    Args:
        stream: The stream.
        size: Its size in bytes, without a header.

    Returns:
        A Xing header, and maybe more, and the number of samples that this adds at the start.
    """
    place, skip, frames = _xing_place(stream.header), 0, stream.frames
    if stream.lead[place : place + 4] in _XING:
        lead = bytearray(stream.lead)
    else:
        # mpg123 drops its own delay after a Xing header and not without one. Silent frames, of
        # zeros as the Xing frame is, make up for that; eight, after which its filter bank is in
        # the same phase, so that no sample changes. The bit rate does not matter; at index 9 a
        # frame is long enough.
        header = stream.header & ~0xF200 | 9 << 12 | _NO_CRC
        silent = struct.pack(">I", header) + bytes(_frame_size(header) - 4)
        lead = bytearray(silent * (1 + _SILENT))
        lead[place : place + 4] = _XING[0]
        struct.pack_into(">I", lead, place + 4, _XING_FRAMES | _XING_BYTES)
        skip = _SILENT * (1152 if header >> 19 & 3 == 3 else 576) - _DECODER_DELAY
        frames += _SILENT
    flags: int = struct.unpack_from(">I", lead, place + 4)[0]
    struct.pack_into(">I", lead, place + 8, frames)
    if flags & _XING_BYTES:
        struct.pack_into(">I", lead, place + 12, len(lead) + size)
    return bytes(lead), skip


def _tag_size(head: bytes) -> int:
    """Return the size of a tag (ID3v2, ID3v1, APE) that begins here; 0 if none does."""
    if head[:3] == b"ID3" and len(head) >= 10:
        return 10 + _syncsafe(head[6:10])
    if head[:3] == b"TAG":
        return 128
    if head[:8] == b"APETAGEX" and len(head) >= 24:
        size, _, flags = struct.unpack_from("<III", head, 12)
        return size + (32 if flags >> 29 & 1 else 0)
    return 0


def _syncsafe(content: bytes) -> int:
    value = 0
    for byte in content:
        value = value << 7 | byte & 0x7F
    return value


def _skip_id3(file: BinaryIO, position: int) -> int:
    file.seek(position)
    head = file.read(10)
    return position + _tag_size(head) if head[:3] == b"ID3" else position


# --- Ogg ------------------------------------------------------------------------------------------

_OGG_FIRST, _OGG_LAST = 2, 4  # flags of pages


def _ogg_links(file: BinaryIO, start: int) -> list[Link]:
    file.seek(0, io.SEEK_END)
    end, position = file.tell(), start
    starts: list[int] = []
    ended: list[bool] = []  # whether the last page of each link was there
    in_heads = cut = False
    while position < end:
        file.seek(position)
        head = file.read(27)
        if head[:4] != b"OggS" or len(head) < 27:
            found = _find(file, b"OggS", position + 1)
            cut = cut or found is None
            position = end if found is None else found
            continue
        lengths = file.read(head[26])
        position += 27 + len(lengths) + sum(lengths)
        cut = position > end or len(lengths) < head[26]
        flags = head[5]
        if flags & _OGG_FIRST and not in_heads:
            starts.append(position - 27 - len(lengths) - sum(lengths))
            ended.append(False)
        in_heads = bool(flags & _OGG_FIRST)  # those of multiplexed streams come together
        if ended and flags & _OGG_LAST and not cut:
            ended[-1] = True
    if not starts:
        return []
    problems = ["is truncated: its last page is missing"] * len(starts)
    found_problems = [
        None if last else problem for last, problem in zip(ended, problems, strict=True)
    ]
    if len(starts) == 1:
        return [Link(None, found_problems[0])]
    stops = [*starts[1:], end]
    return [
        Link(((first, last),), problem)
        for first, last, problem in zip(starts, stops, found_problems, strict=True)
    ]


def _find(file: BinaryIO, wanted: bytes, position: int) -> int | None:
    """Return where bytes come next in a file, from a position on."""
    while True:
        file.seek(position)
        data = file.read(_CHUNK)
        if (offset := data.find(wanted)) >= 0:
            return position + offset
        if len(data) < _CHUNK:
            return None
        position += len(data) - len(wanted) + 1


# --- FLAC -----------------------------------------------------------------------------------------

_FLAC_START = b"fLaC"
_FLAC_MARK = b"fLaC\x00\x00\x00\x22"  # with the header of STREAMINFO, which comes first
_FLAC_TOTAL = 8 + 13  # where the number of samples is, whose first four bits share a byte
_FLAC_TAIL = 1 << 20  # bytes that hold at least one frame


def _flac_links(file: BinaryIO, start: int) -> list[Link]:
    starts, position = list[int](), start
    while (found := _find(file, _FLAC_MARK, position)) is not None:
        starts.append(found)
        position = found + len(_FLAC_MARK)
    file.seek(0, io.SEEK_END)
    stops = [*starts[1:], file.tell()]
    links = [_flac_link(file, *edges) for edges in zip(starts, stops, strict=True)]
    return (
        [Link(None, links[0].problem)] if len(links) == 1 and len(_pieces(links[0])) == 1 else links
    )


def _pieces(link: Link) -> tuple[Piece, ...]:
    return link.pieces or ()


def _flac_link(file: BinaryIO, start: int, stop: int) -> Link:
    file.seek(start)
    head = file.read(8 + 34)
    if len(head) < 42:
        return Link(((start, stop),))
    total = int.from_bytes(head[_FLAC_TOTAL : _FLAC_TOTAL + 5], "big")
    promised, rest = total & (1 << 36) - 1, total >> 36
    there = _flac_samples(file, start + 42, stop, int.from_bytes(head[10:12], "big"))
    if there is None or there <= promised:
        return Link(((start, stop),))
    mended = head[:_FLAC_TOTAL] + (rest << 36 | there).to_bytes(5, "big") + head[_FLAC_TOTAL + 5 :]
    problem = f"promises {promised} samples in its header, but has {there}" if promised else None
    return Link((mended, (start + len(head), stop)), problem)


def _flac_samples(file: BinaryIO, start: int, stop: int, block: int) -> int | None:
    """Return how many samples a FLAC stream has, from the header of its last frame."""
    first = max(start, stop - _FLAC_TAIL)
    file.seek(first)
    tail = file.read(stop - first)
    offset = len(tail)
    while (offset := tail.rfind(b"\xff", 0, offset)) >= 0:
        if (samples := _flac_frame_end(tail[offset : offset + 16], block)) is not None:
            return samples
    return None


def _flac_frame_end(head: bytes, block: int) -> int | None:
    """Return the number of the sample after a FLAC frame; None if this is not its header."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1 or head[3] >> 4 > 10:
        return None
    size, rate = head[2] >> 4, head[2] & 15
    ones = 8 - (head[4] ^ 0xFF).bit_length()  # as in UTF-8, up to seven bytes
    if size == 0 or rate == 15 or ones in (1, 8):
        return None
    more = max(0, ones - 1)
    number = head[4] & (0xFF >> (ones + 1)) if ones else head[4]
    for byte in head[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    place = 5 + more
    length = {6: 1, 7: 2}.get(size, 0)
    samples = int.from_bytes(head[place : place + length], "big") + 1
    if not length:
        samples = 192 if size == 1 else 576 << size - 2 if size < 6 else 256 << size - 8
    place += length + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if place >= len(head) or _crc8(head[:place]) != head[place]:
        return None
    return (number if head[1] & 1 else number * block) + samples


def _crc8(content: bytes) -> int:
    crc = 0
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc


# --- WAV ------------------------------------------------------------------------------------------

_NO_LENGTH = 0x7FFF0000  # bytes; sizes from here on mark files that were written to a pipe
_UNKNOWN_LENGTH = 1 << 62  # the same of formats whose sizes have 64 bits


def _wav_links(file: BinaryIO, start: int) -> list[Link]:
    file.seek(0, io.SEEK_END)
    end, begin, links = file.tell(), start, list[Link]()
    while start + 12 <= end:
        file.seek(start)
        if not _is_wav(file.read(12)):
            break
        link, start = _wav_link(file, start, end)
        links.append(link)
    if len(links) == 1 and links[0].pieces == ((begin, end),):
        return [Link(None, links[0].problem)]
    return links


def _wav_link(file: BinaryIO, start: int, end: int) -> tuple[Link, int]:
    """Return the WAV file that begins at a position, and where it ends."""
    position, data = start + 12, False
    while position + 8 <= end:
        file.seek(position)
        head = file.read(12)
        if data and _is_wav(head):
            return Link(((start, position),)), position
        size = int.from_bytes(head[4:8], "little")
        begin, position = position + 8, position + 8 + size + size % 2
        if head[:4] != b"data":
            continue
        data = True
        if size == 0 and begin < end and not _is_chunk(file, begin, end):
            # The program that wrote it was killed before it knew the size.
            file.seek(start)
            content = file.read(begin - 4 - start) + min(end - begin, _NO_LENGTH).to_bytes(
                4, "little"
            )
            return Link((content, (begin, end))), end
        if begin + size > end:
            missing = f"{begin + size - end} of {size} bytes of audio are missing"
            problem = None if size >= _NO_LENGTH else f"is truncated: {missing}"
            return Link(((start, end),), problem), end
    return Link(((start, end),), None if data else "is truncated: it has no audio data"), end


def _is_chunk(file: BinaryIO, position: int, end: int) -> bool:
    file.seek(position)
    head = file.read(8)
    size = int.from_bytes(head[4:], "little")
    return len(head) == 8 and head[:4].isalnum() and position + 8 + size <= end + 1


def _is_wav(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"


# --- Formats of one stream, whose header tells where the file ends --------------------------------


def _au_end(file: BinaryIO, head: bytes) -> int:
    order: Literal["big", "little"] = "big" if head[:4] == b".snd" else "little"
    offset, size = (int.from_bytes(head[place : place + 4], order) for place in (4, 8))
    return 0 if size >= _NO_LENGTH else offset + size


def _iff_end(file: BinaryIO, head: bytes) -> int:
    size = int.from_bytes(head[4:8], "big")
    return 0 if size >= _NO_LENGTH else 8 + size


def _nist_end(file: BinaryIO, head: bytes) -> int:
    """Return the end of a NIST SPHERE file, whose header is text."""
    file.seek(0)
    lines = file.read(1024).decode("ascii", "replace").split("\n")
    fields = {line.split(" ")[0]: line.split(" ")[-1] for line in lines if line.count(" ") == 2}
    numbers = [fields.get(name, "") for name in ("sample_count", "sample_n_bytes")]
    numbers += [fields.get("channel_count", "1"), lines[1].strip() if len(lines) > 1 else ""]
    if not all(number.isdecimal() and len(number) < 16 for number in numbers):
        return 0
    count, size, channels, header = map(int, numbers)
    return header + count * size * channels


def _mat_end(file: BinaryIO, head: bytes) -> int:
    """Return the end of the last element of a MAT file."""
    file.seek(126)
    order: Literal["big", "little"] = "little" if file.read(2) == b"IM" else "big"
    position = 128
    while len(tag := file.read(8)) == 8:
        position += 8 + int.from_bytes(tag[4:], order)
        file.seek(position)
    return position - 8  # libsndfile promises eight bytes more than it writes


def _voc_end(file: BinaryIO, head: bytes) -> int:
    """Return the end of the last block of a VOC file."""
    file.seek(20)
    position = int.from_bytes(file.read(2), "little")
    file.seek(position)
    while len(tag := file.read(4)) == 4 and tag[0]:
        position += 4 + int.from_bytes(tag[1:], "little")
        file.seek(position)
    return position


def _caf_end(file: BinaryIO, head: bytes) -> int:
    """Return the end of the last chunk of a CAF file."""
    position = 8
    file.seek(position)
    while len(chunk := file.read(12)) == 12:
        position += 12 + int.from_bytes(chunk[4:], "big")  # -1 is an unknown size
        if position >= _UNKNOWN_LENGTH:
            return 0
        file.seek(position)
    return position


_ENDS: Mapping[bytes, Callable[[BinaryIO, bytes], int]] = {
    b".snd": _au_end,
    b"dns.": _au_end,
    b"FORM": _iff_end,
    b"RF64": lambda file, head: 8 + int.from_bytes(head[20:28], "little"),
    b"riff": lambda file, head: int.from_bytes(head[16:24], "little"),  # W64
    b"NIST": _nist_end,
    b"MATL": _mat_end,
    b"Crea": _voc_end,
    b"caff": _caf_end,
}
"""Functions that return where a file should end, by its first bytes; 0 if it does not tell."""


def _promising_links(file: BinaryIO, start: int) -> list[Link]:
    file.seek(start)
    head = file.read(28)
    promised = _ENDS[head[:4]](file, head)
    missing = promised - file.seek(0, io.SEEK_END)
    if promised >= _UNKNOWN_LENGTH or missing <= 1:  # a byte of padding is often left out
        return []
    return [Link(None, f"is truncated: {missing} of {promised} bytes are missing")]


_FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO, int], list[Link]]], ...] = (
    (_is_wav, _wav_links),
    (lambda head: head[:4] == _FLAC_START, _flac_links),
    (lambda head: head[:4] == b"OggS", _ogg_links),
    (lambda head: head[:4] in _ENDS, _promising_links),
    (_is_mpeg, _mpeg_links),
)
