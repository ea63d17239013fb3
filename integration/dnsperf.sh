#!/bin/sh
# Measures the name server beside Debian's, on loopback and over the same zone:
# answers from our own zones beside knotd, kept recursive answers beside unbound.
# It needs root, for port 53 of 127.1.0.1, and dnsperf, knot and unbound.
#
#   integration/dnsperf.sh [SECONDS] [RATE]
#
# Each line has the answers per second without a bound, and the processor's time
# per answer in microseconds, then and at RATE questions per second.
set -eu

seconds=${1:-10}
rate=${2:-30000}
top=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d)
pids=""
stop() {
	for p in $pids; do kill "$p" 2>/dev/null || true; done
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap stop EXIT
cd "$dir"

go build -C "$top" -tags sqlite_fts5 -o "$dir/postrider" ./cmd/postrider

cat >root.zone <<END
\$TTL 86400
. SOA a.root. nobody.root. 1 1800 900 604800 86400
. NS a.root.
a.root. A 127.1.0.1
bench.test. NS ns.bench.test.
ns.bench.test. A 127.1.0.1
END
printf '. 3600000 NS a.root.\na.root. 3600000 A 127.1.0.1\n' >hints
{
	printf '$ORIGIN bench.test.\n$TTL 86400\n@ SOA ns hostmaster 1 7200 3600 1209600 600\n@ NS ns\nns A 127.1.0.1\n'
	i=0
	while [ $i -lt 10000 ]; do
		echo "h$i A 192.0.2.$((i % 256))"
		i=$((i + 1))
	done
} >bench.zone
i=0
while [ $i -lt 10000 ]; do
	echo "h$(((i * 7919) % 10000)).bench.test A"
	i=$((i + 1))
done >queries

cat >knot.conf <<END
server:
    rundir: $dir
    listen: [127.1.0.1@53, 127.0.0.1@5301]
database:
    storage: $dir
zone:
  - domain: .
    storage: $dir
    file: root.zone
  - domain: bench.test
    storage: $dir
    file: bench.zone
END
cat >unbound.conf <<END
server:
    interface: 127.0.0.1@5302
    do-daemonize: no
    username: ""
    chroot: ""
    pidfile: ""
    directory: "$dir"
    num-threads: $(nproc)
    so-reuseport: yes
    use-syslog: no
    root-hints: "$dir/hints"
    module-config: "iterator"
    do-not-query-localhost: no
    msg-cache-size: 64m
    rrset-cache-size: 64m
remote-control:
    control-enable: no
END
for role in own recursive; do
	mkdir $role
	zones=""
	port=5304
	[ $role = own ] && zones="\"$dir/bench.zone\"" && port=5303
	cat >$role/config.toml <<END
hostname = "bench.example"
[listen]
dns = ["127.0.0.1:$port"]
[dns]
zones = [$zones]
resolver = "iterative"
root_hints = "$dir/hints"
trust_anchors = "off"
private_networks = ["127.0.0.0/8"]
hosts = ""
END
done

/usr/sbin/knotd -c knot.conf >knot.log 2>&1 &
knot=$!
/usr/sbin/unbound -d -c unbound.conf >unbound.log 2>&1 &
unbound=$!
./postrider --config own/config.toml serve >own.log 2>&1 &
own=$!
./postrider --config recursive/config.toml serve >recursive.log 2>&1 &
recursive=$!
pids="$knot $unbound $own $recursive"

ticks() { awk '{print $14 + $15}' "/proc/$1/stat"; }
measure() { # measure NAME PID PORT
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		dig @127.0.0.1 -p "$3" +short +tries=1 +time=2 h1.bench.test | grep -q . && break
		sleep 1
	done
	dnsperf -s 127.0.0.1 -p "$3" -d queries -c 8 -n 1 >/dev/null 2>&1 # fills the caches
	full=$(perf "$2" "$3")
	paced=$(perf "$2" "$3" -Q "$rate")
	echo "$1|$full|$paced" | awk -F'|' '{printf "%-22s %s at most; at the rate %s\n", $1, $2, $3}'
}
perf() { # perf PID PORT [OPTION...]: answers per second, and what one costs
	pid=$1
	port=$2
	shift 2
	before=$(ticks "$pid")
	dnsperf -s 127.0.0.1 -p "$port" -d queries -c 8 -l "$seconds" "$@" >perf.log 2>/dev/null
	after=$(ticks "$pid")
	awk -v t="$((after - before))" -v hz="$(getconf CLK_TCK)" \
		'/Queries completed/ {n = $3} /Queries per second/ {q = $4} END {printf "%8.0f answers/s %6.2f us each", q, t / hz * 1e6 / n}' perf.log
}
measure "knotd, own zone" $knot 5301
measure "postrider, own zone" $own 5303
measure "unbound, kept" $unbound 5302
measure "postrider, kept" $recursive 5304
