#!/usr/bin/env bash
# Spreads the receive work of network devices over the cores.
#
#   rps-affinity.sh [--dry-run] DEVICE...   prints what --apply would write (the default)
#   rps-affinity.sh --apply DEVICE...       writes it, and keeps what was there
#   rps-affinity.sh --revert                writes back what was there
#
# A device with one receive queue gets RPS over all cores: the kernel spreads packets by connection. A device with several
# gets the interrupt of each on a core of its own, and RPS off. CORES (as in `CORES="0 1 2 3"`) limits which cores.
# irqbalance undoes affinities: stop it, or ban these interrupts there. STATE and SYSFS, PROCFS are for tests.
set -euo pipefail

STATE=${STATE:-/run/longsplice-rps-affinity}
SYSFS=${SYSFS:-/sys}
PROCFS=${PROCFS:-/proc}

usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}

# put FILE VALUE: writes, or says that it would. Keeps the first value that was there.
put() {
    local file=$1 value=$2 was
    was=$(<"$file")
    if [[ $was == "$value" ]]; then
        return
    fi
    if [[ $mode == dry-run ]]; then
        printf 'echo %s > %s    # was %s\n' "$value" "$file" "$was"
        return
    fi
    if ! grep -qs "^$file " "$STATE"; then
        printf '%s %s\n' "$file" "$was" >>"$STATE"
    fi
    printf '%s\n' "$value" >"$file"
}

# mask CORE...: the hexadecimal bit mask of cores, in groups of 32 bits as the kernel reads it.
mask() {
    local -a words=()
    local core word most=0 text
    for core in "$@"; do
        word=$((core / 32))
        words[word]=$((${words[word]:-0} | 1 << core % 32))
        most=$((word > most ? word : most))
    done
    text=$(printf '%x' "${words[most]:-0}")
    for ((word = most - 1; word >= 0; word--)); do
        text+=$(printf ',%08x' "${words[word]:-0}")
    done
    printf '%s' "$text"
}

# interrupts DEVICE: the numbers of its interrupts, in the order of its queues.
interrupts() {
    local device=$1
    if [[ -d $SYSFS/class/net/$device/device/msi_irqs ]]; then
        # The lines of /proc/interrupts name the queue; those of the device that carry none are for events.
        local number
        for number in $(find "$SYSFS/class/net/$device/device/msi_irqs" -mindepth 1 -printf '%f\n' | sort -n); do
            grep -E "^ *$number:.*(-rx|-Rx|TxRx|input|$device-[0-9])" "$PROCFS/interrupts" >/dev/null && echo "$number"
        done
    fi
}

tune() {
    local device=$1 queue number index=0
    local -a queues=("$SYSFS/class/net/$device/queues/"rx-*) numbers=()
    if [[ ! -d ${queues[0]} ]]; then
        echo "no network device $device" >&2
        exit 1
    fi
    if ((${#queues[@]} == 1)); then
        put "${queues[0]}/rps_cpus" "$(mask "${cores[@]}")"
        return
    fi
    for queue in "${queues[@]}"; do
        put "$queue/rps_cpus" 0
    done
    mapfile -t numbers < <(interrupts "$device")
    for number in "${numbers[@]}"; do
        put "$PROCFS/irq/$number/smp_affinity_list" "${cores[index % ${#cores[@]}]}"
        index=$((index + 1))
    done
}

revert() {
    local file value
    if [[ ! -f $STATE ]]; then
        echo "nothing was applied since the machine started" >&2
        return
    fi
    while read -r file value; do
        printf '%s\n' "$value" >"$file"
    done <"$STATE"
    rm -f "$STATE"
}

mode=dry-run
case ${1:-} in
--dry-run | --apply)
    mode=${1#--}
    shift
    ;;
--revert)
    revert
    exit
    ;;
-*) usage ;;
esac
(($# > 0)) || usage
read -r -a cores <<<"${CORES:-$(seq -s ' ' 0 $(($(nproc --all) - 1)))}"
for device in "$@"; do
    tune "$device"
done
