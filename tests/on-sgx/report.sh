#!/usr/bin/env bash
# Tries on this machine what the simulator only emulates, and prints one table that can be sent to us. It holds properties
# of processor, kernel and tools, measurements, and verdicts: no key, no address, no name of machine or user.
#
# Usage: report.sh [directory for its work, default: a temporary one]
#
# Environment: OCCLUM (default: occlum), COPY_BOM (default: copy_bom), CC (default: cc; its C library must not be newer than
# that of Occlum's image). How to prepare a machine: docs/on-sgx.md. Exit code: 0 if nothing failed or differed, else 1.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
occlum=${OCCLUM:-occlum}
copy_bom=${COPY_BOM:-copy_bom}
work=${1:-$(mktemp -d -t marblerun-on-sgx-XXXXXX)}
mkdir -p "$work" && work=$(cd "$work" && pwd) || exit 2
log=$work/report.log
: >"$log"
simulated=
[[ $(basename "$occlum") == occlum-simulated ]] && simulated=simulated

declare -A count=([pass]=0 [FAIL]=0 [differs]=0 [skip]=0)

row() { # verdict, check, what was found
    local found=${3//[^[:print:]]/ }
    printf '%-8s %-32s %s\n' "$1" "$2" "${found:0:150}"
    count[$1]=$((count[$1] + 1))
}

# A property of the machine: without SGX its absence says nothing.
machine() { # check, true or false, what was found
    if [[ $2 == true ]]; then
        row pass "$1" "$3"
    elif [[ $simulated ]]; then
        row skip "$1" "simulated"
    else
        row FAIL "$1" "$3"
    fi
}

try() { # check, command...
    local check=$1
    shift
    echo "\$ $*" >>"$log"
    if "$@" >>"$log" 2>&1; then
        row pass "$check" 'done'
    else
        row FAIL "$check" "exit code $?; see $(basename "$log") in the work directory"
        return 1
    fi
}

# Whether two texts are the same.
same() { # check, expected, got
    if [[ $2 == "$3" ]]; then row pass "$1" "$3"; else row differs "$1" "expected $2, got $3"; fi
}

heading() { printf '\n%s\n' "$1"; }

in_directory() { (cd "$1" && shift && "$@"); }

truth() { if "$@" >/dev/null 2>&1; then echo true; else echo false; fi; }

check_machine() {
    heading 'Machine'
    local flags kernel system device
    flags=" $(sed -n 's/^flags[[:space:]]*: //p' /proc/cpuinfo | head -1) "
    kernel=$(uname -r)
    system=$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release)
    row pass 'system' "$system, Linux $kernel, $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1)"
    machine 'processor has SGX' "$(truth grep -q ' sgx ' <<<"$flags")" 'flag sgx in /proc/cpuinfo'
    machine 'flexible launch control' "$(truth grep -q ' sgx_lc ' <<<"$flags")" 'flag sgx_lc in /proc/cpuinfo'
    machine 'FSGSBASE' "$(truth grep -q ' fsgsbase ' <<<"$flags")" 'flag fsgsbase (kernel 5.9 or later)'
    for device in enclave provision; do
        machine "device sgx_$device" "$(truth test -r "/dev/sgx_$device" -o -r "/dev/sgx/$device")" \
            "/dev/sgx_$device or /dev/sgx/$device, readable"
    done
    machine 'AESM service' "$(truth test -S /var/run/aesmd/aesm.socket)" '/var/run/aesmd/aesm.socket'
    machine 'quote provider library' "$(truth sh -c 'ldconfig -p | grep -q libdcap_quoteprov')" 'libdcap_quoteprov.so.1'
    check_pccs
}

check_pccs() {
    local file=/etc/sgx_default_qcnl.conf url code
    if [[ ! -r $file ]]; then
        machine 'collateral source' false "no $file"
        return
    fi
    # JSON with comments, or in old versions PCCS_URL=…
    url=$(sed -nE 's/^[^/#]*"?(pccs_url|PCCS_URL)"?[[:space:]]*[:=][[:space:]]*"?([^",]*).*/\2/p' "$file" | head -1)
    code=$(curl --silent --insecure --output /dev/null --write-out '%{http_code}' --max-time 10 "${url%/}/rootcacrl")
    machine 'collateral source' "$([[ $code == 200 ]] && echo true || echo false)" "$file, /rootcacrl: HTTP $code"
}

version_of() {
    if [[ $1 == openssl ]]; then openssl version; else "$1" --version 2>/dev/null | head -1; fi
}

check_tools() {
    heading 'Tools'
    local version name
    if [[ $simulated ]]; then
        version='marble-sim in its place'
    else
        version=$(dpkg-query -W -f '${Package} ${Version}; ' 'occlum*' 2>/dev/null || true)
        version="${version:-version unknown}"
    fi
    machine 'occlum' "$(truth command -v "$occlum")" "$version"
    machine 'sgx_sign' "$(truth test -x "${SGX_SDK:-/opt/intel/sgxsdk}/bin/x64/sgx_sign")" 'in the SGX SDK'
    for name in marblerun "${CC:-cc}" openssl; do
        if command -v "$name" >/dev/null; then
            row pass "$name" "$(version_of "$name")"
        else
            row FAIL "$name" 'not in PATH'
        fi
    done
}

# The probe and the files around it.
make_probe() {
    mkdir -p "$work/probe-files/bin" "$work/probe-files/etc" && cd "$work/probe-files" &&
        "${CC:-cc}" -O1 -fPIE -pie -pthread -o bin/probe "$here/probe.c" &&
        echo 'int main(void) { return 0; }' >static.c && "${CC:-cc}" -static -o bin/static-program static.c &&
        echo garbage >bin/garbage && printf '#!/bin/probe\n' >bin/script && printf '#!/bin/probe x\n' >bin/script-with-argument &&
        chmod 755 bin/* && cp bin/probe etc/not-executable && chmod 644 etc/not-executable
}

make_probe_instance() {
    cd "$work" && rm -rf probe && "$occlum" new probe && cd probe &&
        cp "$here/Occlum.json" "$here/image.yaml" . && cp -rp "$work/probe-files/." . &&
        $copy_bom -f image.yaml --root image --include-dir /opt/occlum/etc/template &&
        echo '127.0.0.2 of-the-image' >>image/etc/hosts && "$occlum" build --sign-key "$work/key.pem"
}

probe() { in_directory "$work/probe" "$occlum" run "$@" 2>>"$log"; }

exit_code() { # check, expected, program and arguments
    local check=$1 expected=$2 code
    shift 2
    probe "$@" >>"$log"
    code=$?
    same "$check" "$expected" "$code"
}

check_rules() {
    heading 'Rules of Occlum, as the simulator keeps them'
    # A key for this report only: exponent 3 and 3072 bits are what SGX has.
    try 'signing key' openssl genrsa -3 -out "$work/key.pem" 3072 || return
    try 'build the probe' in_directory . make_probe || return
    try 'build its instance' in_directory . make_probe_instance || return

    local rule verdict found complete=
    while IFS=$'\t' read -r rule verdict found; do
        [[ $verdict == pass || $verdict == differs || $verdict == skip ]] || continue
        row "$verdict" "$rule" "$found"
        [[ $rule == probe-complete ]] && complete=yes
    done < <(probe /bin/probe rules $simulated)
    [[ $complete ]] || row FAIL 'probe-complete' 'the probe ended before its last rule'

    exit_code 'exit code 0' 0 /bin/probe exit 0
    exit_code 'exit code 3' 3 /bin/probe exit 3
    exit_code 'exit code 128 has 7 bits' 0 /bin/probe exit 128
    exit_code 'exit code 200 has 7 bits' 72 /bin/probe exit 200
    exit_code 'death by SIGABRT' 134 /bin/probe abort
    exit_code 'entry point: outside' 127 /lib/probe/probe exit 0
    exit_code 'entry point: with ..' 127 /bin/../bin/probe exit 0
    exit_code 'entry point: relative' 127 bin/probe exit 0
    exit_code 'entry point: absent program' 127 /bin/absent

    local variables
    variables=$(PROBE_X=9 PROBE_SECRET=no PROBE_B=8 PROBE_A=7 probe /bin/probe environment)
    same 'environment: measured first' 'OCCLUM=yes PROBE_A=1 PROBE_C=3' \
        "$(head -3 <<<"$variables" | tr '\n' ' ' | sed 's/ $//')"
    # The order of the host's entries is that of the shell which starts Occlum.
    same 'environment: listed names' 'PROBE_B=8 PROBE_X=9' \
        "$(tail -n +4 <<<"$variables" | sort | tr '\n' ' ' | sed 's/ $//')"
}

check_measurement() {
    heading 'Measurement'
    local shown printed
    shown=$(marblerun package-info "$work/probe" --output json 2>>"$log")
    for member in UniqueID:mrenclave SignerID:mrsigner; do
        printed=$(in_directory "$work/probe" "$occlum" print "${member#*:}" 2>>"$log" | tr -d '[:space:]')
        same "package-info: ${member%:*}" "$printed" \
            "$(sed -nE "s/.*\"${member%:*}\" *: *\"([0-9a-f]*)\".*/\1/p" <<<"$shown" | head -1)"
    done
}

main() {
    echo "MarbleRun on SGX, report of $(date --utc +%Y-%m-%d)${simulated:+, SIMULATED: marble-sim in place of occlum}"
    check_machine
    check_tools
    check_rules
    check_measurement
    # shellcheck source=tests/on-sgx/marble.sh
    . "$here/marble.sh"
    check_marble
    printf '\n%d passed, %d failed, %d differ, %d skipped\n' \
        "${count[pass]}" "${count[FAIL]}" "${count[differs]}" "${count[skip]}"
    [[ ${count[FAIL]} == 0 && ${count[differs]} == 0 ]]
}

main
