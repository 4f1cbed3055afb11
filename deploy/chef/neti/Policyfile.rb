# An example: agents on every host of the policy. Copy it, and put your own settings here or into
# policy groups. Proxies get a policy of their own with the run list 'neti::zk_proxy'.
name 'neti-agent'
default_source :supermarket
cookbook 'neti', path: '.'
run_list 'neti::default'

default['neti']['package']['source'] = '/var/cache/neti/neti.deb'
default['neti']['config'] = {
  'zk_hosts' => {
    'ec2' => ['10.0.0.5:2181', '10.0.0.6:2181'],
    'vpc' => ['10.21.0.5:2181', '10.21.0.6:2181', '10.21.0.7:2181'],
  },
  'sites' => {
    'ec2' => { 'private' => ['10.0.0.0/16'], 'vpc_ids' => ['vpc-0a1b2c3d4e5f60718'] },
    'vpc' => { 'private' => ['10.21.0.0/16'], 'vpc_ids' => ['vpc-0b1b2c3d4e5f60719'] },
  },
  'ssh_whitelist' => ['203.0.113.0/24'],
  'open_ports' => [80, '443/tcp'],
  'reject_all' => false,
}
