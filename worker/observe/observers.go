package observe

import (
	"log/slog"
	"strings"
	"time"
)

// Sizes of the rings and of the texts in them (spec §8.4, §9).
const (
	RecentJobsCap      = 50
	HistoryCap         = 500
	RecentLogsCap      = 1000
	PromptPreviewChars = 200
	PromptBytes        = 16 << 10 // of a prompt that is kept for its person to read
)

// WorkerObservers is everything the worker lets others see.
type WorkerObservers struct {
	Settings     Slot[Settings]
	Config       Slot[[]ConfigKey] // what a person may set, in the order of the file
	Registration Slot[Registration]
	Session      Slot[Session]
	Heartbeat    Slot[Heartbeat]
	Availability Slot[Availability]
	CurrentJob   Slot[CurrentJob]
	RecentJobs   *Ring[RecentJob]
	History      *Ring[RecentJob] // as RecentJobs, of earlier runs too; thumbnails lie in files
	Logs         *Ring[LogEntry]
	Outbox       Slot[Outbox]
	GPUs         Slot[GPUs]
	Engines      Slot[[]Engine]
	Downloads    Slot[[]Download]
	Update       Slot[Update]
	Crash        Slot[Crash] // a report that waits for the person's decision
}

// New returns observers whose slots are all empty.
func New() *WorkerObservers {
	return &WorkerObservers{
		RecentJobs: NewRing[RecentJob](RecentJobsCap),
		History:    NewRing[RecentJob](HistoryCap),
		Logs:       NewRing[LogEntry](RecentLogsCap),
	}
}

// Settings is the part of the config that people see. It never holds a secret.
type Settings struct {
	StudioURL       string  // empty until the person has chosen a studio
	PrivateStudio   bool    // this program runs the studio itself
	VRAMThresholdGB float64 // largest estimate the worker takes, in GiB
	ConfigPath      string
	Version         string
	Commit          string   // of the sources; empty = unknown
	Serves          []string // task kinds this machine can serve, in wire order
	Models          []string // models this machine can serve, as capabilities name them
}

// RegistrationState says how far the worker is with being let in (spec §6.1).
type RegistrationState string

// The states of a registration.
const (
	RegistrationPristine RegistrationState = "pristine"
	RegistrationPending  RegistrationState = "pending"
	RegistrationApproved RegistrationState = "approved"
	RegistrationRejected RegistrationState = "rejected"
)

// Registration is the state of the registration. The zero value means that
// nothing was looked at yet.
type Registration struct {
	State     RegistrationState
	RequestID string    // pending: what the operator sees
	Since     time.Time // pending: when this request was first seen pending
	WorkerID  string    // approved
	// Reason is, when rejected, the operator's words; when pristine, why the last try
	// failed; when pristine or pending, else, why this worker asks anew.
	Reason string
	// Why is the sort of Reason; empty when it is the operator's.
	Why Why
}

// SessionState says what the connection to the studio is doing (spec §7.3).
type SessionState string

// The states of a session. The zero value counts as waiting for approval.
const (
	SessionWaiting      SessionState = "waiting_for_approval"
	SessionConnecting   SessionState = "connecting"
	SessionConnected    SessionState = "connected"
	SessionReconnecting SessionState = "reconnecting"
	SessionAuthFailed   SessionState = "auth_failed"
	SessionFatal        SessionState = "fatal"
	SessionStopped      SessionState = "stopped"
)

// Session is the state of the connection to the studio.
type Session struct {
	State   SessionState
	Since   time.Time // connected: since when
	Attempt int       // reconnecting: consecutive failures, from 1
	RetryAt time.Time // reconnecting: when the next try starts
	Reason  string    // auth failed, fatal, reconnecting: why, in words for people
	Why     Why       // the sort of Reason
	// Skew is how far the studio's clock is ahead of this computer's, as the
	// welcome said; negative when behind, 0 while not connected or unknown. The way
	// of the welcome is in it.
	Skew time.Duration
}

// Heartbeat is the outcome of the last heartbeat. A zero At means that none was
// sent yet.
type Heartbeat struct {
	At        time.Time     // when the outcome was known
	Err       string        // empty when the studio acknowledged it
	Why       Why           // the sort of Err
	RoundTrip time.Duration // 0 when unknown
}

// Block is a reason why the worker takes no job.
type Block string

// The reasons, the one that counts first when several hold. BlockNone means that
// the worker takes jobs.
const (
	BlockNone       Block = ""
	BlockStopping   Block = "stopping"
	BlockPaused     Block = "paused"
	BlockDiskFull   Block = "disk_full"
	BlockHours      Block = "outside_hours"
	BlockBattery    Block = "on_battery"
	BlockUserActive Block = "user_active"
)

// Availability answers "may this machine take a job now, and why not".
type Availability struct {
	Block  Block
	Detail string    // more about the reason, in words for people; may be empty
	Why    Why       // the sort of Detail
	Until  time.Time // when the reason ends by itself; zero = nobody knows
	// FreeGB and NeedGB are the room on the disk and what must be there, in GiB with
	// one decimal, rounded down; both 0 but for a full disk.
	FreeGB, NeedGB float64
}

// Progress is how far a job is. Total 0 means that the engine cannot say.
type Progress struct {
	Step, Total int
	Text        string
}

// CurrentJob is the studio job in flight. An empty ID means that there is none.
type CurrentJob struct {
	ID       string
	Kind     string // wire name of the task kind
	Model    string
	Preview  string // the prompt's first PromptPreviewChars characters
	Prompt   string // the prompt, at most PromptBytes of it
	Started  time.Time
	Progress Progress
}

// Outcome says how a job ended.
type Outcome string

// The outcomes. A kept job is finished, and its result waits on disk for the
// studio.
const (
	OutcomeCompleted Outcome = "completed"
	OutcomeKept      Outcome = "kept"
	OutcomeFailed    Outcome = "failed"
	OutcomeCancelled Outcome = "cancelled"
)

// RecentJob is a finished studio job.
type RecentJob struct {
	ID         string
	Kind       string
	Model      string
	Preview    string
	Prompt     string // at most PromptBytes of it
	Started    time.Time
	Duration   time.Duration
	Outcome    Outcome
	Error      string // failed: why, in one line
	Class      string // failed: the sort of failure, as engines name it; empty = unknown
	ResultPath string // where the result lies on this machine; empty when there is none
	ResultExt  string // format of the result, without a dot
	Thumbnail  []byte // PNG, longer side at most 384 px; nil when there is none
	// ThumbnailPath is where the thumbnail lies as a PNG file; empty when there is
	// none, and in RecentJobs.
	ThumbnailPath string
}

// LogEntry is one line for people, already without secrets.
type LogEntry struct {
	At       time.Time
	Level    slog.Level
	Category string
	Message  string
	JobID    string // empty when the line belongs to no job
}

// LogQuery says which lines are wanted. The zero LogQuery wants all of them.
type LogQuery struct {
	Before time.Time // not later than this, to the millisecond; zero = up to now
	Min    slog.Level
	Search string // looked for in message, category and job id, without regard to case
	JobID  string // only this job's; empty = any
	Limit  int    // so many of the newest that fit
}

// Fits says whether the query wants a line, whatever its time.
func (q LogQuery) Fits(e LogEntry) bool {
	if e.Level < q.Min || q.JobID != "" && e.JobID != q.JobID {
		return false
	}
	needle := strings.ToLower(strings.TrimSpace(q.Search))
	return needle == "" ||
		strings.Contains(strings.ToLower(e.Message), needle) ||
		strings.Contains(strings.ToLower(e.Category), needle) ||
		strings.Contains(strings.ToLower(e.JobID), needle)
}

// Outbox is what waits on disk to be delivered.
type Outbox struct {
	Count     int
	Bytes     int64
	Oldest    time.Time    // zero when nothing waits
	LastError string       // why the last try did not work; empty: it did
	Why       Why          // the sort of LastError
	Kept      []KeptResult // results the studio would not take, oldest first
}

// KeptResult is a result that the studio refused with 409. It stays until the
// studio offers the job again, the person saves or discards it, or it expires.
type KeptResult struct {
	Key     string // names it towards the controls; not for people
	JobID   string
	Kind    string
	Model   string
	Ext     string // format, without a dot
	Bytes   int64
	Since   time.Time
	Expires time.Time
}

// GPU is one graphics card. Memory is in bytes, 0 when unknown.
type GPU struct {
	Name   string
	Driver string
	Total  uint64
	Free   uint64
	// FreeUnknown: Total is known, Free is not.
	FreeUnknown bool
	Note        string // why memory is unknown, or whose it is, in words for people; may be empty
	Why         Why    // the sort of Note
}

// GPUs is what was found at the last look. A zero At means that nobody looked
// yet.
type GPUs struct {
	At   time.Time
	List []GPU
}

// Engine is what is known of one engine of this build.
type Engine struct {
	ID      string   // as the wire names it, for example "llama-cpp"
	Found   string   // the program's path, or where the engine lives; empty = not found
	Version string   // empty = unknown
	Kinds   []string // task kinds it can serve now
	Models  []string // what it can serve now
	Loaded  []string // models that are in memory
	Problem string   // why it can serve nothing, in one line; empty = none
	Fix     string   // the command or step that mends the problem
}

// Download is one model file on its way.
type Download struct {
	Model string
	File  string  // its name in the models folder
	Bytes int64   // received so far
	Total int64   // 0 = unknown
	Rate  float64 // bytes a second, over the last seconds
	Since time.Time
}

// UpdateState says how far an update of this program is.
type UpdateState string

// The states of an update.
const (
	UpdateNone        UpdateState = ""            // nobody looked yet, or nothing newer
	UpdateUnsupported UpdateState = "unsupported" // this build or install updates otherwise; Detail says how
	UpdateChecking    UpdateState = "checking"
	UpdateAvailable   UpdateState = "available"
	UpdateDownloading UpdateState = "downloading"
	UpdateReady       UpdateState = "ready" // verified; waits for a moment without work
	UpdateApplying    UpdateState = "applying"
	UpdateHeld        UpdateState = "held" // this release failed here; waits for a higher one
	UpdateFailed      UpdateState = "failed"
)

// Update is the outcome of the last look for a release.
type Update struct {
	State   UpdateState
	Version string // the release it is about
	Notes   string // what it brings, plain text
	Bytes   int64  // size of the download
	Done    int64  // received so far
	Checked time.Time
	Detail  string // one sentence for people; may be empty
	Why     Why    // the sort of Detail
}

// Crash is the report of a crash that was neither sent nor discarded. An empty ID means
// that there is none.
type Crash struct {
	ID   string // names it towards the controls; not for people
	At   time.Time
	Text string // exactly what would be sent
	// Sendable says that this build has an address for reports.
	Sendable bool
}

// Preview shortens a prompt for the eye: its first PromptPreviewChars
// characters (Unicode code points), then an ellipsis if there was more
// (spec §8.4).
func Preview(prompt string) string {
	n := 0
	for i := range prompt {
		if n == PromptPreviewChars {
			return prompt[:i] + "…"
		}
		n++
	}
	return prompt
}

// Prompt shortens a prompt to what is kept for its person to read: its first
// PromptBytes bytes, cut between two characters, then an ellipsis.
func Prompt(prompt string) string {
	if len(prompt) <= PromptBytes {
		return prompt
	}
	const ellipsis = "…"
	return strings.ToValidUTF8(prompt[:PromptBytes-len(ellipsis)], "") + ellipsis
}
