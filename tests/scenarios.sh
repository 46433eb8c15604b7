#!/usr/bin/env bash
# scenarios.sh PHX [SEEDS]: runs every scenario but the large ones with seeds 1 to SEEDS (3), under
# both orders of simultaneous events. Each must do what its name says: its expectations are checked.
#
# Then each expectation is broken once, and the run must notice: a check that cannot fail is none.
set -u
phx=$1
seeds=${2:-3}
failed=0
count=0

for scenario in scenarios/*.yaml; do
    case $scenario in *-on-320-ranks-*) continue ;; esac # .ci/run seeds runs it
    for tie in fifo random; do
        for ((seed = 1; seed <= seeds; seed++)); do
            if ! output=$("$phx" sim "$scenario" --seed "$seed" --tie "$tie" 2>&1); then
                printf 'scenarios.sh: %s --seed %s --tie %s fails:\n%s\n' "$scenario" "$seed" \
                    "$tie" "$output" >&2
                failed=1
            fi
            count=$((count + 1))
        done
    done
done

# Failures that were found, shrunk and mended, each as it was found.
for scenario in scenarios/regressions/*.yaml; do
    if ! output=$("$phx" sim "$scenario" 2>&1); then
        printf 'scenarios.sh: %s fails:\n%s\n' "$scenario" "$output" >&2
        failed=1
    fi
    count=$((count + 1))
done

# broken RULE SCENARIO SED...: with these changes the run must fail by this rule.
broken() {
    local rule=$1 scenario=$2 changed="${TMPDIR:-/tmp}/scenario-broken.$$.yaml" edit
    shift 2
    cp "scenarios/$scenario.yaml" "$changed"
    for edit in "$@"; do
        sed -i "$edit" "$changed"
    done
    output=$("$phx" sim "$changed" --json 2>&1)
    if [[ $? -ne 1 || $output != *"\"rule\":\"$rule\""* ]]; then
        printf 'scenarios.sh: %s with %s is not refused by %s: %.300s\n' "$scenario" "$*" "$rule" \
            "$output" >&2
        failed=1
    fi
    rm -f "$changed"
}
broken expect-alive rank-killed-mid-dispatch 's/all_but_faulted/all/'
broken expect-finish rank-killed-mid-dispatch 's/within_us: 5000/within_us: 500/'
broken expect-alive rank-killed-before-its-first-put 's/all_but_faulted/[0]/'
broken expect-lost-tokens rank-killed-between-dispatch-and-combine \
    's/healthy_stay.*/lost_tokens_at_most: 0/'
broken expect-alive slow-rank-within-the-deadline-is-kept 's/percent: 20/percent: 1/'
broken expect-alive nic-flaps-within-the-retry-budget 's/period_us: 40000/period_us: 2000000/'
broken expect-alive two-percent-of-packets-are-lost 's/loss_ppm: 20000/loss_ppm: 1000000/'
broken expect-corrupt bit-flips-are-caught-by-the-transport 's/, caught: true//'
broken expect-corrupt bit-flip-behind-the-check-is-reported 's/corrupt: .*/corrupt: []/'
broken expect-corrupt bit-flip-behind-the-check-is-reported 's/corrupt: .*/corrupt: [3, 4]/'
broken expect-alive clock-of-one-rank-is-off-by-an-hour \
    's/clock_offset: {rank: 5, offset_us: -90}/hang: {rank: 5}/'
broken progress-after-freeze pauses-by-chance-end-and-all-goes-on \
    's/progress_within_us: 2500/progress_within_us: 1/'
broken fault-did-not-strike two-ranks-die-in-one-operation \
    's/when: {operation: dispatch, number: 5, phase: receive}/at_us: 900000/'

echo "$count runs"
exit "$failed"
