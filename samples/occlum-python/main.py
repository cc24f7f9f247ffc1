"""An ordinary Python program: it answers challenges with a key that it finds in a file. It knows nothing of MarbleRun."""

import hashlib
import hmac
import json
import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor


def answer(key: bytes, challenge: str) -> str:
    return hmac.new(key, challenge.encode(), hashlib.sha256).hexdigest()


def main() -> None:
    with open("/etc/app/config.json", encoding="utf-8") as file:
        config = json.load(file)
    with open(config["key"], "rb") as file:
        key = file.read()
    with ThreadPoolExecutor(max_workers=4) as pool:
        answers = list(pool.map(lambda challenge: answer(key, challenge), config["challenges"]))
    print(f"Python {platform.python_version().rpartition('.')[0]} on {os.uname().sysname}, arguments {sys.argv[1:]}")
    print(f"{len(set(answers))} answers with a key of {len(key)} bytes, for {os.environ['OWNER']}")


if __name__ == "__main__":
    main()
