neti_agent 'default' do
  config node['neti']['config']
  config_path node['neti']['config_path']
  package_source node['neti']['package']['source']
  package_url node['neti']['package']['url']
  package_checksum node['neti']['package']['checksum']
end
