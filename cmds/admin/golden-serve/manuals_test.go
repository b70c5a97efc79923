package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// top is the repository, seen from here.
const top = "../../.."

// manualsPage is the page that leads a user of the old manuals to what there
// is now.
func manualsPage(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(top, "docs/from-the-manuals.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestManualsCommands holds each command on the page against the program: its
// verb, its options, make's words and variables, and the files that are named.
func TestManualsCommands(t *testing.T) {
	span := regexp.MustCompile("`([^`\n]+)`")
	found := map[string]int{}
	for n, line := range strings.Split(manualsPage(t), "\n") {
		cells := strings.Split(strings.ReplaceAll(line, `\|`, "/"), "|") // a bar in a cell is escaped
		if strings.HasPrefix(line, "|") && len(cells) >= 3 {
			line = strings.Join(cells[2:], "|") // the first column is the old world
		}
		for _, m := range span.FindAllStringSubmatch(line, -1) {
			words := strings.Fields(m[1])
			if len(words) == 0 {
				continue
			}
			found[words[0]]++
			if why := checkCommand(t, words); why != "" {
				t.Errorf("docs/from-the-manuals.md:%d: `%s`: %s", n+1, m[1], why)
			}
		}
	}
	for _, name := range []string{"golden-serve", "make", "karecv", "mkimage", "drvprobe"} {
		if found[name] == 0 {
			t.Errorf("the page has no command of %s", name)
		}
	}
}

// checkCommand tells what is wrong with a command; of what is none it says
// nothing, unless it is a file of ours that isn't there.
func checkCommand(t *testing.T, words []string) string {
	t.Helper()
	switch words[0] {
	case "golden-serve":
		return checkVerb(words[1:])
	case "make":
		return checkMake(t, words[1:])
	case "karecv", "drvprobe":
		return checkHelp(t, "./cmds/node/stage1/"+words[0], words[1:])
	case "mkimage":
		return checkHelp(t, "./cmds/admin/mkimage", words[1:])
	}
	for _, dir := range []string{"docs/", "templates/", "scripts/"} {
		if strings.HasPrefix(words[0], dir) {
			if _, err := os.Stat(filepath.Join(top, words[0])); err != nil {
				return err.Error()
			}
		}
	}
	return ""
}

// checkVerb wants the verb and the options of a golden-serve.
func checkVerb(words []string) string {
	args := verbFirst(newCommand(), oneWord(words))
	if len(args) == 0 {
		return ""
	}
	cmd, _, err := newCommand().Find(args[:1])
	if err != nil {
		return err.Error()
	}
	return checkFlags(cmd, args[1:])
}

func checkFlags(cmd *cobra.Command, words []string) string {
	cmd.InitDefaultHelpFlag()
	for _, w := range words {
		if w == "--" {
			break
		}
		name, _, _ := strings.Cut(w, "=")
		switch {
		case strings.HasPrefix(name, "--"):
			if cmd.Flags().Lookup(name[2:]) == nil {
				return cmd.Name() + " has no option " + name
			}
		case strings.HasPrefix(name, "-") && len(name) > 1:
			if cmd.Flags().ShorthandLookup(name[1:2]) == nil {
				return cmd.Name() + " has no option " + name
			}
		}
	}
	return ""
}

// checkMake wants the word, and what is said besides to be read by somebody.
func checkMake(t *testing.T, words []string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(top, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range words {
		if name, _, variable := strings.Cut(w, "="); variable {
			if !strings.Contains(string(b), name) {
				return "the Makefile knows no " + name
			}
		} else if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(w) + `:`).Match(b) {
			return "the Makefile has no " + w
		}
	}
	return ""
}

// checkHelp wants each option in what the program itself prints.
func checkHelp(t *testing.T, pkg string, words []string) string {
	t.Helper()
	cmd := exec.Command("go", "run", pkg, "--help")
	cmd.Dir = top
	out, err := cmd.CombinedOutput()
	if err != nil {
		return err.Error() + ": " + string(out)
	}
	for _, w := range words {
		name, _, _ := strings.Cut(w, "=")
		if strings.HasPrefix(name, "-") && !regexp.MustCompile(`(?m)[ \t]-?`+regexp.QuoteMeta(name)+`\b`).Match(out) {
			return "it has no option " + name + ":\n" + string(out)
		}
	}
	return ""
}

// TestManualsWords wants what a person of 2010 looks for, by the name that it
// had then.
func TestManualsWords(t *testing.T) {
	page := strings.ReplaceAll(manualsPage(t), `\|`, "|")
	for _, word := range oldWords {
		if !strings.Contains(page, word) {
			t.Errorf("docs/from-the-manuals.md doesn't speak of %q", word)
		}
	}
}

// oldWords are the programs, options, files, boot words and messages of the
// manuals.
var oldWords = []string{
	// programs
	"ka-d.sh", "ka-d-server", "ka-d-client", "ka-d-session.sh", "ka_replication.sh", "replication.conf", "fdisk_to_desc",
	"gen_modprobe_conf.pl", "make_initrd_grub", "make_initrd_lilo", "prepare_node.sh", "bootable_flag.sh", "udev_creation.sh",
	"store_log.sh", "send_status.pl", "status_node.pl", "clone_script", "prepare_stage2", "setup_ka_deploy.pl", "prepare_diskless_image",
	"build_kerrighed.pl", "dolly -s -v -f dolly.cfg", "dollyS -v -f dolly.cfg", "dollyC", "drvinst", "lspcidrake", "rshp2",
	"unsquashfs", "extract_compressed_fs", "urpmi",
	// options
	"-h, --help", "-n num", "-x", "-X 'sdb|sdc'", "-m drive", "-M drive file", "-D partition", "-p drive pdesc", "-d delay",
	"-r 'grub|lilo'", "--with=", "-e", "-s session", "-I", "-w", "-t", "-c path/rescue.clp", "DATA_PATH",
	// the boot line
	"automatic=", "method:ka", "method:dolly", "method:nfs", "method:http", "method:ftp", "dolly_timeout:", "interface:", "network:dhcp",
	"server:", "directory:", "kamethod", "dollymethod", "dollyCmethod", "rescue", "kaopt=", "node_id=", "ramdisk_size=", "root=/dev/ram3", "vga=788",
	// files
	"rescue.clp", "rescue.sqfs", "stage2.img", "vmlinuz", "all.rdz", "/mnt/ka", "/tmp/stage2", "/mnt/disk", "/tmp/desc", "dolly.cfg",
	"pxelinux.cfg/default", "01-MAC", "messages", "help.txt", "/var/lib/tftpboot/X86PC/linux", "/etc/dhcpd.conf", "/etc/pxe.conf",
	"/etc/xinetd.d/tftp", "install/stage2/", "diskless_node.img", "/etc/kerrighed_nodes", "/ka/go", "/tmp/kacmd", "/tmp/ka_log", "/etc/modprobe.conf",
	// words of dolly's files
	"infile", "outfile", "firstclient", "lastclient", "clients", "endconfig", "iofiles", ">>",
	// sessions and ports
	"getstage2", "kainstall1", "kainstall2", "30765", "30764", "12345", "9998",
	// messages
	"Can't reach a valid KA server", "Can't reach a valid Dolly server", "Session name matches", "Waiting for rescue from Dolly server",
	"Welcome son", "Let's go!", "I want", "Installing driver", "installing driver", "Trying to build ring", "Host marked with flag=3 has a trouble",
	"WAITING node (partition/format)", "Linux copy is about to start", "Linux copy done", "Building a new DOS disklabel", "Assertion `socket_server >=0' failed",
	"Use of uninitialized value",
	// and what is gone
	"Kerrighed", "TakTuk",
}
