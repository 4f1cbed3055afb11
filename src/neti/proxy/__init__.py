"""``neti zk-proxy``: relays the ZooKeeper port of one host to the ensemble elsewhere.

It never looks into what it relays: TLS is between agent and server. So the server's certificate
must carry the proxy's name too. See docs/zk-proxy.md.
"""
