# The package without an agent: no agent may run on a proxy.
if node['neti']['package']['source']
  package 'libnftables1'
  dpkg_package 'neti' do
    source node['neti']['package']['source']
  end
else
  package 'neti'
end

neti_zk_proxy 'default' do
  listen node['neti']['zk_proxy']['listen']
  servers node['neti']['zk_proxy']['servers']
  options node['neti']['zk_proxy']['options']
end
