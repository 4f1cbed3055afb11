# The package without an agent: no agent may run on a proxy.
given = node['neti']['package']
deb = given['source']
if deb.nil? && given['url']
  raise 'neti: package url needs package checksum' if given['checksum'].nil?

  deb = ::File.join(Chef::Config[:file_cache_path], 'neti.deb')
  remote_file deb do
    source given['url']
    checksum given['checksum']
  end
end

if deb
  dpkg_package 'neti' do
    source deb
  end
else
  package 'neti'
end

neti_zk_proxy 'default' do
  listen node['neti']['zk_proxy']['listen']
  servers node['neti']['zk_proxy']['servers']
  options node['neti']['zk_proxy']['options']
end
