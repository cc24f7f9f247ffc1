// An ordinary Go program: goroutines answer challenges with a key from a file. It knows nothing of MarbleRun.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"sync"
)

func answer(key []byte, challenge string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(challenge))
	return hex.EncodeToString(mac.Sum(nil))
}

func main() {
	key, err := os.ReadFile("/etc/app/key")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	challenges := os.Args[1:]
	answers := make([]string, len(challenges))
	var group sync.WaitGroup
	for index, challenge := range challenges {
		group.Add(1)
		go func(index int, challenge string) {
			defer group.Done()
			answers[index] = answer(key, challenge)
		}(index, challenge)
	}
	group.Wait()
	different := map[string]bool{}
	for _, text := range answers {
		different[text] = true
	}
	fmt.Printf("%d answers with a key of %d bytes, for %s\n", len(different), len(key), os.Getenv("OWNER"))
}
