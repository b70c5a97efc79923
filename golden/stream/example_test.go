package stream_test

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/kamethod/kamethod/golden/stream"
)

// The manifest that the package comment shows.
func Example() {
	var out bytes.Buffer
	enc := stream.NewEncoder(&out)
	for _, err := range []error{
		enc.Entry(&stream.Entry{Type: stream.Dir, Mode: 0o755, Sec: 100}),
		enc.Group(0),
		enc.Entry(&stream.Entry{Type: stream.File, Name: "a", Mode: 0o644, UID: 1000, Sec: 99, Nsec: 5, Dense: true, Size: 300}),
		enc.Entry(&stream.Entry{Type: stream.HardLink, Name: "b", Target: 1}),
		enc.Close(),
	} {
		if err != nil {
			fmt.Println(err)
		}
	}
	fmt.Print(hex.Dump(out.Bytes()))
	m, err := stream.Decode(out.Bytes())
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, e := range m.Entries {
		fmt.Printf("%c %q %04o %d\n", e.Type, m.Path(int32(i)), e.Mode, e.Size)
	}
	// Output:
	// 00000000  6b 61 6d 74 72 65 65 0a  02 00 00 00 0c 64 00 ed  |kamtree......d..|
	// 00000010  03 00 00 c8 01 00 00 00  00 02 47 00 11 66 01 61  |..........G..f.a|
	// 00000020  a4 03 e8 07 00 01 05 00  00 00 ac 02 00 00 04 68  |...............h|
	// 00000030  01 62 01 04 45 03 ac 02                           |.b..E...|
	// d "" 0755 0
	// f "a" 0644 300
	// h "b" 0000 0
}
