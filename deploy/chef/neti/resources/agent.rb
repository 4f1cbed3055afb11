# Installs, configures and runs Neti's agent.
#
#   neti_agent 'default' do
#     config node['neti']['config']
#   end
unified_mode true
resource_name :neti_agent
provides :neti_agent

property :config, Hash, required: [:create],
         description: 'neti.yml as a hash'
property :config_path, String, default: '/etc/neti/neti.yml'
property :tls, Hash, default: {}, sensitive: true,
         description: 'contents of the files that registry_tls in config names: ca, cert, key'
property :command, String, default: '/usr/bin/neti'
property :package_source, [String, nil],
         description: 'path of the .deb on the host'
property :package_url, [String, nil],
         description: 'where the .deb is fetched from; needs package_checksum'
property :package_checksum, [String, nil],
         description: 'SHA-256 of the .deb behind package_url'

action_class do
  def install
    source = new_resource.package_source || fetched
    return package('neti') if source.nil?

    dpkg_package 'neti' do
      source source
      options '--force-confold'
    end
  end

  def fetched
    return if new_resource.package_url.nil?
    raise 'neti_agent: package_url needs package_checksum' if new_resource.package_checksum.nil?

    path = ::File.join(Chef::Config[:file_cache_path], 'neti.deb')
    url = new_resource.package_url
    digest = new_resource.package_checksum
    remote_file path do
      source url
      checksum digest
    end
    path
  end

  # Before the file is written. The agent of a host without a file is not running.
  def change
    path = new_resource.config_path
    before = ::File.exist?(path) ? ::File.read(path) : ''
    keys = Neti::Configuration.changed_for_restart(before, new_resource.config)
    keys.empty? ? :reload : :restart
  end
end

action :create do
  install

  # Made, never changed: it may be /etc, which others must read.
  folder = ::File.dirname(new_resource.config_path)
  directory folder do
    owner 'root'
    group 'neti'
    mode '0750'
    not_if { ::Dir.exist?(folder) }
  end

  # Before the configuration, whose check reads them. The key is readable by the agent alone.
  Neti::Configuration.tls_files(new_resource.config, new_resource.tls).each do |path, found|
    file path do
      content found[:content]
      owner 'root'
      group 'neti'
      mode found[:mode]
      sensitive true
      notifies :reload, 'systemd_unit[neti.service]', :delayed
    end
  end

  %w(neti.service neti-restore.service neti-leave.service).each do |unit|
    systemd_unit unit do
      action :enable
    end
  end

  # A file that 'neti config check' refuses never replaces the one that is there.
  taken_in_by = change
  template new_resource.config_path do
    cookbook 'neti'
    source 'neti.yml.erb'
    owner 'root'
    group 'neti'
    mode '0640'
    sensitive Neti::Configuration.secret?(new_resource.config)
    variables config: new_resource.config
    verify "#{new_resource.command} config check -c %{path}"
    notifies taken_in_by, 'systemd_unit[neti.service]', :delayed
  end

  systemd_unit 'start neti.service' do
    unit_name 'neti.service'
    action :start
  end
end

# Stops the agent; the rules stay. 'neti down' takes them out, removing the package does too.
action :stop do
  systemd_unit 'neti.service' do
    action [:stop, :disable]
  end
end
