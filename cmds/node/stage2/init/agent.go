package main

import (
	"context"
	"os/exec"
	"time"
)

// agentProgram runs programs here for the administrator of the golden node, and
// tells golden what is on the console.
const agentProgram = "/bbin/agent"

// agentPause is between an agent's end, which isn't expected, and the next.
const agentPause = 10 * time.Second

// keepAgent runs the agent for as long as this stage lasts: also while a shell
// is kept.
func (s *stage2) keepAgent(ctx context.Context) {
	for ctx.Err() == nil {
		c := exec.CommandContext(ctx, agentProgram)
		c.Dir = "/"
		c.Stdout, c.Stderr = s.con, s.con
		if err := c.Run(); err != nil {
			s.con.Line("%s: %s: %v", title, agentProgram, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(agentPause):
		}
	}
}
