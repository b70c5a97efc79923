package roster

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func sameMachines(t *testing.T, what string, got, want []Machine) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Machine{}), cmpopts.EquateApproxTime(0)); d != "" {
		t.Errorf("%s (-before +after):\n%s", what, d)
	}
}

// What golden was told before it ended, it knows when it comes back; another
// session of the same name begins anew.
func TestJournalOverARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "nodes.jsonl")
	c := newClock()
	cfg := Config{Session: "s", Run: "1", Max: 4, Path: path, Now: c.time}
	r := mustOpen(t, cfg)
	for _, mac := range []string{one, two, three} {
		r.clone(t, mac)
	}
	r.Finished(one)
	r.Failed(two, "mkfs: \"no space\" <&>\n")
	r.Crashed(three, "switched off")
	r.boots(four)
	if err := r.Disarm([]string{"52:54:00:00:00:05"}); err != nil {
		t.Fatal(err)
	}
	r.looks("52:54:00:00:00:06")
	before := r.List()
	other := mustOpen(t, cfg)
	if other.journal != nil {
		t.Error("two have the same journal")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	saved, err := ReadFile(path)
	if err != nil || saved.Session != "s" || saved.Run != "1" {
		t.Errorf("reads session %q, run %q: %v", saved.Session, saved.Run, err)
	}
	r = mustOpen(t, cfg)
	sameMachines(t, "restart", r.List(), before)
	for mac, want := range map[string]Verdict{one: OwnDisk, two: OwnDisk, three: Image, four: Image, "52:54:00:00:00:05": OwnDisk, "52:54:00:00:00:06": OwnDisk} {
		if got := r.boots(mac); got != want {
			t.Errorf("%s after a restart: %v, want %v", mac, got, want)
		}
	}
	for range maxAgain {
		r.Crashed(three, "switched off")
	}
	wantState(t, r, three, Failed) // the crash before the restart counts
	r.Close()
	cfg.Run = "2"
	r = mustOpen(t, cfg)
	for _, m := range r.List() {
		if m.State != Seen || m.Barred || m.By != "" || m.MAC == one && m.Was != Done {
			t.Errorf("in another session: %+v", m)
		}
	}
	if r.boots(one) != Image || r.taken != 1 {
		t.Error("a new session can't clone what an earlier one has cloned")
	}
}

// A list of machines is not widened by those of an earlier run, but for those
// whom the administrator has armed.
func TestJournalArmsNobodyBesideTheList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nodes.jsonl")
	r := mustOpen(t, Config{Max: 2, Path: path})
	for _, mac := range []string{one, two} {
		r.clone(t, mac)
	}
	if err := r.Arm([]string{three}); err != nil {
		t.Fatal(err)
	}
	r.Close()
	r = mustOpen(t, Config{Max: 2, Path: path, Named: []string{one}})
	for mac, want := range map[string]Verdict{one: Image, two: Ignore, three: Image} {
		if got := r.looks(mac); got != want {
			t.Errorf("%s: %v, want %v", mac, got, want)
		}
	}
	r.Close()
	r = mustOpen(t, Config{Max: 2, Path: path, Named: []string{four}})
	r.Recall(four, 1, Done)
	r.Recall(two, 2, Cloning)
	r.Recall(three, 3, Done)
	for mac, want := range map[string]Verdict{four: OwnDisk, two: Ignore, three: Image} {
		if got := r.looks(mac); got != want {
			t.Errorf("%s: %v, want %v", mac, got, want)
		}
	}
}

// Wherever the last write was cut, all lines before it count.
func TestTornJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nodes.jsonl")
	r := mustOpen(t, Config{Max: 4, Path: path})
	r.clone(t, one)
	r.Finished(one)
	r.clone(t, two)
	r.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	done := bytes.Index(whole, []byte(`"done"`))
	end := done + bytes.IndexByte(whole[done:], '\n') + 1
	for cut := end; cut < len(whole); cut++ {
		s, err := read(bytes.NewReader(whole[:cut]))
		if err != nil || s.Machines[0].State != Done {
			t.Fatalf("cut at %d: %+v, %v", cut, s, err)
		}
		if cut%64 > 0 && cut != len(whole)-1 { // a disk is slow
			continue
		}
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		r := mustOpen(t, Config{Max: 4, Path: path})
		wantState(t, r, one, Done)
		if s := r.State(two); s != Unknown && s != Seen && s != Armed && s != Booting && s != Cloning {
			t.Errorf("cut at %d: the second machine is %q", cut, s)
		}
		r.clone(t, three) // goes on behind the cut
		r.Close()
		r = mustOpen(t, Config{Max: 4, Path: path})
		wantState(t, r, one, Done)
		wantState(t, r, three, Cloning)
		r.Close()
	}
}

// A journal that is none is set aside, and lines in it that are none are left
// out.
func TestJournalOfNoUse(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "binary": "\x00\xff\xfe", "another file": "{\"session\":\"s\"}\n", "endless line": strings.Repeat("x", 3*maxLine), "text": "hello\n",
	} {
		path := filepath.Join(t.TempDir(), "nodes.jsonl")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := mustOpen(t, Config{Max: 1, Path: path})
		r.clone(t, one)
		r.Close()
		if b, err := os.ReadFile(path + ".old"); err != nil || string(b) != text {
			t.Errorf("%s: not kept: %v", name, err)
		}
		wantState(t, mustOpen(t, Config{Max: 1, Path: path}), one, Cloning)
	}
	s, err := read(strings.NewReader(`{"journal":"kamethod nodes 1","session":"s","run":"r"}
{"mac":"52:54:00:00:00:01","state":"done"}
nonsense
{"mac":"52:54:00:00:00:02","state":"emperor"}
{"mac":"52:54:00:00:00:02","state":""}
{"mac":"FF:FF:FF:FF:FF:FF","state":"armed"}
{"mac":"` + strings.Repeat("5", 2*maxLine) + `","state":"armed"}
{"mac":"52:54:00:00:00:03","state":"armed"}
{"mac":"52:54:00:00:00:03","state":"cloning","error":"` + strings.Repeat("\u00e4", 300) + `"}
{"mac":"52:54:00:00:00:01","state":"armed"}`))
	if err != nil || len(s.Machines) != 2 || s.Machines[0].State != Done || s.Machines[1].State != Cloning || len(s.Machines[1].Error) != maxCause {
		t.Errorf("%+v, %v", s.Machines, err)
	}
	path := filepath.Join(t.TempDir(), "huge")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, maxFile+1); err != nil { // a hole: no disk is filled
		t.Fatal(err)
	}
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a huge file: %v", err)
	}
}

// A journal that can't be written to stops nothing, and is reported.
func TestJournalFull(t *testing.T) {
	var log bytes.Buffer
	r := mustOpen(t, Config{Max: 1, Path: filepath.Join(t.TempDir(), "nodes.jsonl"), Log: slog.New(slog.NewTextHandler(&log, nil))})
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.journal.f.Close()
	r.journal.f = full
	r.clone(t, one)
	r.Finished(one)
	wantState(t, r, one, Done)
	if n := strings.Count(log.String(), "no space left"); n != 1 {
		t.Errorf("said %d times that the journal can't be written:\n%s", n, log.String())
	}
}

// TestKilled: whatever the process had said that it had done is in the journal
// after kill -9, at any moment, again and again on the same file.
func TestKilled(t *testing.T) {
	const env = "ROSTER_TEST_JOURNAL"
	if path := os.Getenv(env); path != "" {
		writeUntilKilled(path)
		return
	}
	path := filepath.Join(t.TempDir(), "nodes.jsonl")
	last := map[string]State{}
	steps := 0
	for round := range 12 {
		c := exec.Command(os.Args[0], "-test.run=^TestKilled$", "-test.timeout=2m")
		c.Env = append(os.Environ(), env+"="+path)
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := c.StdoutPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		// The last line that comes out whole is the last that it has said.
		said := bufio.NewScanner(out)
		for n := 0; said.Scan(); n++ {
			var mac string
			var s State
			if k, _ := fmt.Sscanf(said.Text(), "is %s %s .", &mac, &s); k == 2 && strings.HasSuffix(said.Text(), ".") {
				last[mac] = s
				steps++
			}
			if n == 40+37*round {
				c.Process.Kill()
			}
		}
		c.Wait()
		r := mustOpen(t, Config{Max: MaxMachines, Path: path})
		for mac, s := range last {
			got := r.State(mac)
			_, next := moves[map[State]event{Armed: getsImage, Booting: registers, Cloning: finishes, Done: finishes}[s]]
			if got != s && !(next && later(got, s)) {
				t.Errorf("round %d: %s was said to be %s, and is %q after the restart", round, mac, s, got)
			}
		}
		for _, m := range r.List() {
			last[m.MAC] = m.State
		}
		r.Close()
	}
	if steps < 100 || len(last) < 20 {
		t.Errorf("only %d steps of %d machines: the test shows nothing", steps, len(last))
	}
	t.Logf("%d steps of %d machines", steps, len(last))
}

// later tells whether a machine may have gone on from b to a unheard.
func later(a, b State) bool {
	course := []State{Armed, Booting, Cloning, Done}
	at := func(s State) int {
		for i, x := range course {
			if x == s {
				return i
			}
		}
		return -1
	}
	return at(a) == at(b)+1
}

// writeUntilKilled is the child: it says what it has done when it is done.
func writeUntilKilled(path string) {
	r, err := Open(Config{Max: MaxMachines, Path: path, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := len(r.List()); i < MaxMachines; i++ {
		mac := fmt.Sprintf("52:54:00:01:%02x:%02x", i>>8, i&255)
		for _, step := range []func(){
			func() { r.boots(mac) }, func() { r.Sent(mac, Image) }, func() { r.Registered(mac, i, "n", "", "") }, func() { r.Finished(mac) },
		} {
			step()
			fmt.Printf("is %s %s .\n", mac, r.State(mac))
			if i%64 == 0 {
				r.flushed = time.Time{}
				r.Tick()
			}
		}
	}
	time.Sleep(time.Minute) // to be killed
}

// FuzzJournal: whatever a file holds, reading it ends, and what comes of it
// can be written and is read as the same.
func FuzzJournal(f *testing.F) {
	head := `{"journal":"kamethod nodes 1","session":"s","run":"2026-11-21T07:00:00.000000001Z"}` + "\n"
	for _, s := range []string{
		"", head, head + `{"mac":"52:54:00:00:00:01","state":"armed","since":"2026-11-21T07:00:00Z","until":"2026-11-21T07:30:00Z","armed_by":"coming"}` + "\n",
		head + `{"mac":"52:54:00:00:00:01","state":"done","since":"2026-11-21T07:00:00.5+01:00","number":-1,"last":"sent vmlinuz (TFTP)","lost":2,"home":true}` + "\n" +
			`{"mac":"52:54:00:00:00:01","state":"fail`,
		head + strings.Repeat("x", maxLine+1) + "\n" + `{"mac":"52:54:00:00:00:02","state":"seen","was":"done","since":"9999-12-31T23:59:59-23:59"}` + "\n",
		head + `{"mac":"52:54:00:00:00:01","state":"cloning","error":"` + "\\u0000\\u2028\xff" + `"}` + "\n\n\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := read(bytes.NewReader(b))
		if err != nil {
			if len(s.Machines) > 0 {
				t.Errorf("%d machines of what is no journal: %v", len(s.Machines), err)
			}
			return
		}
		var again bytes.Buffer
		again.WriteString(head)
		for i := range s.Machines {
			line := s.Machines[i].line()
			if len(line) > maxLine {
				t.Errorf("a line of %d bytes", len(line))
			}
			again.Write(line)
		}
		back, err := read(&again)
		if err != nil || len(back.Machines) != len(s.Machines) || len(s.Machines) > maxRead {
			t.Fatalf("%d machines, read again %d: %v", len(s.Machines), len(back.Machines), err)
		}
		sameMachines(t, "read again", back.Machines, s.Machines)
		if _, err := read(errReader{}); err == nil {
			t.Error("a read error is lost")
		}
	})
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("EIO") }
