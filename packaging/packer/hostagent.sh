#!/bin/sh
# Bakes hostagent into a machine image. Packer runs this file; the EC2 Image Builder component holds a copy; the package
# brings it as /usr/share/hostagent/bake.sh. To be run as root, any number of times, with systemd running or not:
#
#   hostagent.sh install   installs the package $HOSTAGENT_PACKAGE (a path, https:// or s3://), whose SHA-256 must be
#                          $HOSTAGENT_SHA256, and enables the service
#   hostagent.sh seal      stops the service, removes what it and this host left behind, the machine ID included, and
#                          checks that nothing is left; to be the last step before the image is taken
#   hostagent.sh verify    the checks of seal alone; changes nothing
#   hostagent.sh test      on an instance made from the image: the service runs
#
# Without an argument: install, then seal.
set -eu

# What is wrong and where, then what to do about it.
die() {
    echo "hostagent.sh: $1: $2" >&2
    exit 1
}

booted() { [ -d /run/systemd/system ]; }

# A path in hostagent's configuration; empty when it is not set to one.
setting() {
    hostagent config show | sed -n "s|^$1 = \"\(/[^\"]*\)\".*|\1|p"
}

download() {
    case "$1" in
    https://*)
        command -v curl >/dev/null || die "no curl on this host" "install it, or give HOSTAGENT_PACKAGE as a path"
        curl --fail --silent --show-error --location --proto =https --retry 3 --output "$2" -- "$1" ||
            die "the package cannot be had from $1" "check the address, and this host's way to it"
        ;;
    s3://*)
        command -v aws >/dev/null || die "no aws command on this host" "install it, or give HOSTAGENT_PACKAGE as https://"
        aws s3 cp --only-show-errors "$1" "$2" ||
            die "the package cannot be had from $1" "give the build's instance role s3:GetObject on it"
        ;;
    /*) cp -- "$1" "$2" || die "no package at $1" "upload it before this step, or give HOSTAGENT_PACKAGE another path" ;;
    *) die "HOSTAGENT_PACKAGE is '$1'" "give an absolute path, or an address that begins with https:// or s3://" ;;
    esac
}

install_package() {
    [ -n "${HOSTAGENT_PACKAGE:-}" ] || die "HOSTAGENT_PACKAGE is not set" "set it to the package's path or address"
    [ -n "${HOSTAGENT_SHA256:-}" ] || die "HOSTAGENT_SHA256 is not set" "set it to what sha256sum prints for the package"
    if command -v apt-get >/dev/null; then
        kind=deb
    elif command -v rpm >/dev/null; then
        kind=rpm
    else
        die "neither apt-get nor rpm on this host" "build the image from one that takes .deb or .rpm packages"
    fi
    directory=$(mktemp -d)
    trap 'rm -rf "$directory"' EXIT
    package=$directory/hostagent.$kind
    download "$HOSTAGENT_PACKAGE" "$package"
    found=$(sha256sum "$package" | cut -d ' ' -f 1)
    [ "$found" = "$(echo "$HOSTAGENT_SHA256" | tr 'A-F' 'a-f')" ] ||
        die "$HOSTAGENT_PACKAGE has the SHA-256 $found" "HOSTAGENT_SHA256 is $HOSTAGENT_SHA256: find out which is right"
    # apt reads the file as a user of its own.
    chmod 755 "$directory"
    chmod 644 "$package"
    advice="read what the package manager said above; is this the .$kind for $(uname -m)?"
    if [ $kind = deb ]; then
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --reinstall --allow-downgrades \
            -o DPkg::Lock::Timeout=120 "$package" || die "apt-get did not install $HOSTAGENT_PACKAGE" "$advice"
    elif rpm -q hostagent >/dev/null; then
        # yum calls the same version a mistake.
        rpm -U --replacepkgs --oldpackage "$package" || die "rpm did not install $HOSTAGENT_PACKAGE" "$advice"
    else
        for manager in dnf yum zypper; do
            if command -v $manager >/dev/null; then break; fi
        done
        # zypper takes no unsigned package by itself. This one's sum was checked.
        [ "$manager" != zypper ] || set -- --allow-unsigned-rpm
        $manager install -y "$@" "$package" || die "$manager did not install $HOSTAGENT_PACKAGE" "$advice"
    fi
    systemctl enable hostagent.service || die "hostagent.service cannot be enabled" "is systemd installed in this image?"
}

# The files that tell one host from another, where hostagent's configuration has them.
find_traces() {
    command -v hostagent >/dev/null || die "hostagent is not installed" "run 'hostagent.sh install' first"
    state=$(setting state_dir)
    runtime=$(setting runtime_dir)
    if [ -z "$state" ] || [ -z "$runtime" ]; then
        die "hostagent does not tell its directories" "run 'hostagent config show' here, and mend what it says"
    fi
    traces=$(
        for file in "$state"/*.json "$state"/.tmp* "$runtime"/*.json "$runtime"/*.lock "$runtime"/runs \
            "$(setting metrics_file)" "$(setting inventory)" \
            /var/lib/amazon/ssm/*/inventory/custom/hostagent.json; do
            if [ -n "$file" ] && [ -e "$file" ]; then echo "$file"; fi
        done
    )
}

seal() {
    if booted; then
        running=$(systemctl list-units --no-legend --plain 'hostagent-restart-*.service' | cut -d ' ' -f 1)
        [ -z "$running" ] || die "a restart of the ECS agent is under way in $running" "wait until it has ended, then seal"
        systemctl stop hostagent.service hostagent-nat.socket ||
            die "hostagent.service does not stop" "see 'systemctl status hostagent', then seal again"
    fi
    find_traces
    echo "$traces" | while IFS= read -r trace; do
        [ -z "$trace" ] || rm -rf -- "$trace"
    done
    # Empty, not gone: systemd takes a host without the file for one at its first boot, and resets which units are enabled.
    [ "$(cat /etc/machine-id 2>/dev/null)" = uninitialized ] || : >/etc/machine-id
    # A copy of its own would be taken for the new host's ID. Usually it is a link.
    if [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then rm /var/lib/dbus/machine-id; fi
    verify
}

verify() {
    find_traces
    [ "$(systemctl is-enabled hostagent.service 2>/dev/null)" = enabled ] ||
        die "hostagent.service is not enabled" "run 'systemctl enable hostagent.service', and see which step disabled it"
    if booted && systemctl is-active --quiet hostagent.service; then
        die "hostagent.service runs and would leave its state in the image" "run 'hostagent.sh seal', as the last step"
    fi
    [ -z "$traces" ] ||
        die "this host's own $(echo "$traces" | head -n 1) would be in the image" "run 'hostagent.sh seal', as the last step"
    case "$(cat /etc/machine-id 2>/dev/null)" in
    "" | uninitialized) ;;
    *) die "/etc/machine-id holds this host's machine ID" "run 'hostagent.sh seal', as the last step" ;;
    esac
    # Settings written for one instance are wrong on every other.
    named=$(grep -rlwE 'i-[0-9a-f]{8,17}' /etc/hostagent /usr/lib/hostagent 2>/dev/null | head -n 1) || true
    [ -z "$named" ] || die "$named names an instance ID" "take it out: it would be in every instance of the image"
}

test_here() {
    [ -s /etc/machine-id ] || die "/etc/machine-id is empty" "this is for an instance made from the image, once it has booted"
    for _ in $(seq 120); do
        if systemctl is-active --quiet hostagent.service; then
            hostagent --version
            return
        fi
        sleep 1
    done
    die "hostagent.service does not run two minutes after the boot" "see 'journalctl -u hostagent' on this instance"
}

[ "$(id -u)" = 0 ] || die "not run as root" "run it with sudo"
for step in "${@:-}"; do
    case "$step" in
    install) install_package ;;
    seal | verify) "$step" ;;
    test) test_here ;;
    "")
        install_package
        seal
        ;;
    *) die "no step '$step'" "give install, seal, verify or test" ;;
    esac
done
