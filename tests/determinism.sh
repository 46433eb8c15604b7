#!/bin/sh
# determinism.sh PHX GOLDEN [--quick | --update]: one seed gives one run.
#
# GOLDEN lists scenarios, seeds and trace hashes, which hold for every compiler, optimisation and
# sanitizer. Each is run as it is; the first one again: in a second process, with a pthread per
# fiber, without address randomisation, and with another seed, which must differ. --quick, for
# valgrind, runs the first line alone. --update writes the hashes anew, after a change that is meant
# to change events.
set -u

phx=$1
golden=$2
mode=${3:-}
failed=0

hash_of() { # SCENARIO SEED [OPTION...]
    scenario=$1
    seed=$2
    shift 2
    # Nothing for a run that fails.
    out=$("$@" "$phx" sim "$scenario" --seed "$seed" --json $options) || return
    echo "$out" | sed -n 's/.*"trace_hash":"\([0-9a-f]*\)".*/\1/p'
}
same() { # WHAT GOT EXPECTED
    if [ "$2" = "$3" ] && [ -n "$3" ]; then
        echo "$3 $1"
    else
        echo "determinism.sh: $1: trace hash \"$2\", expected \"$3\"" >&2
        failed=1
    fi
}

options=
if [ "$mode" = --update ]; then
    grep '^#' "$golden" >"$golden.new"
    grep -v '^#' "$golden" | while read -r scenario seed old; do
        echo "$scenario $seed $(hash_of "$scenario" "$seed")"
    done >>"$golden.new"
    mv "$golden.new" "$golden"
    exit 0
fi

first=1
grep -v '^#' "$golden" >"${TMPDIR:-/tmp}/golden.$$"
while read -r scenario seed hash; do
    same "$scenario --seed $seed" "$(hash_of "$scenario" "$seed")" "$hash"
    if [ $first = 1 ]; then
        first=0
        [ "$mode" != --quick ] || break
        same 'again' "$(hash_of "$scenario" "$seed")" "$hash"
        options='--fibers pthread'
        same 'with a pthread per fiber' "$(hash_of "$scenario" "$seed")" "$hash"
        options=
        if setarch -R true 2>/dev/null; then
            same 'without address randomisation' "$(hash_of "$scenario" "$seed" setarch -R)" "$hash"
        else
            echo 'not run: setarch -R is not allowed here'
        fi
        if [ "$(hash_of "$scenario" $((seed + 1)))" = "$hash" ]; then
            echo "determinism.sh: seed $((seed + 1)) gives the trace hash of seed $seed" >&2
            failed=1
        fi
    fi
done <"${TMPDIR:-/tmp}/golden.$$"
rm -f "${TMPDIR:-/tmp}/golden.$$"
# Every scenario has a line, but for the large ones.
for scenario in scenarios/*.yaml; do
    case $scenario in *-on-320-ranks-*) continue ;; esac
    grep -q "^$scenario " "$golden" && continue
    echo "determinism.sh: $scenario has no line in $golden" >&2
    failed=1
done
exit $failed
