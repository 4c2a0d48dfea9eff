package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"studioworker/gpu"
	"studioworker/worker/config"
	"studioworker/worker/network"
	"studioworker/worker/observe"
	"studioworker/worker/protocol"
	"studioworker/worker/registration"
)

// Result says how a check ended.
type Result string

// How a check ends.
const (
	OK      Result = "ok"
	Problem Result = "problem"
	Skipped Result = "skipped" // there is nothing to check, or an earlier problem hides it
)

// Finding is what one check found.
type Finding struct {
	Check  string `json:"check"`
	Result Result `json:"result"`
	Detail string `json:"detail"`        // one line
	Fix    string `json:"fix,omitempty"` // what to do about a problem
}

// Names of the checks, in the order they are made.
const (
	CheckConfig      = "permissions"
	CheckDisk        = "disk"
	CheckDNS         = "dns"
	CheckProxy       = "proxy"
	CheckTLS         = "tls"
	CheckStudio      = "studio"
	CheckClock       = "clock"
	CheckToken       = "token"
	CheckGPU         = "gpu"
	CheckEngines     = "engines"
	CheckPorts       = "ports"
	CheckPresence    = "presence"
	CheckTray        = "tray"
	CheckUpdate      = "update"
	skippedForConfig = "the config cannot be read"
)

const (
	// enough is the free space that a worker wants for its results, in bytes: below, it
	// takes no jobs.
	enough = 1 << 30
	// muchSkew is what a clock may be off before certificates and times go wrong.
	muchSkew = 2 * time.Minute
	// patience is how long one question to the network may take.
	patience = 10 * time.Second
)

// Config says what to look at.
type Config struct {
	Path    string // of the config
	Version string
	Feed    string // of the build, when the config names none; empty = none
	Running bool   // a worker with this config runs: ports in use are its own

	Open     func() (*config.Store, error) // reads the config
	Lookup   func(ctx context.Context, host string) ([]string, error)
	FreeDisk func(dir string) (uint64, error)
	GPUs     func(context.Context) ([]gpu.Device, error)
	Engines  func(context.Context) []observe.Engine
	// IdleFor says how long nobody has used this computer, or why it cannot tell.
	IdleFor func(context.Context) (time.Duration, error)
	// TrayHost says whether the desktop shows tray icons; nil where there is no desktop.
	TrayHost func(context.Context) (bool, error)
}

// Run makes the checks one after the other and tells each finding at once. It takes some
// seconds, up to a minute when the network is silent.
func Run(ctx context.Context, cfg Config, tell func(Finding)) {
	d := &doctor{cfg: cfg, tell: tell}
	d.files()
	d.disk()
	d.studio(ctx)
	d.machine(ctx)
	d.update(ctx)
}

// doctor is one examination.
type doctor struct {
	cfg   Config
	tell  func(Finding)
	store *config.Store // nil when the config cannot be read
	net   *network.Network
}

func (d *doctor) ok(check, detail string)      { d.tell(Finding{check, OK, detail, ""}) }
func (d *doctor) skipped(check, detail string) { d.tell(Finding{check, Skipped, detail, ""}) }

func (d *doctor) problem(check string, err error, fix string) {
	d.tell(Finding{check, Problem, strings.Join(strings.Fields(err.Error()), " "), fix})
}

// files reads the config and looks whether its folder takes new files.
func (d *doctor) files() {
	store, err := d.cfg.Open()
	switch {
	case errors.Is(err, config.ErrMode):
		d.problem(CheckConfig, err, "chmod 600 "+d.cfg.Path)
		return
	case err != nil:
		d.problem(CheckConfig, err, "see docs/config.md, or set the file aside: the next start writes a new one")
		return
	}
	d.store = store
	dir := filepath.Dir(d.cfg.Path)
	f, err := os.CreateTemp(dir, ".doctor-*")
	if errors.Is(err, os.ErrNotExist) {
		d.ok(CheckConfig, "no config yet; the defaults hold")
		return
	}
	if err == nil {
		err = errors.Join(f.Close(), os.Remove(f.Name()))
	}
	if err != nil {
		d.problem(CheckConfig, fmt.Errorf("the folder of the config takes no files: %w", err), "chown and chmod 700 "+dir)
		return
	}
	// A wrong address is the studio's finding.
	if bad, ok := errors.AsType[*config.KeyError](store.Get().Validate()); ok && bad.Key != "api_base_url" {
		d.problem(CheckConfig, bad, "change "+bad.Key+" in "+d.cfg.Path)
		return
	}
	d.ok(CheckConfig, d.cfg.Path)
}

// disk looks for room where results and models lie.
func (d *doctor) disk() {
	if d.store == nil {
		d.skipped(CheckDisk, skippedForConfig)
		return
	}
	var seen []string
	for _, dir := range []string{filepath.Dir(d.cfg.Path), d.store.Get().ModelsRoot} {
		there := existing(dir)
		free, err := d.cfg.FreeDisk(there)
		if err != nil {
			d.problem(CheckDisk, err, "see whether the disk is mounted")
			return
		}
		if free < enough {
			d.problem(CheckDisk, fmt.Errorf("%s has %s free, and the worker takes no jobs below %s", there, size(free), size(enough)),
				"free some space, or choose another models_root")
			return
		}
		seen = append(seen, fmt.Sprintf("%s free at %s", size(free), there))
	}
	d.ok(CheckDisk, strings.Join(seen, ", "))
}

// existing is the nearest folder above path that is there.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || filepath.Dir(path) == path {
			return path
		}
		path = filepath.Dir(path)
	}
}

func size(n uint64) string { return fmt.Sprintf("%.1f GB", float64(n)/1e9) }

// machine looks at what is on this computer.
func (d *doctor) machine(ctx context.Context) {
	d.graphics(ctx)
	d.engines(ctx)
	d.ports(ctx)
	d.presence(ctx)
	d.tray(ctx)
}

func (d *doctor) graphics(ctx context.Context) {
	devices, err := d.cfg.GPUs(ctx)
	if err != nil {
		d.problem(CheckGPU, err, "install the driver of the graphics card anew")
		return
	}
	if len(devices) == 0 {
		d.ok(CheckGPU, "no graphics card: jobs run on the processor")
		return
	}
	var seen []string
	for _, dev := range devices {
		if dev.Unreadable() {
			d.problem(CheckGPU, fmt.Errorf("%s: %s", dev.Name, dev.Note), "install the driver of the graphics card, and restart the computer")
			return
		}
		what := dev.Name
		if dev.TotalBytes > 0 {
			what += " with " + size(dev.TotalBytes)
		}
		seen = append(seen, what)
	}
	d.ok(CheckGPU, strings.Join(seen, ", "))
}

// engines names each engine that is there and does not work. One that is not installed is
// no problem while another serves something.
func (d *doctor) engines(ctx context.Context) {
	var serve []string
	var broken *observe.Engine
	for _, e := range d.cfg.Engines(ctx) {
		if len(e.Kinds) > 0 {
			serve = append(serve, e.ID)
		}
		if e.Problem != "" && e.Found != "" && broken == nil {
			broken = &e
		}
	}
	switch {
	case broken != nil:
		d.problem(CheckEngines, fmt.Errorf("%s at %s: %s", broken.ID, broken.Found, broken.Problem), broken.Fix)
	case len(serve) == 0:
		d.problem(CheckEngines, errors.New("no engine can run here, so no job will come"), "studio-worker engines")
	default:
		d.ok(CheckEngines, strings.Join(serve, ", "))
	}
}

// ports looks whether the ports that the config names are free.
func (d *doctor) ports(ctx context.Context) {
	if d.store == nil {
		d.skipped(CheckPorts, skippedForConfig)
		return
	}
	c := d.store.Get()
	var wanted []string
	if port := c.LocalAPIPort; port != nil && *port != 0 {
		wanted = append(wanted, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(*port))))
	}
	if c.HealthListen != "" {
		wanted = append(wanted, c.HealthListen)
	}
	if len(wanted) > 1 && wanted[0] == wanted[1] {
		d.problem(CheckPorts, fmt.Errorf("local_api_port and health_listen are both %s", wanted[0]), "set another port in the config")
		return
	}
	switch {
	case len(wanted) == 0:
		d.skipped(CheckPorts, "the config names none")
		return
	case d.cfg.Running:
		d.skipped(CheckPorts, "the running worker holds them")
		return
	}
	for _, address := range wanted {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			err = listener.Close()
		}
		if err != nil {
			d.problem(CheckPorts, fmt.Errorf("%s: %w", address, err), "stop the program that holds it, or set another port in the config")
			return
		}
	}
	d.ok(CheckPorts, strings.Join(wanted, ", "))
}

// presence asks what only_when_idle depends on.
func (d *doctor) presence(ctx context.Context) {
	switch {
	case d.store == nil:
		d.skipped(CheckPresence, skippedForConfig)
		return
	case !d.store.Get().OnlyWhenIdle:
		d.skipped(CheckPresence, "only_when_idle is off")
		return
	}
	if _, err := d.cfg.IdleFor(ctx); err != nil {
		d.problem(CheckPresence, fmt.Errorf("this computer does not tell whether somebody uses it, so no job is taken: %w", err),
			"turn only_when_idle off, or name weekly_hours instead")
		return
	}
	d.ok(CheckPresence, "this computer tells whether somebody uses it")
}

// tray asks the desktop.
func (d *doctor) tray(ctx context.Context) {
	if d.cfg.TrayHost == nil {
		d.skipped(CheckTray, "no desktop here")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	switch shown, err := d.cfg.TrayHost(ctx); {
	case err != nil:
		d.problem(CheckTray, err, "log in to a desktop session; the window works without a tray")
	case !shown:
		d.problem(CheckTray, errors.New("this desktop shows no tray icons"),
			"on GNOME install the extension AppIndicator; the window works without a tray")
	default:
		d.ok(CheckTray, "the desktop shows tray icons")
	}
}

// update asks whether the feed answers.
func (d *doctor) update(ctx context.Context) {
	switch {
	case d.store == nil:
		d.skipped(CheckUpdate, skippedForConfig)
		return
	case d.store.Get().AutoUpdateFeed == "" && d.cfg.Feed == "":
		d.skipped(CheckUpdate, "no feed is set")
		return
	case d.net == nil:
		d.skipped(CheckUpdate, "the network cannot be used")
		return
	}
	feed := cmp.Or(d.store.Get().AutoUpdateFeed, d.cfg.Feed)
	if strings.HasSuffix(feed, "/") { // a folder, whose list is nobody's business
		feed += "keys.json"
	}
	answer, err := d.get(ctx, http.MethodGet, feed, "")
	if err == nil && answer.status != http.StatusOK {
		err = fmt.Errorf("%s answers with status %d", feed, answer.status)
	}
	if err != nil {
		d.problem(CheckUpdate, err, "see whether auto_update_feed is right, or remove it")
		return
	}
	d.ok(CheckUpdate, feed)
}

// reply is the part of an answer that is looked at.
type reply struct {
	status int
	date   string
}

// get asks one question. token may be empty.
func (d *doctor) get(ctx context.Context, method, target, token string) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, target, http.NoBody)
	if err != nil {
		return reply{}, err
	}
	r.Header.Set("User-Agent", "studio-worker/"+d.cfg.Version)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := d.net.Client().Do(r)
	if err != nil {
		return reply{}, err
	}
	return reply{answer.StatusCode, answer.Header.Get("Date")}, answer.Body.Close()
}

// studio walks the way to the studio, step by step.
func (d *doctor) studio(ctx context.Context) {
	rest := []string{CheckDNS, CheckProxy, CheckTLS, CheckStudio, CheckClock, CheckToken}
	skip := func(why string) {
		for _, check := range rest {
			d.skipped(check, why)
		}
	}
	if d.store == nil {
		skip(skippedForConfig)
		return
	}
	c := d.store.Get()
	n, err := network.New(network.Config{CAFile: c.CAFile})
	if err != nil {
		d.skipped(CheckDNS, "the certificates cannot be read")
		d.skipped(CheckProxy, "the certificates cannot be read")
		d.problem(CheckTLS, err, "mend or remove ca_file in the config")
		rest = rest[3:]
		skip("the certificates cannot be read")
		return
	}
	d.net = n
	defer n.Close()
	if !d.store.Chosen() {
		skip("no studio is chosen")
		return
	}
	way, err := newWay(c.APIBaseURL, n)
	if err != nil {
		rest = []string{CheckDNS, CheckProxy, CheckTLS, CheckClock, CheckToken}
		d.problem(CheckStudio, fmt.Errorf("api_base_url: %w", err), "studio-worker register --api-base-url ADDRESS")
		skip("the studio's address is wrong")
		return
	}
	for len(rest) > 0 {
		check := rest[0]
		rest = rest[1:]
		if !d.step(ctx, check, way) {
			skip("hidden by the problem above")
			return
		}
	}
}

// step makes one check of the way and says whether the next makes sense.
func (d *doctor) step(ctx context.Context, check string, w way) bool {
	switch check {
	case CheckDNS:
		return d.dns(ctx, w)
	case CheckProxy:
		return d.proxy(ctx, w)
	case CheckTLS:
		return d.tls(ctx, w)
	case CheckStudio:
		return d.answers(ctx, w)
	case CheckClock:
		d.clock(ctx, w)
	case CheckToken:
		d.token(ctx, w)
	}
	return true
}

// answers asks whether a studio is at the other end.
func (d *doctor) answers(ctx context.Context, w way) bool {
	if err := registration.Check(ctx, d.net.Client(), "studio-worker/"+d.cfg.Version, w.address); err != nil {
		d.problem(CheckStudio, err, "see whether the studio runs, and whether the address is right: studio-worker register --api-base-url ADDRESS")
		return false
	}
	d.ok(CheckStudio, w.address)
	return true
}

// clock compares this computer's clock with the studio's.
func (d *doctor) clock(ctx context.Context, w way) {
	answer, err := d.get(ctx, http.MethodGet, w.poll, "")
	if err != nil {
		d.skipped(CheckClock, "the studio did not answer again")
		return
	}
	says, err := http.ParseTime(answer.date)
	if err != nil {
		d.skipped(CheckClock, "the studio does not tell its time")
		return
	}
	if skew := time.Since(says).Round(time.Second); skew.Abs() > muchSkew {
		what := "ahead of"
		if skew < 0 {
			what = "behind"
		}
		d.problem(CheckClock, fmt.Errorf("this computer's clock is %v %s the studio's", skew.Abs(), what), "set the clock, or turn on network time")
		return
	}
	d.ok(CheckClock, "agrees with the studio's")
}

// token asks whether the studio knows this worker, by a result for a job that nobody has.
func (d *doctor) token(ctx context.Context, w way) {
	c := d.store.Get()
	if !c.Registered() {
		d.skipped(CheckToken, "this worker is not approved yet")
		return
	}
	base, err := protocol.ParseBase(w.address)
	var target string
	if err == nil {
		target, err = base.CompleteURL(c.WorkerID, "doctor-asks-for-no-job")
	}
	if err != nil {
		d.problem(CheckToken, err, "studio-worker register --reset")
		return
	}
	answer, err := d.get(ctx, http.MethodPost, target, c.AuthToken.Reveal())
	if err != nil {
		d.skipped(CheckToken, "the studio did not answer again")
		return
	}
	if answer.status == http.StatusUnauthorized || answer.status == http.StatusForbidden {
		d.problem(CheckToken, fmt.Errorf("the studio refuses this worker's credentials (status %d)", answer.status),
			"ask the operator whether this worker was removed, then: studio-worker register --reset")
		return
	}
	d.ok(CheckToken, "the studio knows "+c.WorkerID)
}
