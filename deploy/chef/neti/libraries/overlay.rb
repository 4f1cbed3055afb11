require 'json'
require 'mixlib/shellout'

module Neti
  # This host's overlay address within the run that starts the agent; later runs have it as
  # node['neti']['overlay_ip'] from Ohai. To connect to or to advertise, never to listen on: no
  # interface has it. In a template's variables, inside lazy { }:
  #
  #   variables lazy { { advertised: Neti::Overlay.address } } # nil until there is one
  module Overlay
    GRACE = 10

    module_function

    # The address, or nil when there is none yet. Waits for one only as long as it is told to.
    def address(wait: 0, command: '/usr/bin/neti', config: '/etc/neti/neti.yml')
      line = [command, 'overlay-ip', '--json', '--wait', wait.to_s, '-c', config]
      asked = Mixlib::ShellOut.new(*line, timeout: wait + GRACE).run_command
      asked.error? ? nil : JSON.parse(asked.stdout)['overlay']
    rescue Errno::ENOENT, Errno::EACCES, Mixlib::ShellOut::CommandTimeout, JSON::ParserError
      nil
    end
  end
end
