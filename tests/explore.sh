#!/bin/sh
# explore.sh PHX: phx explore, replay and shrink, as a person uses them. Run from the top of the
# tree.
set -u

phx=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

fail() {
    echo "explore.sh: $*" >&2
    cat "$dir/out" "$dir/err" >&2
    failed=1
}
expect() { # STATUS ARGUMENT...
    status=$1
    shift
    "$phx" "$@" >"$dir/out" 2>"$dir/err"
    code=$?
    [ "$code" = "$status" ] || fail "phx $* exited $code, expected $status"
}
says() { # FILE TEXT
    grep -qF -- "$2" "$dir/$1" || fail "std$1 lacks: $2"
}
field() { # NAME: of the JSON object in out
    sed -n "s/.*\"$1\":\"\{0,1\}\([0-9a-z]*\).*/\1/p" "$dir/out"
}

# The same campaign has the same hash, whatever the number of processes.
expect 0 explore --seeds 60 --ranks-max 4 --pairs-max 3 --jobs 1 --json --out "$dir/none"
one=$(field campaign_hash)
expect 0 explore --seeds 60 --ranks-max 4 --pairs-max 3 --jobs 3 --json --out "$dir/none"
[ -n "$one" ] && [ "$one" = "$(field campaign_hash)" ] ||
    fail "the hash with 3 processes is $(field campaign_hash), with one $one"
[ ! -e "$dir/none" ] || fail 'a campaign without failures made a directory for them'

# Stopped and resumed, it is the same campaign; another campaign is not.
expect 0 explore --seeds 25 --ranks-max 4 --pairs-max 3 --resume "$dir/state" --json
expect 0 explore --seeds 60 --ranks-max 4 --pairs-max 3 --resume "$dir/state" --json
[ "$(field campaign_hash)" = "$one" ] || fail "resumed, the hash is $(field campaign_hash)"
[ "$(field runs)" = 60 ] || fail "resumed, there were $(field runs) runs"
expect 2 explore --seeds 60 --ranks-max 5 --resume "$dir/state"
says err 'is the state of another campaign'

# An expectation that cannot hold is found, saved, replayed and shrunk.
cat >"$dir/wrong.yaml" <<'END'
name: a rank is killed, and yet expected alive
cluster: {nodes: 2, ranks_per_node: 3}
workers: 2
workload:
  - moe: {steps: 3, tokens: 6, hidden: 256, experts: 8, top_k: 2}
timeout_us: 1000
faults:
  - {kill: {rank: 4}, when: {operation: dispatch, number: 2, after_puts: 2}}
  - {slow: {rank: 1, percent: 90}, when: {operation: dispatch, number: 1}}
expect: {alive: all}
END
expect 1 explore "$dir/wrong.yaml" --keep-expectations --faults-max 0 --seeds 2 --out "$dir/bad"
says out 'expect-alive'
saved=$dir/bad/seed-1.yaml
expect 1 explore "$dir/wrong.yaml" --keep-expectations --faults-max 0 --seeds 1 --out "$dir/a/b/c"
says out '1 run FAILED'
[ -f "$dir/a/b/c/seed-1.yaml" ] || fail 'a failure was not saved: nothing above its directory'
expect 1 replay "$saved"
says out 'expect-alive, as saved'
says out ', as saved'
expect 0 shrink "$saved" --out "$dir/a.yaml"
says out '1 fault, 2 ranks'
expect 0 shrink "$saved" --out "$dir/b.yaml"
cmp -s "$dir/a.yaml" "$dir/b.yaml" || fail 'shrinking twice gives two files'
expect 1 replay "$dir/a.yaml"
says out 'expect-alive, as saved'

# A planted bug is of another program; other mistakes of the caller.
expect 2 explore --seeds 1 --bug fence-missing
says err 'no planted bugs'
expect 2 explore --seeds 0
expect 2 explore --seeds 1 --out "$saved"
says err "failing runs could not be saved in \"$saved\" (--out): Not a directory"
expect 2 explore --seeds 1 --out "$saved/deeper"
expect 2 explore --seeds 1 --out ''
says err 'failing runs could not be saved in "" (--out): No such file or directory'
ln -s "$dir/nowhere/at/all" "$dir/link"
expect 2 explore --seeds 1 --out "$dir/link"
says err '(--out): No such file or directory'
expect 2 explore --seeds 1 --out "$(printf '%0901d' 0)"
says err 'File name too long'
expect 2 explore --seeds 1 "$dir/nothing.yaml"
expect 2 explore --keep-expectations --seeds 1
expect 2 replay
expect 2 shrink "$dir/nothing.yaml"
cat >"$dir/clean.yaml" <<'END'
cluster: {nodes: 1, ranks_per_node: 2}
workload:
  - moe: {tokens: 1, hidden: 128, experts: 2, top_k: 1}
END
expect 0 replay "$dir/clean.yaml"
expect 2 shrink "$dir/clean.yaml"
says err 'it breaks no rule'

exit $failed
