package templates

import (
	"bytes"
	"embed"
	"fmt"
	"text/template"
)

//go:embed servers
var servers embed.FS

// Server fills the template of a program's configuration, one of servers/.
func Server(name string, funcs template.FuncMap, data any) ([]byte, error) {
	t, err := template.New(name+".tmpl").Funcs(funcs).ParseFS(servers, "servers/"+name+".tmpl")
	if err != nil {
		return nil, fmt.Errorf("parse template %s: %w", name, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return nil, fmt.Errorf("fill template %s: %w", name, err)
	}
	return b.Bytes(), nil
}
