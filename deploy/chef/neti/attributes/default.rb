# The .deb: a path on the host, or a URL with its SHA-256. Neither: the package 'neti' from whatever
# repositories the host has.
default['neti']['package']['source'] = nil
default['neti']['package']['url'] = nil
default['neti']['package']['checksum'] = nil

# neti.yml as a hash; docs/configuration.md has every key.
default['neti']['config'] = {}
# Not here: keys. neti_agent's property tls takes their contents, from a vault or an encrypted bag.
default['neti']['config_path'] = '/etc/neti/neti.yml'

# For neti::zk_proxy: the ensemble's servers as this site reaches them, the same on all proxies.
default['neti']['zk_proxy']['listen'] = '0.0.0.0:2181'
default['neti']['zk_proxy']['servers'] = []
default['neti']['zk_proxy']['options'] = []
