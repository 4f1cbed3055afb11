"""nft's words beside our own listing: where they belong together, and where that is not known."""

from neti.dataplane.in_words import in_words

LISTED = """\
table inet neti { # handle 7
\tmap overlay { # handle 1
\t\ttype ipv4_addr : ipv4_addr
\t\telements = { 192.168.0.9 : 10.0.0.9 }
\t}

\tset revoked4 { # handle 2
\t\ttype ipv4_addr
\t\tflags timeout
\t}

\tchain input { # handle 3
\t\ttype filter hook input priority filter - 10; policy accept;
\t\tiif "lo" accept # handle 4
\t\ttcp dport { 22, 80 } comment "# handle 9" goto judge # handle 5
\t}

\tchain judge { # handle 6
\t}
}
"""


def test_each_line_gets_its_words() -> None:
    lines = [
        "table 2=00000000",
        "set overlay 0x8 4=0",
        "set revoked4 0x10 4=0",
        "chain input 4=0",
        "rule input [meta 1] [accept]",
        "rule input [meta 2] [goto judge]",
        "chain judge ",
    ]
    said = in_words(LISTED).of(lines)
    assert said == {
        lines[1]: "map overlay { type ipv4_addr : ipv4_addr }",
        lines[2]: "set revoked4 { type ipv4_addr; flags timeout }",
        lines[3]: "chain input { type filter hook input priority filter - 10; policy accept }",
        lines[4]: 'iif "lo" accept',
        lines[5]: 'tcp dport { 22, 80 } comment "# handle 9" goto judge',
        lines[6]: "chain judge",
    }


def test_a_chain_of_another_length_says_nothing() -> None:
    """A rule was added between the two looks: which words are whose is not known then."""
    assert in_words(LISTED).of(["rule input [accept]"]) == {}
    assert in_words("").of(["rule input [accept]", "chain input "]) == {}
