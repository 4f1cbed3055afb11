"""Words that the lab's clients and servers put into all they send, for a sniffer to find. Pure.

A sniffer that finds none of them between two sites has seen nothing that anybody there said.
"""

from typing import Final

TCP_ASKED: Final = b"neti-lab-tcp-asks"
TCP_ANSWERED: Final = b"neti-lab-tcp-answers"
UDP_ASKED: Final = b"neti-lab-udp-asks"
UDP_ANSWERED: Final = b"neti-lab-udp-answers"

MARKS: Final = {
    "TCP asked": TCP_ASKED,
    "TCP answered": TCP_ANSWERED,
    "UDP asked": UDP_ASKED,
    "UDP answered": UDP_ANSWERED,
}
