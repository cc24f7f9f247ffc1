"""Prints the manifest of the sample: 300 arguments, and a variable of 64 KiB."""

import json

parameters = {
    "Argv": ["/bin/count", *(f"--route={number:03}" for number in range(300))],
    "Env": {"ROUTING_TABLE": {"Data": "203.0.113.1 via gw0;" * 3277, "NoTemplates": True}},
}
manifest = {
    "Packages": {"arguments": {"UniqueID": "0" * 64}},
    "Marbles": {"arguments": {"Package": "arguments", "Parameters": parameters}},
}
print(json.dumps(manifest, indent=2))
