package golden

import (
	"fmt"
	"os"

	"github.com/kamethod/kamethod/golden/internal/sessionsfile"
)

// SessionsFile is what the file of golden-serve sessions says.
type SessionsFile = sessionsfile.File

// SessionOf is one deployment of it, and SessionWord an option there.
type (
	SessionOf   = sessionsfile.Deployment
	SessionWord = sessionsfile.Word
)

// ReadSessions reads a file of several deployments.
func ReadSessions(path string) (SessionsFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return SessionsFile{}, fmt.Errorf("open the list of sessions: %w", err)
	}
	defer f.Close()
	return sessionsfile.Parse(f, path)
}
