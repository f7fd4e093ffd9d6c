#!/usr/bin/env bash
# Shows what network sysctls do: runs a command in a network namespace of its own with the machine's values, and again with
# the given ones. Nothing outside of the namespace changes. Needs root.
#
#   measure.sh NAME=VALUE... -- COMMAND...
#
# Only sysctls that belong to a network namespace can be measured so: those of net.* that `ip netns exec` shows.
set -euo pipefail

values=()
while (($# > 0)) && [[ $1 != -- ]]; do
    values+=("$1")
    shift
done
if ((${#values[@]} == 0 || $# < 2)); then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
shift

# Everything behind this runs in the new namespace: the script calls itself there.
if [[ ${MEASURE_INSIDE:-} == yes ]]; then
    unset MEASURE_INSIDE
    ip link set lo up
    for value in "${values[@]}"; do
        [[ $value == - ]] || sysctl -qw "$value"
    done
    exec "$@"
fi

inside() {
    MEASURE_INSIDE=yes unshare --net "$0" "$@"
}

for value in "${values[@]}"; do
    printf '== %s = %s\n' "${value%%=*}" "$(sysctl -n "${value%%=*}" | tr '\t' ' ')"
done
inside - -- "$@"
printf '\n== %s\n' "${values[@]}"
inside "${values[@]}" -- "$@"
