#!/bin/sh
# Makes the frozen data directories of a release: make.sh PATH-OF-levada-server PATH-OF-levada NAME
# writes NAME-stopped.tar.gz (stopped in good order) and NAME-killed.tar.gz (killed) beside this script.
# What is in them is what cli/tests/end_to_end/frozen.rs expects.
set -eu
server=$1 levada=$2 name=$3
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'kill -9 $pid 2>/dev/null || true; rm -rf "$work"' EXIT
export HOME="$work" XDG_RUNTIME_DIR="$work/run"

lines() { awk -v what="$1" -v from="$2" -v to="$3" 'BEGIN { for (i = from; i < to; i++) printf "%s %06d %0*d\n", what, i, i % 700, 0 }'; }

start() {
    : >"$work/ready"
    "$server" --data-dir "$work/data" --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 >"$work/ready" 2>>"$work/log" &
    pid=$!
    until grep -q '^levada-server ready' "$work/ready"; do sleep 0.1; done
    LEVADA_SERVER=$(sed 's/.*tcp=\([^ ]*\).*/\1/' "$work/ready")
    export LEVADA_SERVER
}

stop() {
    kill "-$1" "$pid"
    wait "$pid" 2>/dev/null || true
    rm -f "$work/data/lock"
    tar -C "$work" -S -czf "$here/$name-$2.tar.gz" data
}

start
"$levada" topic create shop/orders --partitions 2 --segment-bytes 1MiB
"$levada" topic create shop/clicks --compression lz4 --retention-age 36500d
"$levada" topic create shop/views --durability memory
"$levada" topic create shop/gone
"$levada" topic create shop/purged
lines order 0 4000 | "$levada" produce shop/orders:0
lines order 0 10 | "$levada" produce shop/orders:1 --compression zstd
lines click 0 500 | "$levada" produce shop/clicks
lines view 0 500 | "$levada" produce shop/views --compression zstd
lines purged 0 500 | "$levada" produce shop/purged
"$levada" topic delete shop/gone
"$levada" topic purge shop/purged
printf 'a password of anna' >"$work/password"
"$levada" user create anna --password-file "$work/password"
stop TERM stopped

start
lines order 10 20 | "$levada" produce shop/orders:1
lines purged 500 510 | "$levada" produce shop/purged
stop 9 killed
ls -l "$here"
