package vmlab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"time"
)

// qmp is QEMU's control socket (the QEMU Machine Protocol): commands go in,
// answers and events come out.
type qmp struct {
	conn    net.Conn
	onEvent func(name string, data json.RawMessage)
	answers chan qmpMessage
	ended   chan struct{}

	mu sync.Mutex // one command at a time
}

type qmpMessage struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

func openQMP(ctx context.Context, socket string, onEvent func(string, json.RawMessage)) (*qmp, error) {
	conn, err := dialUnix(ctx, socket)
	if err != nil {
		return nil, err
	}
	q := &qmp{conn: conn, onEvent: onEvent, answers: make(chan qmpMessage, 1), ended: make(chan struct{})}
	go q.read() // ends with the connection
	if err := q.do(ctx, "qmp_capabilities", nil); err != nil {
		conn.Close()
		return nil, err
	}
	return q, nil
}

func (q *qmp) read() {
	defer close(q.ended)
	d := json.NewDecoder(q.conn)
	for {
		var m qmpMessage
		if err := d.Decode(&m); err != nil {
			return
		}
		switch {
		case m.Event != "":
			q.onEvent(m.Event, m.Data)
		case m.Return != nil || m.Error != nil: // not the greeting
			q.answers <- m // one command, one answer: never blocks
		}
	}
}

// do gives a command and waits for its answer.
func (q *qmp) do(ctx context.Context, command string, args any) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request := map[string]any{"execute": command}
	if args != nil {
		request["arguments"] = args
	}
	b, err := json.Marshal(request)
	if err != nil {
		return err
	}
	_ = q.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	if _, err := q.conn.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	select {
	case m := <-q.answers:
		if m.Error != nil {
			return fmt.Errorf("qmp %s: %s", command, m.Error.Desc)
		}
		return nil
	case <-q.ended:
		return fmt.Errorf("qmp %s: the machine is gone", command)
	case <-ctx.Done():
		return fmt.Errorf("qmp %s: %w", command, ctx.Err())
	}
}
