#!/usr/bin/env bash
# launched.sh PHX: phx run as the ranks of a launcher: this script starts them, with the variables
# that torchrun or Open MPI's mpirun set. Run from the top of the tree.
set -u
phx=$1
failed=0
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
unset PHX_RANK PHX_RANKS PHX_RENDEZVOUS PHX_SERVE_RANK PHX_TIMEOUT_MS PHX_SECRET RANK WORLD_SIZE \
    MASTER_ADDR MASTER_PORT OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE
secret=only-for-this-test-0123456789
(umask 077 && echo "$secret" >"$work/secret")
export PHX_SECRET_FILE=$work/secret
mark=$$-launched
dies=scenarios/rank-killed-mid-dispatch.yaml # rank 3
sed '/^faults/,$d' $dies >"$work/healthy.yaml"
pids=() status=()

fail() {
    printf 'launched.sh: %s\n' "$*" >&2
    head -n 60 "$work"/out.* "$work"/err.* >&2
    failed=1
}
# start STYLE RANKS ARGUMENT...: what each prints goes to out.RANK and err.RANK. `odd`: what the
# last rank gets besides, variables first; "none": it is not started.
port=$((20000 + $$ % 10000))
odd=()
# Deadlines are long: a death is seen by its lock, and a busy machine may hold up who lives.
start() {
    local style=$1 ranks=$2 r
    shift 2
    rm -f "$work"/out.* "$work"/err.*
    pids=()
    port=$((port + 2))
    for ((r = 0; r < ranks; r++)); do
        local more=()
        ((r + 1 < ranks)) || more=("${odd[@]}")
        [[ ${more[*]} != none ]] || continue
        (
            export PHX_RUN_MARK=$mark
            case $style in
            torch) export RANK=$r WORLD_SIZE=$ranks MASTER_ADDR=127.0.0.1 MASTER_PORT=$port ;;
            mpi) export OMPI_COMM_WORLD_RANK=$r OMPI_COMM_WORLD_SIZE=$ranks ;;
            esac
            while [[ ${more[0]:-} == PHX_* ]]; do
                export "${more[0]}"
                more=("${more[@]:1}")
            done
            exec "$phx" run --slack 10000 "$@" "${more[@]}"
        ) >"$work/out.$r" 2>"$work/err.$r" &
        pids+=($!)
    done
    odd=()
}
# ends EXPECTED...: the exit status of each rank; and nothing is left.
ends() {
    local r=0 code got=() left i
    for pid in "${pids[@]}"; do
        wait "$pid" 2>/dev/null
        got+=($?)
    done
    [[ ${got[*]} == "$*" ]] || fail "ranks ended with ${got[*]}; expected $*"
    left=$(grep -lzx "PHX_RUN_MARK=$mark" /proc/[0-9]*/environ 2>/dev/null)
    [[ -z $left ]] || fail "processes are left: $left"
    left=$(ls /dev/shm 2>/dev/null | grep phx; ls "$work" | grep meet)
    [[ -z $left ]] || fail "files are left: $left"
    ! grep -qF "$secret" "$work"/out.* "$work"/err.* || fail 'the secret was printed'
}
# reports RANK TEXT...: that rank prints all of it, the others nothing.
reports() {
    local r=$1 what i
    shift
    for what in "$@"; do
        grep -qF -- "$what" "$work/out.$r" || fail "rank $r does not report: $what"
    done
    for ((i = 0; i < ${#pids[@]}; i++)); do
        [[ $i == "$r" || ! -s $work/out.$i ]] || fail "rank $i prints something, too"
    done
}
refuses() { # RANK TEXT
    grep -qF -- "$2" "$work/err.$1" || fail "rank $1 does not say: $2"
}

start torch 1 "$work/healthy.yaml"
wait "${pids[0]}"
if grep -qF 'no libsodium' "$work/err.0"; then
    echo "launched.sh: this build has no libsodium" >&2
    exit 77
fi

# As torchrun starts them: rank 0 serves. The bits are those of ranks that phx run starts.
start torch 4 "$work/healthy.yaml" --json
ends 0 0 0 0
reports 0 '"result":"pass"' '"operations":64' '"active_ranks":[0,1,2,3]' '"violations":[]'
hash=$(grep -o '"trace_hash":"[0-9a-f]*"' "$work/out.0")
RANK=2 WORLD_SIZE=4 "$phx" run "$work/healthy.yaml" --alone --ranks 4 --slack 10000 --json \
    >"$work/alone" 2>&1
grep -qF "$hash" "$work/alone" || fail "alone they give $(cat "$work/alone"), not $hash"

# As mpirun starts them; nobody serves. One kills itself at its put, and the simulator repeats it.
start mpi 4 $dies --rendezvous "file://$work/meet" --record "$work/record"
ends 0 0 0 137
reports 0 'kill rank 3' 'in dispatch 5 after 40 puts' 'active for all survivors: 0-2' \
    'result     PASS'
out=$("$phx" replay "$work/record" 2>&1) || fail "its replay differs: $out"
[[ $out == *"outputs and masks are the recorded run's, bit for bit (56)"* ]] ||
    fail "its replay: $out"

# The one that dies serves the rendezvous, made the memory, and would have reported.
sed 's/rank: 3,/rank: 0,/' $dies >"$work/first.yaml"
start torch 4 "$work/first.yaml" --transport shm
ends 137 0 0 0
reports 1 'kill rank 0' 'active for all survivors: 1-3' 'result     PASS'

# Any rank may serve. A rank dies at a time, and one when another comes to its operation.
sed 's/- {kill.*/- {kill: {rank: 2}, at_us: 1}/; s/steps: 4/steps: 100/; s/tokens: 64/tokens: 8/' \
    $dies >"$work/time.yaml"
PHX_SERVE_RANK=2 start torch 4 "$work/time.yaml"
ends 0 0 137 0
reports 0 'kill rank 2' 'active for all survivors: 0-1, 3' 'result     PASS'
sed 's/- {kill.*/- {kill: {rank: 1}, when: {rank: 2, operation: combine, number: 3}}/' $dies \
    >"$work/other.yaml"
PHX_RENDEZVOUS=file://$work/meet start mpi 3 "$work/other.yaml"
ends 0 137 0
reports 0 'kill rank 1 (process), struck at' 'active for all survivors: 0, 2' 'result     PASS'

# One is killed by hand, once it is connected to all: the others go on, and say what happened.
connected() { # PID: its own four regions, and the three that it writes
    [[ $(grep -c memfd:phx-region "/proc/$1/maps" 2>/dev/null) -ge 7 ]]
}
sed 's/steps: 4/steps: 500/; s/tokens: 64/tokens: 8/; /^faults/,$d' $dies >"$work/long.yaml"
for victim in 1 0; do
    start torch 4 "$work/long.yaml"
    until connected "${pids[$victim]}" || ! kill -0 "${pids[$victim]}" 2>/dev/null; do :; done
    kill -KILL "${pids[$victim]}"
    expected=(1 1 1 1)
    expected[$victim]=137
    ends "${expected[@]}"
    reports $((victim == 0)) "rank-crashed: rank $victim, " "finished   ranks $((victim == 0))" \
        'ok   combine results and token losses equal the plain reference' 'result     FAIL'
done

# What does not fit is refused by name, by every rank.
start torch 2 "$work/healthy.yaml" --ranks 4
ends 2 2
refuses 1 '--ranks says 4, but this is rank 1 of 2 that were started'
start torch 1 "$work/healthy.yaml" --rounds 2
ends 2
refuses 0 '--rounds starts ranks of its own'
sed 's/- {kill.*/- {pause: {rank: 1, for_us: 9}, at_us: 9}/; /^expect/,$d' $dies >"$work/pause.yaml"
start torch 2 "$work/pause.yaml"
ends 2 2
refuses 0 'only a launcher of ours could let it go on'
start none 1 "$work/healthy.yaml" --join
ends 2
refuses 0 'nothing says which rank this is'
RANK=1 start none 1 "$work/healthy.yaml"
ends 2
refuses 0 'WORLD_SIZE is not (RANK is set, so'
start mpi 2 "$work/healthy.yaml"
ends 2 2
refuses 1 'nothing says where the ranks meet'
PHX_SECRET_FILE='' start torch 1 "$work/healthy.yaml"
ends 2
refuses 0 'there is no secret'

# Ranks that were started otherwise than the rest, with another secret, or not at all.
odd=(--seed 6)
start torch 3 "$work/healthy.yaml"
ends 2 2 2
refuses 0 'rank 2 was started with another seed'
refuses 2 'rank 0 was started with another seed'
export PHX_TIMEOUT_MS=1500
odd=(PHX_SECRET_FILE= PHX_SECRET=another-secret-0123456789)
start torch 2 "$work/healthy.yaml"
ends 3 2
refuses 1 'another secret'
odd=(none)
start torch 3 "$work/healthy.yaml"
ends 3 3
refuses 0 'not joined in time: rank'

exit "$failed"
