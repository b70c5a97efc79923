package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// patience is for what happens within seconds unless it never does.
const patience = time.Minute

// A program that no signal ends is reported, and its place given back. This one
// has left the process group that is killed.
func TestProgramThatDoesNotEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for 7 seconds")
	}
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip("no perl")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	out := newSpool()
	ended := make(chan struct{})
	go func() { // ends with the program
		defer close(ended)
		runProgram(ctx, []string{"perl", "-e", `$| = 1; setpgrp(0, getpgrp(getppid())) or die $!; print "$$ "; sleep 300`}, out)
	}()
	pid := 0
	for begun := time.Now(); pid == 0; time.Sleep(10 * time.Millisecond) {
		if f, over, _ := out.next(1); f != nil && f.Exit == nil {
			pid, _ = strconv.Atoi(strings.TrimSpace(string(f.Out)))
		} else if f != nil || over || time.Since(begun) > patience {
			t.Fatalf("it doesn't run: %+v", f)
		}
	}
	defer syscall.Kill(pid, syscall.SIGKILL)
	cancel(errCancelled)
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the place is not given back")
	}
	f, _, _ := out.next(2)
	if f == nil || f.Exit == nil || f.Exit.Code == 0 || !strings.Contains(f.Exit.Error, "does not end") {
		t.Errorf("%+v", f)
	}
}

// endless has always something more.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// A golden node that takes nothing and says nothing holds no answer for good.
func TestAnswerToNobody(t *testing.T) {
	golden := identity(t)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", trust.ServerConfig(golden))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // ends with the listener, or with stop
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.(*tls.Conn).Handshake()
		<-stop
	}()
	a := New(Config{Server: ln.Addr().String(), Golden: golden.Pin, Identity: identity(t), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	a.heard = time.Now().Add(-deafAfter)
	ended := make(chan error, 1)
	go func() { ended <- a.post(t.Context(), wire.AnswersPath, endless{}) }()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the answer waits for good")
	}
}

// A golden node that was started anew has nobody ask for what was before.
func TestAnotherGolden(t *testing.T) {
	a, _ := listening(t, identity(t))
	a.mu.Lock()
	r := a.newRun(1)
	a.mu.Unlock()
	if err := a.welcomed(t.Context(), wire.AgentWelcome{Golden: "run2", Number: 40}); err != nil {
		t.Fatal(err)
	}
	if r.asked.Err() == nil || r.going.Err() == nil {
		t.Error("it goes on")
	}
}
