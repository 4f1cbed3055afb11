#!/bin/sh
# Installs Neti from this folder, or a later version over an earlier one; or takes it away.
#
#     sh install.sh              installs or upgrades, and starts what is configured
#     sh install.sh --no-start   starts and restarts nothing
#     sh install.sh --remove     takes it away; leaves /etc/neti and /var/lib/neti
#     sh install.sh --purge      takes those away too, and the user neti
#
# Needs root, systemd, and nothing else of this host: the rest is done by the bundle's own Python.
# What bin/neti drops, as far as it matters here.
unset LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT GLIBC_TUNABLES GCONV_PATH LOCPATH
case $0 in
*/*) here=${0%/*} ;;
*) here=. ;;
esac
# In the folder that was unpacked, or in /opt/neti.
[ -d "$here/opt/neti" ] && tree=$here/opt/neti || tree=$here
for loader in "$tree"/lib/ld-linux-*; do :; done
exec "$loader" --library-path "$tree/lib" --argv0 "$tree/bin/python3" "$tree/bin/python3" \
    -I -B -X utf8 "$tree/lib/install.py" "$tree" "$@"
