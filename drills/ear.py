"""The sniffer of a drill, asked for what must never be."""

from drills.drill import Row
from neti_lab.sniffer import TUNNEL, Sniffer


class Ear:
    def __init__(self, sniffer: Sniffer) -> None:
        self.sniffer = sniffer

    def row(self, what: str) -> Row:
        """No word since the last look, though something went by."""
        seen = self.sniffer.look()
        figure = f"{seen.marked} packets with a word in them"
        encrypted = seen.between_sites(TUNNEL).packets
        figure += f", {encrypted:,} encrypted ones"
        figure += "".join(
            f"; {heading.source} to {heading.target}, {heading.road}: {count.sample!r}"
            for heading, count in seen.counts.items()
            if count.marked
        )
        if seen.dropped:
            figure += f"; {seen.dropped} NOT LOOKED AT"
        return Row(f"{what}: the sniffer reads", figure, not seen.marked and not seen.dropped)
