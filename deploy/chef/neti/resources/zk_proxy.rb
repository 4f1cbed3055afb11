# Runs neti zk-proxy, which relays the registry's port to the ensemble in the other site.
#
# All proxies are alike: each gets all servers and picks one that lives. Nothing here looks at the
# host's name or number, and nothing touches the kernel's rules.
#
#   neti_zk_proxy 'default' do
#     servers ['10.21.0.4:2181', '10.21.0.5:2181', '10.21.0.6:2181']
#   end
unified_mode true
resource_name :neti_zk_proxy
provides :neti_zk_proxy

HOST_AND_PORT = /\A([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\]):[0-9]+\z/.freeze
WORD = %r{\A[A-Za-z0-9._:/,=@\[\]-]+\z}.freeze

property :servers, Array, required: [:create],
         callbacks: {
           'must have a server' => ->(list) { !list.empty? },
           'must be HOST:PORT, each' => ->(list) { list.all?(HOST_AND_PORT) },
           'must have each server once' => ->(list) { list.uniq.length == list.length },
         }
property :listen, String, default: '0.0.0.0:2181', regex: HOST_AND_PORT
property :options, Array, default: [],
         description: 'further options of neti zk-proxy, as words',
         callbacks: { 'must be words without blanks' => ->(list) { list.all?(WORD) } }
property :command, String, default: '/usr/bin/neti'
property :file, String, default: '/etc/default/neti-zk-proxy'

action_class do
  def words
    listen = ['--listen', new_resource.listen]
    listen + new_resource.servers.flat_map { |server| ['--server', server] } + new_resource.options
  end

  def unit
    {
      Unit: {
        Description: "Neti: relays the registry's port to the other site",
        Documentation: 'man:neti-zk-proxy(1)',
        Conflicts: 'neti.service', # a proxy must be reachable when the rules of an agent are wrong
        After: 'network-online.target',
        Wants: 'network-online.target',
      },
      Service: {
        Type: 'notify',
        EnvironmentFile: new_resource.file,
        ExecStart: "#{new_resource.command} zk-proxy $ARGUMENTS",
        Restart: 'always',
        RestartSec: 2,
        TimeoutStopSec: 30,
        DynamicUser: 'yes',
        LimitNOFILE: 65536,
        CapabilityBoundingSet: '',
        NoNewPrivileges: 'yes',
        ProtectSystem: 'strict',
        ProtectHome: 'yes',
        PrivateTmp: 'yes',
        PrivateDevices: 'yes',
        ProtectClock: 'yes',
        ProtectHostname: 'yes',
        ProtectKernelLogs: 'yes',
        ProtectKernelModules: 'yes',
        ProtectKernelTunables: 'yes',
        ProtectControlGroups: 'yes',
        RestrictAddressFamilies: 'AF_UNIX AF_INET AF_INET6',
        RestrictNamespaces: 'yes',
        RestrictRealtime: 'yes',
        RestrictSUIDSGID: 'yes',
        LockPersonality: 'yes',
        MemoryDenyWriteExecute: 'yes',
        SystemCallArchitectures: 'native',
        SystemCallFilter: '@system-service',
        UMask: '0077',
      },
      Install: { WantedBy: 'multi-user.target' },
    }
  end
end

# The proxy reads its options when it starts: a change restarts it. Connections end spread over its
# --drain seconds, and agents come back with their sessions.
action :create do
  content = unit
  systemd_unit 'neti-zk-proxy.service' do
    content content
    action [:create, :enable]
    notifies :restart, 'systemd_unit[neti-zk-proxy.service]', :delayed
  end

  template new_resource.file do
    cookbook 'neti'
    source 'neti-zk-proxy.erb'
    owner 'root'
    group 'root'
    mode '0644'
    variables words: words
    notifies :restart, 'systemd_unit[neti-zk-proxy.service]', :delayed
  end

  systemd_unit 'start neti-zk-proxy.service' do
    unit_name 'neti-zk-proxy.service'
    action :start
  end
end

action :remove do
  systemd_unit 'neti-zk-proxy.service' do
    action [:stop, :disable, :delete]
  end

  file new_resource.file do
    action :delete
  end
end
