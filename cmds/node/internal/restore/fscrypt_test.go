package restore

import (
	"bytes"
	"encoding/binary"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// addKey gives the file system at dir a key (struct fscrypt_add_key_arg and
// FS_IOC_ADD_ENCRYPTION_KEY, linux/fscrypt.h) and returns the key's name.
func addKey(t *testing.T, dir string) []byte {
	t.Helper()
	// key_spec: type 4, reserved 4, a union of 32; raw_size 4, key_id 4, reserved 32; then the key.
	arg := make([]byte, 80+64)
	binary.NativeEndian.PutUint32(arg, 2) // FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER
	binary.NativeEndian.PutUint32(arg[40:], 64)
	copy(arg[80:], bytes.Repeat([]byte("k"), 64))
	ioctlBytes(t, dir, 0xc0506617, arg)
	return arg[8:24]
}

// encrypt locks an empty directory (struct fscrypt_policy_v2 and
// FS_IOC_SET_ENCRYPTION_POLICY).
func encrypt(t *testing.T, dir string, id []byte) {
	t.Helper()
	// version 2, AES-256-XTS, AES-256-CTS, names padded to 32 bytes, reserved 4, the key's name.
	policy := append([]byte{2, 1, 4, 3, 0, 0, 0, 0}, id...)
	ioctlBytes(t, dir, 0x800c6613, policy)
}

func ioctlBytes(t *testing.T, dir string, request uintptr, arg []byte) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&arg[0]))); errno != 0 {
		t.Skipf("this kernel can't encrypt: ioctl %#x: %v", request, errno)
	}
}
