package service

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

const (
	// watchdog is how long the worker may be silent before systemd starts it anew. It
	// says that it is well twice as often.
	watchdog = time.Minute
	// stopReserve is what a stop may take beyond the wait for the job: the engine's end,
	// the last logs.
	stopReserve = 15 * time.Second
)

// unit writes the file that systemd reads.
//
// A worker that quits by command ends with 0 and stays down; one that fails, is killed or
// stops answering is started anew. When an engine is killed for want of memory the worker
// goes on and says so. What the worker does not need is closed to it: everything but its
// own folders is read-only, and it can gain no rights. It keeps the devices, since the GPU
// is one, and memory that is writable and executable, which GPU drivers make at run time.
func unit(c Config) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Written by `studio-worker service install`, which replaces it.")
	line("[Unit]")
	line("Description=%s: %s", displayName, strings.ToLower(description[:1])+description[1:])
	line("Documentation=man:studio-worker(1)")
	if c.System { // the user's manager has no network target
		line("Wants=network-online.target")
		line("After=network-online.target")
	}
	line("StartLimitIntervalSec=10min")
	line("StartLimitBurst=10")
	line("")
	line("[Service]")
	line("Type=notify")
	// systemd takes the program as it stands, but for %, and reads $ in its arguments only.
	command := []string{`"` + strings.ReplaceAll(c.Program, "%", "%%") + `"`}
	for _, argument := range c.arguments() {
		command = append(command, strings.ReplaceAll(quoteUnit(argument), "$", "$$"))
	}
	line("ExecStart=%s", strings.Join(command, " "))
	if c.System {
		line("User=%s", c.User)
	}
	line("Restart=on-failure")
	line("RestartSec=5s")
	line("WatchdogSec=%ds", int(watchdog.Seconds()))
	line("TimeoutStopSec=%ds", int((c.Drain + stopReserve).Seconds()))
	line("KillMode=mixed")
	line("OOMPolicy=continue")
	line("Nice=5")
	line("UMask=0077")
	line("")
	line("NoNewPrivileges=yes")
	line("LockPersonality=yes")
	line("RestrictRealtime=yes")
	line("RestrictSUIDSGID=yes")
	line("RestrictNamespaces=yes")
	line("SystemCallArchitectures=native")
	line("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK")
	line("SystemCallFilter=@system-service")
	line("SystemCallErrorNumber=EPERM")
	if c.System { // what only the system's manager can do
		line("CapabilityBoundingSet=")
		line("AmbientCapabilities=")
		line("ProtectSystem=strict")
		line("ProtectHome=read-only")
		line("PrivateTmp=yes")
		line("ProtectClock=yes")
		line("ProtectHostname=yes")
		line("ProtectKernelLogs=yes")
		line("ProtectKernelModules=yes")
		line("ProtectKernelTunables=yes")
		line("ProtectControlGroups=yes")
		line("ProtectProc=invisible")
		line("RemoveIPC=yes")
		for _, folder := range c.writable() {
			line("ReadWritePaths=%s", quoteUnit("-"+folder)) // may not be there yet
		}
	}
	line("")
	line("[Install]")
	if c.System {
		line("WantedBy=multi-user.target")
	} else {
		line("WantedBy=default.target")
	}
	return b.String()
}

// unfitForUnit are the characters that systemd refuses in the path of a program.
const unfitForUnit = `"'\`

// quoteUnit writes one word of a unit's line: systemd reads %, \ and quotes.
func quoteUnit(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(s)
	return `"` + s + `"`
}

// desktopEntry writes the entry that desktops on Linux read at login.
func desktopEntry(l Login) string {
	command := []string{quoteEntry(l.Program)}
	for _, argument := range l.arguments() {
		command = append(command, quoteEntry(argument))
	}
	return strings.Join([]string{
		"[Desktop Entry]",
		"Type=Application",
		"Name=" + displayName,
		"Comment=" + description,
		"Exec=" + strings.Join(command, " "),
		"Icon=studio-worker",
		"Terminal=false",
		"X-GNOME-Autostart-enabled=true",
		"",
	}, "\n")
}

// quoteEntry writes one word of an entry's Exec line. The line is unquoted twice: as a
// string of the file, and as words of a command; % begins a field.
func quoteEntry(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`).Replace(s)
	s = strings.NewReplacer(`\`, `\\`, `%`, `%%`).Replace(s)
	return `"` + s + `"`
}

// plist writes what launchd reads: an agent that starts at login or a daemon that starts
// at boot.
func plist(label, program string, arguments []string, keepAlive bool, user, logs string) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" +
		`<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">` + "\n" +
		`<plist version="1.0"><dict>` + "\n")
	text := func(key, value string) {
		fmt.Fprintf(&b, "\t<key>%s</key><string>%s</string>\n", key, escapeXML(value))
	}
	text("Label", label)
	b.WriteString("\t<key>ProgramArguments</key><array>\n")
	for _, word := range append([]string{program}, arguments...) {
		fmt.Fprintf(&b, "\t\t<string>%s</string>\n", escapeXML(word))
	}
	b.WriteString("\t</array>\n\t<key>RunAtLoad</key><true/>\n")
	if keepAlive { // but not after a quit
		b.WriteString("\t<key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>\n\t<key>ThrottleInterval</key><integer>10</integer>\n")
	}
	if user != "" {
		text("UserName", user)
	}
	if logs != "" {
		text("StandardErrorPath", filepath.Join(logs, "launchd.log"))
	}
	b.WriteString("\t<key>ProcessType</key><string>Background</string>\n</dict></plist>\n")
	return b.String()
}

func escapeXML(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(s)
}
