"""``neti lab migrate``: a whole fleet moves from one site to the other while people use it.

Networks, agents, kernel rules, ZooKeeper, certificates and the application are real; the cloud is
not: its security groups are emulated by the sites' gateways (``lab.groups``).

Must never do: retry a user's request, or leave one out of the count.
"""
