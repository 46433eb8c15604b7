#!/bin/sh
# bootstrap.sh PHX: what phx rendezvous takes, says and never says. Run from the top of the tree.
set -u

phx=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
secret=only-for-this-test-0123456789
unset PHX_SECRET PHX_SECRET_FILE

fail() {
    echo "bootstrap.sh: $*" >&2
    cat "$dir/out" "$dir/err" >&2
    failed=1
}
# expect STATUS TEXT ARGUMENT...: runs phx rendezvous; stderr has TEXT, and nothing has the secret.
expect() {
    status=$1 text=$2
    shift 2
    "$phx" rendezvous "$@" >"$dir/out" 2>"$dir/err"
    code=$?
    [ "$code" = "$status" ] || fail "phx rendezvous $* exited $code, expected $status"
    grep -qF -- "$text" "$dir/err" || fail "stderr lacks: $text"
    ! grep -qF "$secret" "$dir/out" "$dir/err" || fail "the secret was printed"
}

"$phx" rendezvous --listen 127.0.0.1:0 --ranks 1 >"$dir/out" 2>"$dir/err" </dev/null
if grep -qF 'no libsodium' "$dir/err"; then
    echo "bootstrap.sh: this build has no libsodium" >&2
    exit 77
fi

expect 2 'where? --listen HOST:PORT' --ranks 2
expect 2 'how many ranks? --ranks N' --listen 127.0.0.1:0
expect 2 '--ranks 1025: must be a whole number, 1 to 1024' --listen 127.0.0.1:0 --ranks 1025
expect 2 'there is no secret' --listen 127.0.0.1:0 --ranks 2
PHX_SECRET=short expect 2 'a secret of 5 bytes; it must have 16 to 256' \
    --listen 127.0.0.1:0 --ranks 2
export PHX_SECRET=$secret
expect 2 '--listen is nowhere; it must be HOST:PORT' --listen nowhere --ranks 2
expect 2 'the port must be a number' --listen 127.0.0.1:x --ranks 2
expect 2 "can't listen at 192.0.2.1 port 4100" --listen 192.0.2.1:4100 --ranks 2
unset PHX_SECRET

echo "$secret" >"$dir/secret"
chmod 644 "$dir/secret"
export PHX_SECRET_FILE="$dir/secret"
expect 2 'has mode 644: others may read or write it' --listen 127.0.0.1:0 --ranks 2
chmod 600 "$dir/secret"

# A signal before all have joined is no success, and leaves nothing running.
"$phx" rendezvous --listen 127.0.0.1:0 --ranks 2 >"$dir/out" 2>"$dir/err" &
child=$!
until [ -s "$dir/out" ] || ! kill -0 $child 2>/dev/null; do :; done
grep -q '^serving 2 ranks at port [1-9]' "$dir/out" || fail "it does not say where it serves"
if [ -r /proc/$child/cmdline ] && tr '\0' ' ' </proc/$child/cmdline | grep -qF "$secret"; then
    fail "the secret stands on a command line"
fi
kill -TERM $child
wait $child
code=$?
[ $code = 1 ] || fail "after SIGTERM it exited $code, expected 1"
grep -q '^0 joined, 0 exchanges' "$dir/out" || fail "it does not say what it did"

exit $failed
