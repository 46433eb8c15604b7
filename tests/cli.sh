#!/bin/sh
# cli.sh PHX: what the phx program prints and how it exits. Run from the top of the tree.
set -u

phx=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

fail() {
    echo "cli.sh: $*" >&2
    echo "--- stdout" >&2
    cat "$dir/out" >&2
    echo "--- stderr" >&2
    cat "$dir/err" >&2
    failed=1
}
# expect STATUS ARGUMENT...: runs phx, checks its exit status, leaves its output in out and err.
expect() {
    status=$1
    shift
    "$phx" "$@" >"$dir/out" 2>"$dir/err"
    code=$?
    [ "$code" = "$status" ] || fail "phx $* exited $code, expected $status"
}
says() { # FILE TEXT
    grep -qF -- "$2" "$dir/$1" || fail "std$1 lacks: $2"
}
silent() { # FILE
    [ ! -s "$dir/$1" ] || fail "std$1 should be empty"
}

cat >"$dir/clean.yaml" <<'END'
name: a small clean run
cluster: {nodes: 1, ranks_per_node: 4}
workload:
  - moe: {steps: 2, tokens: 4, hidden: 256, experts: 8, top_k: 2}
timeout_us: 1000
expect: {alive: all}
END
cat >"$dir/killed.yaml" <<'END'
name: one of four is killed
cluster: {nodes: 1, ranks_per_node: 4}
workload:
  - moe: {steps: 4, tokens: 4, hidden: 256, experts: 8, top_k: 2}
timeout_us: 1000
faults:
  - {kill: {rank: 1}, when: {operation: dispatch, number: 2, after_puts: 1}}
expect: {survivors_finish_within_us: 5000, alive: all_but_faulted}
END
sed 's/all_but_faulted/all/' "$dir/killed.yaml" >"$dir/wrong.yaml"
sed 's/tokens/tokns/' "$dir/clean.yaml" >"$dir/typo.yaml"
printf 'cluster: {nodes: 1\n' >"$dir/broken.yaml"
: >"$dir/empty.yaml"
head -c 2000000 /dev/zero | tr '\0' ' ' >"$dir/huge.yaml"

# Passing, failing, and what each prints.
expect 0 sim "$dir/clean.yaml"
says out 'a small clean run'
says out 'PASS'
silent err
expect 0 sim "$dir/killed.yaml"
says out 'kill rank 1 (process)'
says out 'active for all survivors: 0, 2-3'
expect 1 sim "$dir/wrong.yaml" --seed 5
says out 'expect-alive'
[ "$(tail -n 1 "$dir/out")" = "repeat: phx sim $dir/wrong.yaml --seed 5" ] ||
    fail 'the last line of a failure does not repeat it'

# JSON: one object, exactly these keys.
expect 0 sim "$dir/killed.yaml" --json --seed 18446744073709551615
keys=$(tr ',' '\n' <"$dir/out" | grep -o '"[a-z_]*":' | tr -d '":\n' )
expected=resultseedtrace_hashvirtual_nseventsoperationsactive_ranks
expected=${expected}lost_tokensviolationswall_ms
[ "$keys" = $expected ] || fail "keys of the JSON object: $keys"
says out '"result":"pass","seed":18446744073709551615,"trace_hash":"'
says out '"active_ranks":[0,2,3]'
says out '"violations":[]'
grep -qE '"trace_hash":"[0-9a-f]{16}"' "$dir/out" || fail 'trace_hash is not 16 hex digits'
expect 1 sim "$dir/wrong.yaml" --json
says out '"result":"fail"'
says out '{"operation":null,"rule":"expect-alive","rank":0,"virtual_ns":'
says err 'repeat: phx sim'

# Inputs that are none: exit 2, with the place and a suggestion.
expect 2 sim "$dir/typo.yaml"
says err "$dir/typo.yaml:4:21: 'tokns' is not a key of 'moe'; did you mean 'tokens'?"
silent out
expect 2 sim "$dir/broken.yaml"
says err "$dir/broken.yaml:2:1: not YAML: "
expect 2 sim "$dir/empty.yaml"
says err "$dir/empty.yaml:1:1: the file is empty"
expect 2 sim "$dir/huge.yaml"
says err "$dir/huge.yaml: the file is larger than 1048576 bytes"
expect 2 sim "$dir/none.yaml"
says err "$dir/none.yaml: cannot be opened: No such file or directory"
expect 2 sim "$dir"
says err "$dir: cannot be read: Is a directory"

# The command line.
expect 2
expect 2 sim
expect 2 sim "$dir/clean.yaml" "$dir/clean.yaml"
expect 2 sim "$dir/clean.yaml" --seed x
says err '--seed x: must be a whole number, 0 to 18446744073709551615'
expect 2 sim "$dir/clean.yaml" --seed -1
expect 2 sim "$dir/clean.yaml" --ranks 1025
says err '--ranks 1025: must be a whole number, 1 to 1024'
expect 2 sim "$dir/clean.yaml" --fibers green
expect 2 sim "$dir/clean.yaml" --tie never
expect 2 sim "$dir/clean.yaml" --nonsense
expect 2 smi "$dir/clean.yaml"
says err "'smi' is not a command; did you mean 'sim'?"
expect 0 --help
says out 'replay     replay a saved failure from its list of faults'
for command in $(sed -n 's/^  \([a-z]*\) .*(not built yet)$/\1/p' "$dir/out"); do
    expect 2 $command
    says err "phx $command: not built yet: it needs "
done

# Other ways to run the same.
expect 0 sim "$dir/clean.yaml" --ranks 2
says out '2 ranks: 1 node of 2'
expect 0 sim "$dir/clean.yaml" --tie random --seed 0x10
says out 'seed 16, '
expect 0 sim "$dir/killed.yaml" --trace "$dir/trace.json"
[ -s "$dir/trace.json" ] || fail 'no trace was written'
expect 2 sim "$dir/clean.yaml" --trace "$dir/none/trace.json"
says err "$dir/none/trace.json"

# Schedules, and the run section of a failure file, which gives way to the command line.
expect 0 --version
expect 0 sim "$dir/clean.yaml" --tie pct --pct-depth 5 --quantum-ns 100
expect 2 sim "$dir/clean.yaml" --tie never
says err '--tie never: must be fifo, random or pct'
expect 2 sim "$dir/clean.yaml" --pct-depth 0
says err '--pct-depth 0: must be a whole number, 1 to 64'
expect 2 sim "$dir/clean.yaml" --quantum-ns 0
expect 1 sim "$dir/wrong.yaml" --tie pct --pct-depth 4 --quantum-ns 10
[ "$(tail -n 1 "$dir/out")" = \
    "repeat: phx sim $dir/wrong.yaml --seed 1 --tie pct --pct-depth 4 --quantum-ns 10" ] ||
    fail 'the last line of a failure lacks its schedule'
{ cat "$dir/clean.yaml" && echo 'run: {seed: 77, tie: random}'; } >"$dir/failure.yaml"
expect 0 sim "$dir/failure.yaml"
says out 'seed 77, '
cp "$dir/out" "$dir/as-the-file-says"
expect 0 sim "$dir/clean.yaml" --seed 77 --tie random
[ "$(grep hash "$dir/out")" = "$(grep hash "$dir/as-the-file-says")" ] ||
    fail 'the run section gives another run'
expect 0 sim "$dir/failure.yaml" --seed 5
says out 'seed 5, '
expect 2 sim "$dir/clean.yaml" --bug deadline-cascade
says err '--bug deadline-cascade: this build has no planted bugs'
PHX_COMMAND=./phx "$phx" sim "$dir/wrong.yaml" >"$dir/out" 2>"$dir/err"
[ "$(tail -n 1 "$dir/out")" = "repeat: ./phx sim $dir/wrong.yaml --seed 1" ] ||
    fail 'the repeat line does not call the program as the script did'

# Pictures: names are escaped, the same run gives the same bytes, and what cannot be drawn is
# refused before anything runs.
sed 's/one of four/<one> \&amp; "four"/' "$dir/killed.yaml" >"$dir/odd.yaml"
expect 0 sim "$dir/odd.yaml" --svg "$dir/one.svg"
expect 0 sim "$dir/odd.yaml" --svg "$dir/two.svg" --trace "$dir/trace.json"
cmp -s "$dir/one.svg" "$dir/two.svg" || fail 'two pictures of one run differ'
for text in '&lt;one&gt; &amp;amp; &quot;four&quot;' 'masks 1</text>' 'killed at ' \
    'rank 3</text>'; do
    grep -qF "$text" "$dir/one.svg" || fail "the picture lacks: $text"
done
grep -qF '<one>' "$dir/one.svg" && fail 'the picture has the name as it is in the file'
expect 0 sim "$dir/killed.yaml" --svg "$dir/part.svg" --svg-from-us 1 --svg-to-us 2
grep -qF 'masks 1' "$dir/part.svg" && fail 'the picture shows more than was asked for'
expect 2 sim "$dir/clean.yaml" --ranks 68 --svg "$dir/none.svg"
says err '68 ranks; a picture has room for 64'
[ ! -e "$dir/none.svg" ] || fail 'a refused picture was written'
expect 2 sim "$dir/clean.yaml" --svg-from-us 3
expect 2 sim "$dir/clean.yaml" --svg "$dir/none.svg" --svg-from-us 3 --svg-to-us 3
expect 2 sim "$dir/clean.yaml" --svg "$dir/none.svg" --svg-from-us 99999999
says err 'it must end after it begins'
expect 2 sim "$dir/clean.yaml" --svg "$dir/none/none.svg"
says err "picture \"$dir/none/none.svg\" cannot be written: No such file or directory"

# Figures of the simulator: the same seed, the same figures; on and off within one run.
sim_bench='bench ep --transport sim --ranks 4 --nodes 2 --tokens 16 --samples 3'
expect 0 $sim_bench --seed 5 --compare fault_tolerance --json
cp "$dir/out" "$dir/first"
says out '"virtual_time":'
says out '"pair, ft off"'
expect 0 $sim_bench --seed 5 --compare fault_tolerance --json
cmp -s "$dir/out" "$dir/first" || fail 'two runs of the simulator benchmark differ'
expect 0 $sim_bench --seed 6 --fault-tolerance off
says out 'fault tolerance off; 3 samples'
says out 'checked first: every row of dispatch bit for bit'
expect 2 bench ep --transport sim --ranks 3 --nodes 2
says err '--ranks 3: must be a multiple of --nodes, 2'
expect 2 bench ep --transport sim --intra-node ib_400g
expect 2 bench ep --nodes 2
expect 2 bench ep --compare hidden
expect 2 bench signal --ranks 3
says err '--ranks: of ep alone; signal takes --samples and --json'
expect 2 bench signal --transport sim

expect 0 info
says out 'transport_sim    yes'
says out 'transport_shm    yes'
says out 'transport_verbs  no   not written yet'
says out 'huge_regions '
says out 'numa '
says out 'cuda '
expect 0 info --json
says out '"transport_sim":{"available":true,'

# An output that can't be written is no success.
if [ -w /dev/full ]; then
    "$phx" info >/dev/full 2>"$dir/err"
    [ $? = 3 ] || fail 'a full disk was not noticed'
fi
exit $failed
