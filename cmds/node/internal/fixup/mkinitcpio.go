package fixup

import (
	"context"
	"io/fs"
	"regexp"
	"strings"
)

// mkinitcpio is Arch's way: all its presets are made again, without the hook
// that leaves out what the machine it runs on has no use for.
func (c *clone) mkinitcpio(ctx context.Context, rep *StepReport, kernels []kernel) error {
	const conf = "/etc/mkinitcpio.conf"
	if with := c.env.Plan.Loader.With; len(with) > 0 {
		there, err := c.edit(rep, conf, "modules asked for", func(s string) string { return addArrayWords(s, "MODULES", with) })
		if err != nil {
			return err
		}
		if !there {
			rep.touch(conf, "modules asked for")
			if err := c.tree.write(conf, []byte(addArrayWords("", "MODULES", with)), 0o644); err != nil {
				return err
			}
		}
	}
	before := make(map[string]fs.FileInfo)
	for _, k := range kernels {
		if k.initrd != "" {
			before[k.initrd], _ = c.tree.stat(k.initrd)
		}
	}
	if err := c.chroot.run(ctx, "mkinitcpio", "-P", "-S", "autodetect"); err != nil {
		return err
	}
	for _, k := range kernels {
		if k.initrd == "" { // inside an image of kernel and initrd in one
			continue
		}
		if err := c.made(rep, "mkinitcpio", k.initrd, before[k.initrd]); err != nil {
			return err
		}
	}
	return nil
}

// addArrayWords adds words to a list of the shell's, NAME=(a b), to the last
// one of that name, which is the one that counts.
func addArrayWords(text, name string, words []string) string {
	all := regexp.MustCompile(`(?m)^[ \t]*`+name+`=\(([^)#]*)\)`).FindAllStringSubmatchIndex(text, -1)
	if len(all) == 0 {
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		return text + name + "=(" + strings.Join(words, " ") + ")\n"
	}
	at := all[len(all)-1]
	have := map[string]bool{}
	for _, w := range strings.Fields(text[at[2]:at[3]]) {
		have[plainModule(strings.Trim(w, `"'`))] = true
	}
	list := strings.TrimRight(text[at[2]:at[3]], " \t\n")
	for _, w := range words {
		if !have[plainModule(w)] {
			have[plainModule(w)] = true
			list = strings.TrimLeft(list+" "+w, " ")
		}
	}
	if strings.Join(strings.Fields(list), " ") == strings.Join(strings.Fields(text[at[2]:at[3]]), " ") {
		return text
	}
	return text[:at[2]] + list + text[at[3]:]
}
