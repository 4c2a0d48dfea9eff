//go:build !linux && !darwin && !windows

package service

import (
	"context"
	"errors"
)

const bootHint = ""

func (s *Service) describe() error             { return ErrNoManager }
func (s *Service) reach(context.Context) error { return nil }

func (s *Service) settle(context.Context) error { return nil }
func (s *Service) atBoot(context.Context) bool  { return false }
func administrator() bool                       { return false }

func (l Login) path() (string, error) { return "", errors.ErrUnsupported }
func (l Login) text() string          { return desktopEntry(l) }
