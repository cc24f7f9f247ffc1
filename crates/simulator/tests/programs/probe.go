// A static program that makes system calls without any libc.
package main

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

func ioctl(fd int, command, argument uintptr) {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), command, argument); errno != 0 {
		fmt.Println("ioctl failed:", errno)
		os.Exit(99)
	}
}

func text(field [65]int8) string {
	var bytes []byte
	for _, character := range field {
		if character == 0 {
			break
		}
		bytes = append(bytes, byte(character))
	}
	return string(bytes)
}

func main() {
	var name syscall.Utsname
	if err := syscall.Uname(&name); err != nil {
		os.Exit(99)
	}
	fd, err := syscall.Open("/dev/sgx", syscall.O_RDONLY, 0)
	if err != nil {
		fmt.Println("open failed:", err)
		os.Exit(99)
	}
	var size uint32
	ioctl(fd, 0x80047307, uintptr(unsafe.Pointer(&size)))
	quote := make([]byte, size)
	var data [64]byte
	for i := range data {
		data[i] = byte(i)
	}
	argument := struct {
		data  *byte
		size  *uint32
		quote *byte
	}{&data[0], &size, &quote[0]}
	ioctl(fd, 0xC0187308, uintptr(unsafe.Pointer(&argument)))
	if string(quote[368:432]) != string(data[:]) {
		fmt.Println("other report data")
		os.Exit(99)
	}
	fmt.Printf("identity: %s %s %s quote of %d bytes with the report data\n",
		text(name.Sysname), text(name.Release), text(name.Machine), size)
}
