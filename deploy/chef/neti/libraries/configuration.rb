require 'yaml'

module Neti
  # neti.yml from attributes, and what a change of it takes. Pure.
  module Configuration
    # The keys that a running agent does not take in by a reload.
    KEYS_FOR_RESTART = %w(
      identity site registry zk_hosts zk_prefix zk_iptoid_node zk_idtoip_node zk_ip_map_node
      zk_update_interval_path zk_max_change_threshold_path registry_tls session_seconds
      overlay_subnet tunnel_port table_files_path log_file metrics_listen verify_port
    ).freeze

    TLS_MODES = { 'ca' => '0644', 'cert' => '0644', 'key' => '0640' }.freeze

    SECRETS = %w(aws_key aws_secret_key).freeze

    module_function

    # Chef's attributes are hashes and arrays of its own kinds, which YAML would name.
    def plain(value)
      case value
      when Hash then value.to_h { |key, inner| [key.to_s, plain(inner)] }
      when Array then value.map { |inner| plain(inner) }
      when Symbol then value.to_s
      when String then String.new(value)
      else value
      end
    end

    def to_yaml(config)
      YAML.dump(plain(config), line_width: -1).delete_prefix("---\n")
    end

    # Those keys that differ from the file which the host has. Without a file nothing runs by it;
    # behind one that cannot be read, nobody knows what runs.
    def changed_for_restart(before, config)
      return [] if before.strip.empty?

      found = YAML.safe_load(before)
      return KEYS_FOR_RESTART unless found.is_a?(Hash)

      wanted = plain(config)
      KEYS_FOR_RESTART.reject { |key| found[key] == wanted[key] }
    rescue Psych::Exception
      KEYS_FOR_RESTART
    end

    # By path, where registry_tls says that each is: its content and mode.
    def tls_files(config, contents)
      places = plain(config)['registry_tls'] || {}
      plain(contents).to_h do |key, content|
        unless TLS_MODES.key?(key) && places[key]
          raise "neti_agent: tls has #{key}: expected keys of registry_tls in config (ca, cert, key)"
        end

        [places[key], { content: content, mode: TLS_MODES[key] }]
      end
    end

    def secret?(config)
      SECRETS.any? { |key| plain(config).key?(key) }
    end
  end
end
