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

# broken SCENARIO SED RULE: with this change the run must fail by this rule.
broken() {
    local changed="${TMPDIR:-/tmp}/scenario-broken.$$.yaml"
    sed "$2" "scenarios/$1.yaml" >"$changed"
    output=$("$phx" sim "$changed" --json 2>&1)
    if [[ $? -ne 1 || $output != *"\"rule\":\"$3\""* ]]; then
        printf 'scenarios.sh: %s with %s is not refused by %s: %.300s\n' "$1" "$2" "$3" \
            "$output" >&2
        failed=1
    fi
    rm -f "$changed"
}
broken rank-killed-mid-dispatch 's/all_but_faulted/all/' expect-alive
broken rank-killed-mid-dispatch 's/within_us: 5000/within_us: 500/' expect-finish
broken rank-killed-before-its-first-put 's/kill: {rank: 3}/kill: {rank: 2}/; s/all_but_faulted/[0]/' \
    expect-alive
broken rank-killed-between-dispatch-and-combine 's/healthy_stay.*/lost_tokens_at_most: 0/' \
    expect-lost-tokens
broken slow-rank-within-the-deadline-is-kept 's/percent: 20/percent: 1/' expect-alive
broken nic-flaps-within-the-retry-budget 's/period_us: 40000/period_us: 2000000/' expect-alive
broken two-percent-of-packets-are-lost 's/loss_ppm: 20000/loss_ppm: 1000000/' expect-alive
broken bit-flips-are-caught-by-the-transport 's/, caught: true//' expect-corrupt
broken bit-flip-behind-the-check-is-reported 's/corrupt: .*/corrupt: []/' expect-corrupt
broken bit-flip-behind-the-check-is-reported 's/corrupt: .*/corrupt: [3, 4]/' expect-corrupt
broken clock-of-one-rank-is-off-by-an-hour 's/offset_us: -90},.*/offset_us: 1}, when: {operation: dispatch, number: 8}}\n  - {hang: {rank: 0}, at_us: 100}/' \
    expect-alive
broken pauses-by-chance-end-and-all-goes-on 's/progress_within_us: 2500/progress_within_us: 1/' \
    progress-after-freeze
broken two-ranks-die-in-one-operation 's/when: {operation: dispatch, number: 5, phase: receive}/at_us: 900000/' \
    fault-did-not-strike

echo "$count runs"
exit "$failed"
