#!/bin/sh
# Installs the programs that the tests run, from Debian's packages, where they
# are missing. As root or with sudo it does so itself; else it prints the one
# command that does, and fails. Packages of npm go to bin/imapflow, by the
# versions and checksums of testdata/imapflow/package-lock.json.
set -eu

missing=""
need() { # need PROGRAM PACKAGE
	command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

need gsasl gsasl
need openssl openssl
need telnet inetutils-telnet
need nc netcat-openbsd
need curl curl
need swaks swaks
need msmtp msmtp
need fetchmail fetchmail
need mutt mutt
need mbsync isync
need dig bind9-dnsutils
need host bind9-host
need named-checkzone bind9-utils
need dnssec-verify bind9-utils
need delv bind9-dnsutils
need nsupdate bind9-dnsutils
need nslookup bind9-dnsutils
need host bind9-host
need ldns-verify-zone ldnsutils
need unbound-host unbound-host
need strace strace
need Xvfb xvfb
need thunderbird thunderbird
need chromium chromium
need python3 python3
need offlineimap offlineimap3
need node nodejs
need npm npm
need git git
need ip iproute2
# The servers themselves are in places that are not in everybody's path.
[ -x /usr/lib/dovecot/imap ] || missing="$missing dovecot-imapd"
[ -x /usr/sbin/unbound ] || missing="$missing unbound"
[ -x /usr/sbin/named ] || missing="$missing bind9"
[ -x /usr/sbin/nsd ] || missing="$missing nsd"
[ -x /usr/sbin/knotd ] || missing="$missing knot"
# swaks speaks TLS with this module.
if command -v swaks >/dev/null 2>&1; then
	perl -MNet::SSLeay -e 1 2>/dev/null || missing="$missing libnet-ssleay-perl"
else
	missing="$missing libnet-ssleay-perl"
fi

imapflow() {
	from=$(dirname "$0")/testdata/imapflow
	to=$(dirname "$0")/../bin/imapflow
	if cmp -s "$from/package-lock.json" "$to/package-lock.json"; then
		return
	fi
	rm -rf "$to" "$to.new"
	mkdir -p "$to.new"
	cp "$from/package.json" "$from/package-lock.json" "$to.new"
	npm ci --prefix "$to.new" --ignore-scripts --no-audit --no-fund
	mv "$to.new" "$to" # at once, so that half of it is never taken for all
}

if [ -z "$missing" ]; then
	imapflow
	exit 0
fi

# No word splitting is wanted but here.
command="apt-get update && apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
	run() { "$@"; }
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
	run() { sudo "$@"; }
else
	echo "The tests run programs that this machine lacks. This installs them:" >&2
	echo "  sudo sh -c '$command'" >&2
	exit 1
fi
if ! command -v apt-get >/dev/null 2>&1; then
	echo "The tests run programs that this machine lacks:$missing" >&2
	echo "They are names of Debian packages; install them by this system's own means." >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
run apt-get update -q
# shellcheck disable=SC2086
run env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
# Debian starts a server that it installs. The tests start their own, and others
# may want the ports.
stop() { # stop PACKAGE UNIT...
	case "$missing " in
	*" $1 "*)
		shift
		if [ -d /run/systemd/system ]; then
			run systemctl disable --now "$@" || true
		fi
		;;
	esac
}
stop dovecot-imapd dovecot.service dovecot.socket
stop unbound unbound.service
stop bind9 named.service
stop nsd nsd.service
stop knot knot.service
imapflow
