package layout

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzParseDesc: a desc is a file from anywhere.
func FuzzParseDesc(f *testing.F) {
	for _, s := range []string{manual, "swap 7993\nlinux 29996\nextended 38326\nlogical linux 38326\n", "typeEF 1 # x", "efi 100\nlinux 5\nswap fill", "logical efi 1", "logical", "linux fill\nlinux 16777216"} {
		f.Add(s, int64(8<<30))
	}
	f.Fuzz(func(t *testing.T, s string, bytes int64) {
		d, err := ParseDesc(strings.NewReader(s), "fuzz")
		if err != nil {
			if !strings.HasPrefix(err.Error(), "fuzz:") {
				t.Fatalf("error names no file: %v", err)
			}
			return
		}
		again, err := ParseDesc(strings.NewReader(d.Desc()), "again")
		if err != nil {
			t.Fatalf("%q: %v", d.Desc(), err)
		}
		if again.Desc() != d.Desc() {
			t.Fatalf("%q printed as %q", d.Desc(), again.Desc())
		}
		if fitted, err := d.Fit(bytes, 512); err == nil {
			check(t, fitted, bytes)
		}
	})
}

// FuzzFit: a layout comes to a node over the wire.
func FuzzFit(f *testing.F) {
	for _, s := range []string{
		`{"table":"dos","parts":[{"number":1,"kind":"primary","type":131,"size":1048576},{"number":2,"kind":"extended","type":5,"fill":true},{"number":5,"kind":"logical","type":130,"fill":true}]}`,
		`{"table":"none"}`,
		`{"table":"gpt","parts":[{"number":60,"kind":"primary","guid":"0FC63DAF-8483-4772-8E79-3D69D8477DE4","percent":20,"flags":["GUID:60"]},{"number":7,"kind":"primary","guid":"C12A7328-F81F-11D2-BA4B-00A0C93EC93B","size":5,"max":9999999,"boot":true},{"number":1,"kind":"primary","guid":"0657FD6D-A4AB-43C4-84E5-0933C84B4F4F","min":1,"size":99999999},{"number":2,"kind":"primary","guid":"0657FD6D-A4AB-43C4-84E5-0933C84B4F4F","fill":true,"max":5000000},{"number":3,"kind":"primary","guid":"0657FD6D-A4AB-43C4-84E5-0933C84B4F4F","fill":true}]}`,
		`{"table":"gpt","parts":[{"number":9,"kind":"primary","guid":"21686148-6449-6E6F-744E-656564454649","name":"x","size":1}]}`,
	} {
		f.Add([]byte(s), int64(1<<30), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, bytes int64, big bool) {
		var d Disk
		if json.Unmarshal(text, &d) != nil {
			return
		}
		sector := int64(512)
		if big {
			sector = 4096
		}
		fitted, err := d.Fit(bytes, sector)
		if err != nil {
			return
		}
		check(t, fitted, bytes)
		for _, to := range []Table{MBR, GPT} {
			_, _, err := d.To(to)
			if err != nil && d.Table != None && !strings.Contains(err.Error(), "a GPT has no type") && !strings.Contains(err.Error(), "want 1 to 60") && !strings.Contains(err.Error(), "layout has 0 partitions") {
				t.Fatalf("%+v: %v", d, err)
			}
		}
		if lines := strings.Count(fitted.Script(), "\n"); lines != len(d.Parts)+4 && d.Table != None {
			t.Fatalf("%d lines for %d partitions: %q", lines, len(d.Parts), fitted.Script())
		}
	})
}
