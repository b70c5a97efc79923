package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"net/url"
	"path"
	"strconv"
	"time"

	"github.com/jlaffaye/ftp"
)

// ftpPort is RFC 959's, 5.2.
const ftpPort = 21

// ftpFiles is a folder on an FTP server, which anybody may read.
type ftpFiles struct {
	Config
	base url.URL
	at   string               // HOST:PORT
	time map[string]time.Time // of the last change, by name
}

func newFTP(c Config) *ftpFiles {
	host, port := hostPort(c.Server, ftpPort)
	f := &ftpFiles{Config: c, at: net.JoinHostPort(host, port), time: map[string]time.Time{}}
	f.base = url.URL{Scheme: "ftp", Host: host, Path: path.Join(c.Directory, Folder)}
	if port != strconv.Itoa(ftpPort) {
		f.base.Host = f.at
	}
	return f
}

func (f *ftpFiles) url(name string) string { return f.base.JoinPath(name).String() }

func (f *ftpFiles) close() {}

// login connects as anonymous (RFC 1635).
func (f *ftpFiles) login(ctx context.Context) (*ftp.ServerConn, error) {
	c, err := ftp.Dial(f.at, ftp.DialWithDialFunc(func(_, address string) (net.Conn, error) {
		return dial(ctx, address, f.Stall) // the connections for data, too
	}))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if err := c.Login("anonymous", "anonymous@"); err != nil {
		c.Quit()
		return nil, ftpError("log in as anonymous", err)
	}
	return c, nil
}

func (f *ftpFiles) open(ctx context.Context, name string, from int64) (io.ReadCloser, int64, int64, error) {
	c, err := f.login(ctx)
	if err != nil {
		return nil, 0, 0, err
	}
	file := path.Join(f.base.Path, name)
	size, err := c.FileSize(file)
	if err != nil {
		size = -1 // SIZE is an extension (RFC 3659, 4)
	}
	if c.IsGetTimeSupported() {
		if t, err := c.GetTime(file); err == nil {
			if was, ok := f.time[name]; ok && !was.Equal(t) {
				from = 0 // it is another file now
			}
			f.time[name] = t
		}
	}
	r, err := c.RetrFrom(file, uint64(from))
	if te, ok := errors.AsType[*textproto.Error](err); ok && from > 0 && (te.Code == ftp.StatusNotImplemented || te.Code == ftp.StatusBadCommand) {
		from = 0 // a server that can't go on in the middle
		r, err = c.Retr(file)
	}
	if err != nil {
		c.Quit()
		return nil, 0, 0, ftpError("get "+file, err)
	}
	return &ftpBody{r, c}, from, size, nil
}

// ftpError sorts a server's answer (RFC 959, 4.2): 4yz may pass.
func ftpError(what string, err error) error {
	te, ok := errors.AsType[*textproto.Error](err)
	switch {
	case !ok:
		return fmt.Errorf("%w: %s: %w", ErrUnreachable, what, err)
	case te.Code == ftp.StatusFileUnavailable:
		return fmt.Errorf("%w: %s: %w", errMissing, what, err)
	case te.Code >= 400 && te.Code < 500:
		return fmt.Errorf("%w: %s: it answers %w", ErrUnreachable, what, err)
	}
	return fmt.Errorf("%s: the server answers %w", what, err)
}

// ftpBody is a file on its way, with the connection that it needs.
type ftpBody struct {
	*ftp.Response
	c *ftp.ServerConn
}

// Close says whether the server thinks that it has sent all.
func (b *ftpBody) Close() error {
	if b.c == nil {
		return nil
	}
	err := b.Response.Close()
	b.c.Quit()
	b.c = nil
	return err
}
