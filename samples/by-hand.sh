# Functions for pages of samples: a Coordinator under a development root, from building blocks that samples/README.md
# explains one by one. To be read by a shell in an empty directory (`. by-hand.sh`); $REPO is the
# repository, and its programs are in PATH.
# shellcheck shell=bash

# Starts a Coordinator in the background, under a development root of its own, and verifies it.
start_coordinator() {
    marble-sim root create root 2>/dev/null &&
        marble-sim collateral export coordinator/host/collateral --root root >/dev/null &&
        mkdir -p coordinator/image/etc/marblerun && cp "$REPO/samples/occlum-coordinator/Occlum.json" coordinator/ &&
        marble-sim image add --instance coordinator "$(command -v marblerun-coordinator)" --as /bin/marblerun-coordinator &&
        python3 -c 'import json; print(json.dumps({"Class": "software", "Roots": [open("root/root.pem").read()]}))' \
            >coordinator/image/etc/marblerun/trust.json || return
    marble-sim run --strict --instance coordinator --root root -- /bin/marblerun-coordinator >coordinator.log 2>&1 &
    until grep -qs listening coordinator.log; do sleep 0.1; done
    marblerun package-info coordinator --package-only >era-config.json 2>/dev/null &&
        marblerun certificate root localhost:4433 --trust-software-root root/root.pem --output root.pem 2>/dev/null
}

# Writes the measurement of instances into the packages of their names in manifest.json, and sets the manifest.
set_manifest() {
    local name
    for name; do
        marblerun package-info "$name" --into manifest.json --package "$name" >/dev/null 2>&1 || return
    done
    marblerun manifest set manifest.json localhost:4433 --trust-software-root root/root.pem 2>/dev/null
}

# Runs an instance as a Marble.
run_marble() {
    EDG_MARBLE_COORDINATOR_ADDR=localhost:2001 marble-sim run --strict --instance "$1" --root root -- /bin/premain-libos
}
