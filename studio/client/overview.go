package client

import "time"

// Stats is the answer to GET /api/v1/stats: how many jobs there are in each state
// now, and what ended in the last hours, the oldest first.
type Stats struct {
	States map[State]int `json:"states"`
	Hours  []Hour        `json:"hours"`
}

// Hour counts the jobs that ended in one hour.
type Hour struct {
	Start     time.Time `json:"start"` // UTC
	Done      int       `json:"done"`
	Failed    int       `json:"failed"`
	Cancelled int       `json:"cancelled"`
	Wait      *Spread   `json:"wait,omitempty"` // of the done ones, from submission to start
	Run       *Spread   `json:"run,omitempty"`  // of the done ones, from start to result
}

// Spread says how long something took, in seconds.
type Spread struct {
	Median float64 `json:"median"`
	P95    float64 `json:"p95"`
}

// Act is something that an operator did.
type Act struct {
	Seq     uint64    `json:"seq"`
	At      time.Time `json:"at"`
	Who     string    `json:"who"`
	Address string    `json:"address"`
	Did     string    `json:"did"`
	Target  string    `json:"target,omitempty"`
	Error   string    `json:"error,omitempty"` // why it was refused; empty: it was done
}

// AuditList is the answer to GET /api/v1/audit, the newest act first.
type AuditList struct {
	Acts []Act  `json:"acts"`
	Next string `json:"next,omitempty"` // cursor of the next page; empty: there is none
}

// SignInLink is the answer to POST /api/v1/sign-in-links: an address that signs
// in whoever opens it first, once. It is a secret.
type SignInLink struct {
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expiresAt"`
}
