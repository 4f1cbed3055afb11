# Read by other scripts: apt for another release or architecture, in a folder of its own, so that the
# machine's sources and packages stay as they are.
#
#     apt_elsewhere FOLDER ARCH SUITE...   once; then with_apt apt-get ..., with_apt apt-cache ...

apt_elsewhere() {
    apt_folder=$1
    apt_arch=$2
    shift 2
    mkdir -p "$apt_folder/etc/apt/preferences.d" "$apt_folder/var/lib/apt/lists/partial" \
        "$apt_folder/var/lib/dpkg" "$apt_folder/var/cache/apt/archives/partial"
    : >"$apt_folder/var/lib/dpkg/status"
    apt_mirror=$("$(dirname "$0")/debian-mirror")
    for suite in "$@"; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $apt_mirror $suite main"
    done >"$apt_folder/etc/apt/sources.list"
    with_apt apt-get update -qq
}

with_apt() {
    apt_command=$1
    shift
    "$apt_command" -o Dir="$apt_folder" -o Dir::Etc::sourceparts=- \
        -o Dir::Etc::parts=/etc/apt/apt.conf.d -o Dir::State::status="$apt_folder/var/lib/dpkg/status" \
        -o APT::Architecture="$apt_arch" -o APT::Architectures="$apt_arch" \
        -o APT::Sandbox::User=root -o Acquire::Languages=none "$@"
}
