name 'neti'
maintainer 'The Neti authors'
license 'BSD-3-Clause'
description 'Installs and configures Neti: its agent, and the proxies of its registry'
version '0.1.0'
chef_version '>= 16.0'
supports 'debian', '~> 12.0' # the package depends on the Python of its release
