// Package model turns snapshots of the worker into the words, numbers and tones
// that the window shows. Everything here is a pure function of what it is given
// and of the time now, worded by the printer that comes first; nothing blocks and
// nothing is kept. It knows no toolkit:
// package ui copies its fields into widgets.
package model

import "studioworker/worker/observe"

// Tone says what a text or a mark means; the theme gives it a colour.
type Tone int

// The tones. The zero Tone is ordinary text.
const (
	ToneText Tone = iota
	ToneMuted
	ToneGood
	ToneBusy
	ToneBad
	TonePaused
)

// State is what a glance at the window or the tray must tell.
type State string

// The states, each with a shape and a colour of its own.
const (
	StateIdle         State = "idle"
	StateBusy         State = "busy"
	StatePaused       State = "paused"
	StateDisconnected State = "disconnected"
	StateAttention    State = "attention" // a person has to do something
)

// Tone returns the colour of the state's mark and word.
func (s State) Tone() Tone {
	switch s {
	case StateIdle:
		return ToneGood
	case StateBusy:
		return ToneBusy
	case StateAttention:
		return ToneBad
	case StatePaused:
		return TonePaused
	case StateDisconnected:
		return ToneMuted
	}
	return ToneMuted
}

// Snapshot is every single value that the window shows, taken at one moment.
// Lists are read from their rings.
type Snapshot struct {
	Settings     observe.Settings
	Registration observe.Registration
	Session      observe.Session
	Heartbeat    observe.Heartbeat
	Availability observe.Availability
	Job          observe.CurrentJob
	Outbox       observe.Outbox
	GPUs         observe.GPUs
	Downloads    []observe.Download
}

// Take reads the slots.
func Take(o *observe.WorkerObservers) Snapshot {
	return Snapshot{
		Settings:     o.Settings.Get(),
		Registration: o.Registration.Get(),
		Session:      o.Session.Get(),
		Heartbeat:    o.Heartbeat.Get(),
		Availability: o.Availability.Get(),
		Job:          o.CurrentJob.Get(),
		Outbox:       o.Outbox.Get(),
		GPUs:         o.GPUs.Get(),
		Downloads:    o.Downloads.Get(),
	}
}

// Paused says whether the person at this computer has paused it.
func (s Snapshot) Paused() bool { return s.Availability.Block == observe.BlockPaused }

// Stopping says whether the program is on its way out.
func (s Snapshot) Stopping() bool { return s.Availability.Block == observe.BlockStopping }
