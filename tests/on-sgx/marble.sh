# The part of report.sh that deploys: a Coordinator, its verification, and a Marble. Read by it, not to be executed.
# shellcheck shell=bash disable=SC2154

# The Coordinator's own variables say where it listens.
address=localhost${EDG_COORDINATOR_CLIENT_ADDR:-:4433}
mesh=localhost${EDG_COORDINATOR_MESH_ADDR:-:2001}
coordinator_pid=
service_pid=

# The programs for images: of `cargo xtask dist`, or, where nothing is measured for hardware, any.
program_for_image() { # name
    if [[ $simulated && ! ${MARBLERUN_DIST-} ]]; then
        command -v "$1"
    else
        echo "${MARBLERUN_DIST:-$repository/dist}/$1"
    fi
}

make_coordinator() {
    local program sample=$repository/samples/occlum-coordinator
    program=$(program_for_image marblerun-coordinator) && cd "$work" && rm -rf coordinator && "$occlum" new coordinator &&
        cd coordinator || return
    if [[ -d $(dirname "$program")/coordinator-instance ]]; then
        cp -r "$(dirname "$program")/coordinator-instance/." . || return
    else
        mkdir -p host/collateral && cp "$program" "$sample/Occlum.json" . &&
            sed "s/@SHA256@/$(sha256sum "$program" | cut -d ' ' -f 1 | tr a-f A-F)/" "$sample/image.yaml" >image.yaml || return
    fi
    $copy_bom -f image.yaml --root image --include-dir /opt/occlum/etc/template || return
    if [[ $simulated ]]; then
        # A development root in place of the vendor: it is named in the measured image, and to the command line.
        mkdir -p image/etc/marblerun &&
            python3 -c 'import json, sys; print(json.dumps({"Class": "software", "Roots": [sys.stdin.read()]}))' \
                <"$MARBLE_SIM_ROOT/root.pem" >image/etc/marblerun/trust.json || return
    fi
    "$occlum" build --sign-key "$work/key.pem"
}

start_coordinator() {
    (cd "$work/coordinator" && exec "$occlum" run /bin/marblerun-coordinator) >"$work/coordinator.log" 2>&1 &
    coordinator_pid=$!
    trap stop_all EXIT
    # An enclave of this size takes some seconds.
    local tries
    for tries in {1..600}; do
        grep -q listening "$work/coordinator.log" && return
        kill -0 "$coordinator_pid" 2>/dev/null || break
        sleep 0.2
    done
    tail -n 20 "$work/coordinator.log"
    return 1
}

# The command line, which believes the Coordinator by its quote only. Nothing of it reaches the user's own files.
client() {
    local options=(--era-config "$work/coordinator-era.json" --coordinator-cert "$work/coordinator-cert.pem"
        --collateral "$work/coordinator/host/collateral")
    [[ $simulated ]] && options+=(--trust-software-root "$MARBLE_SIM_ROOT/root.pem")
    marblerun "$@" "${options[@]}"
}

# Of the platform that made the Coordinator's quote, from the service that the machine is configured with.
fetch_collateral() {
    local source=(--qcnl /etc/sgx_default_qcnl.conf)
    if [[ $simulated ]]; then
        marble-sim collateral serve --root "$MARBLE_SIM_ROOT" >"$work/collateral.url" 2>/dev/null &
        service_pid=$!
        until grep -qs . "$work/collateral.url"; do sleep 0.1; done
        source=(--url "$(head -1 "$work/collateral.url")")
    fi
    client collateral fetch "$address" "${source[@]}" --output "$work/coordinator/host/collateral"
}

make_marble() {
    local libc=()
    [[ $simulated ]] || libc=(--libc-from /opt/occlum/glibc/lib)
    cd "$work" && rm -rf hello enclave && printf '#include <stdio.h>\nint main(int argc, char **argv) { return %s; }\n' \
        'argc != 2 || printf("Hello, %s!\n", argv[1]) < 0' >hello_world.c &&
        "${CC:-cc}" -O2 -fPIE -pie -o hello_world hello_world.c &&
        marblerun occlum init hello --program hello_world --coordinator-root root.pem "${libc[@]}" \
            --premain "$(program_for_image premain-libos)" -- world &&
        "$occlum" new enclave && rm -r enclave/image enclave/Occlum.json && cp -a hello/image hello/Occlum.json enclave/ &&
        in_directory enclave "$occlum" build --sign-key "$work/key.pem" &&
        marblerun package-info enclave --into hello/manifest.json --package hello_world
}

run_marble() {
    in_directory "$work/enclave" env EDG_MARBLE_COORDINATOR_ADDR="$mesh" "$occlum" run /bin/premain-libos 2>>"$log"
}

stop_all() {
    # The shell would tell of each killed job on the terminal.
    disown -a
    kill -KILL $coordinator_pid $service_pid 2>/dev/null
}

check_marble() {
    heading 'Coordinator and Marble'
    try 'instance of the Coordinator' in_directory . make_coordinator || return
    marblerun package-info "$work/coordinator" --package-only >"$work/coordinator-era.json" 2>>"$log"
    row pass 'measurement of the Coordinator' "$(tr -d '{}" \n' <"$work/coordinator-era.json")"
    try 'it starts' start_coordinator || return
    try 'collateral of this platform' fetch_collateral || return
    try 'its quote is verified' client status "$address" || return
    try 'its root certificate' client certificate root "$address" --output "$work/root.pem" || return
    try 'instance of a Marble' in_directory . make_marble || return
    try 'it keeps the rules' marblerun occlum check "$work/enclave" --manifest "$work/hello/manifest.json"
    try 'its manifest is set' client manifest set "$work/hello/manifest.json" "$address" || return
    same 'it is attested and runs' 'Hello, world!' "$(run_marble)"
    stop_all
}
