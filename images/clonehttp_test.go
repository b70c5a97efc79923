package images

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/images/demo/goldenroot"
	"github.com/kamethod/kamethod/images/demo/rehearsal"
	"github.com/kamethod/kamethod/images/vmlab"
)

// TestCloneByHTTP clones a machine whose stage 2 comes from a web server, as
// its line in the nodes file says: how stage 2 came and what it does then are
// two things. `make vmtest CELL=methods`.
func TestCloneByHTTP(t *testing.T) {
	if os.Getenv("VMTEST") == "" {
		t.Skip("make vmtest CELL=methods runs it: VMTEST=1")
	}
	web := t.TempDir()
	if err := os.CopyFS(filepath.Join(web, "cs4/install"), os.DirFS("install")); err != nil {
		t.Fatal(err)
	}
	nodes := filepath.Join(t.TempDir(), "nodes.yaml")
	const line = "- {mac: 52:54:00:77:00:01, name: alpha, label: http, server: 10.77.0.1, directory: /cs4, append: " + vmlab.KernelWords + " kamethod}\n"
	if err := os.WriteFile(nodes, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	result := playClone(t, rehearsal.Config{
		Kind: goldenroot.Cloud, Nodes: 1, Serve: []string{"--nodes-file", nodes},
		Lab: func(_ context.Context, lab *vmlab.Lab) error {
			_, err := lab.Start(vmlab.ProcessSpec{Name: "httpd", Args: []string{"busybox", "httpd", "-f", "-v", "-p", "10.77.0.1:80", "-h", web}})
			return err
		},
	})
	log, err := os.ReadFile(filepath.Join(result.Work, "golden-serve.log"))
	if err != nil || strings.Contains(string(log), "sending stage 2") {
		t.Errorf("%v, golden-serve has sent stage 2:\n%s", err, log)
	}
	if asked, err := os.ReadFile(filepath.Join(result.Work, "httpd.log")); err != nil || !strings.Contains(string(asked), "response:200") {
		t.Errorf("%v, the web server has given nothing:\n%s", err, asked)
	}
}
