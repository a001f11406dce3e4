"""A set of positions in one bit each: 12 KB for the entries of the largest batch there is."""

from collections.abc import Iterable, Iterator, MutableSet


class PositionSet(MutableSet[int]):
    """Positions of entries: small numbers from 1 on, most of which will be in it in the end."""

    def __init__(self, positions: Iterable[int] = ()) -> None:
        self._bits, self._count = bytearray(), 0
        self.put(positions)

    def __contains__(self, position: object) -> bool:
        assert isinstance(position, int)
        byte = position >> 3
        return byte < len(self._bits) and bool(self._bits[byte] >> (position & 7) & 1)

    def __iter__(self) -> Iterator[int]:
        return (position for position in range(len(self._bits) * 8) if position in self)

    def __len__(self) -> int:
        return self._count

    def add(self, value: int) -> None:
        self.put([value])

    def put(self, positions: Iterable[int | None]) -> list[bool]:
        """Add positions, and say of each whether it is new. None is no position, and never new."""
        bits, news = self._bits, list[bool]()
        for position in positions:
            if position is None:
                news.append(False)
                continue
            byte, bit = position >> 3, 1 << (position & 7)
            if byte >= len(bits):
                bits.extend(bytes(byte + 1 - len(bits)))
            news.append(not bits[byte] & bit)
            bits[byte] |= bit
        self._count += sum(news)
        return news

    def discard(self, value: int) -> None:
        if value in self:
            self._bits[value >> 3] &= ~(1 << (value & 7))
            self._count -= 1
