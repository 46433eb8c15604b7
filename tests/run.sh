#!/usr/bin/env bash
# run.sh PHX [PLANTED]: phx run from outside: what it says, how it ends, and that nothing is left.
#
# PLANTED is the program with planted mistakes, if there is one: real processes that make them must
# fail.
set -u
phx=$1
planted=${2:-}
failed=0
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT

fail() {
    printf 'run.sh: %s\n' "$*" >&2
    failed=1
}
# Other runs may be under way on this machine, so processes are known by a mark of their own.
ranks_alive() { # MARK, which the launcher and its ranks have in their environment
    grep -lzx "PHX_RUN_MARK=$1" /proc/[0-9]*/environ 2>/dev/null
}
nothing_left() { # MARK WHAT
    local i left=''
    for ((i = 0; i < 100; i++)); do
        left=$(ranks_alive "$1")
        [[ -z $left ]] && break
        sleep 0.05
    done
    [[ -z $left ]] || fail "$2 leaves processes: $left"
    [[ $(ls /dev/shm 2>/dev/null | grep -c phx) == 0 ]] || fail "$2 leaves files in /dev/shm"
}
run() { # ARGUMENT...
    PHX_RUN_MARK=$$ "$phx" run "$@"
}

# The headline: it passes, and the simulator gives the same bits. A death is seen by its lock; a
# longer deadline is for ranks that live on a busy machine.
out=$(run scenarios/rank-killed-mid-dispatch.yaml --transport shm --slack 10000 \
    --record "$work/kill" 2>&1) ||
    fail "the headline scenario fails: $out"
for what in 'in dispatch 5 after 40 puts' 'slack ' 'active for all survivors: 0-2, 4-7' \
    'result     PASS'; do
    [[ $out == *"$what"* ]] || fail "the report does not say \"$what\": $out"
done
nothing_left $$ 'the headline scenario'
out=$("$phx" replay "$work/kill") || fail "its replay differs: $out"
[[ $out == *"outputs and masks are the recorded run's, bit for bit (120)"* ]] ||
    fail "its replay compared too little: $out"

# A recorded run that was cut off is refused.
head -c 500 "$work/kill" >"$work/cut"
"$phx" replay "$work/cut" >"$work/out" 2>&1
[[ $? -eq 2 && $(cat "$work/out") == *'cut off'* ]] || fail "a cut file: $(cat "$work/out")"

# A rank that sleeps past the deadline learns that it is out; all in JSON.
out=$(run scenarios/zombie-wakes-and-stores-over-nvlink.yaml --json) || fail "a pause fails: $out"
for key in '"result":"pass"' '"active_ranks":[0,1,2,4,5,6,7]' '"transport":"shm"' '"slack":' \
    '"open_ns":' '"violations":[]' '"trace_hash":"' '"operations":128'; do
    [[ $out == *"$key"* ]] || fail "the JSON object has no $key: $out"
done

# What can't be made here is refused, by name.
for scenario in whole-node-dies two-percent-of-packets-are-lost partition-cuts-a-node-off \
    gpu-hangs-behind-a-live-nic bit-flips-are-caught-by-the-transport \
    clock-of-one-rank-is-off-by-an-hour decode-on-320-ranks-loses-one; do
    run "scenarios/$scenario.yaml" >"$work/out" 2>&1
    [[ $? -eq 2 && $(cat "$work/out") == *shm* ]] ||
        fail "$scenario is not refused: $(cat "$work/out")"
done
run scenarios/rank-killed-mid-dispatch.yaml --transport verbs >"$work/out" 2>&1
[[ $? -eq 2 ]] || fail '--transport verbs is not refused'
run scenarios/two-ranks-die-in-one-operation.yaml --transport cuda >"$work/out" 2>&1
[[ $? -eq 2 && $(cat "$work/out") == *'over cuda: a kernel goes from sending to receiving'* ]] ||
    fail "a phase inside a kernel is not refused: $(cat "$work/out")"
run scenarios/rank-killed-mid-dispatch.yaml --ranks 60 --transport cuda >"$work/out" 2>&1
[[ $? -eq 2 && $(cat "$work/out") =~ (has no CUDA|GPUs) ]] ||
    fail "more ranks than GPUs, or no CUDA, is not refused: $(cat "$work/out")"
for option in '--ranks-per-gpu 2' --own-gpu-only; do
    run scenarios/rank-killed-mid-dispatch.yaml $option >"$work/out" 2>&1
    [[ $? -eq 2 && $(cat "$work/out") == *'only with --transport cuda'* ]] ||
        fail "$option over shm: $(cat "$work/out")"
done

# An expectation that does not hold fails the run.
sed 's/all_but_faulted/all/' scenarios/rank-killed-mid-dispatch.yaml >"$work/wrong.yaml"
run "$work/wrong.yaml" >"$work/out" 2>&1
[[ $? -eq 1 && $(cat "$work/out") == *expect-alive* && $(tail -1 "$work/out") == repeat:* ]] ||
    fail "a wrong expectation: $(cat "$work/out")"

# Ctrl-C, and an end that can't be caught, while ranks run: nothing is left.
sed 's/steps: 4/steps: 500/; s/tokens: 64/tokens: 8/; /^faults/,$d' \
    scenarios/rank-killed-mid-dispatch.yaml \
    >"$work/long.yaml"
for signal in INT TERM KILL; do
    PHX_RUN_MARK=$$-$signal "$phx" run "$work/long.yaml" >"$work/out" 2>&1 &
    launcher=$!
    for ((i = 0; i < 200; i++)); do
        [[ $(ranks_alive "$$-$signal" | wc -l) -ge 9 ]] && break
        sleep 0.05
    done
    ((i < 200)) || fail "the ranks do not start: $(cat "$work/out")"
    sleep 0.1
    kill -s $signal $launcher
    wait $launcher 2>/dev/null
    status=$?
    ((status == 128 + $(kill -l $signal))) || fail "SIG$signal ends it with status $status"
    nothing_left "$$-$signal" "SIG$signal"
done

# Planted: what real processes get wrong is seen.
if [[ -n $planted ]]; then
    for bug in counter-for-word loss-not-reported; do
        PHX_RUN_MARK=$$ "$planted" run scenarios/rank-killed-mid-dispatch.yaml --bug $bug \
            >"$work/out" 2>&1
        [[ $? -eq 1 && $(cat "$work/out") == *-result:* ]] ||
            fail "planted $bug is not seen: $(tail -5 "$work/out")"
    done
fi
nothing_left $$ 'all of it'
exit "$failed"
