"""The lab: a fleet on two sites, on one machine, in network namespaces. See docs/lab.md.

Must never do: change a link, route, rule or sysctl of the machine's own network namespace, or end
a process that does not belong to the lab.
"""

from neti.errors import NetiError


class LabError(NetiError):
    """The lab cannot do what was asked for; the message says what stands in the way."""
