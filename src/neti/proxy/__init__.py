"""``neti zk-proxy``: relays the ZooKeeper port of one host to the ensemble elsewhere.

It never looks into what it relays: TLS is between agent and server, with the server's own
certificate, which must therefore carry the proxy's name too. See docs/zk-proxy.md.
"""
