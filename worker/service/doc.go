// Package service has the program started by the system: as a service, so that a worker
// without a window runs from boot on, and at login, so that the window's program waits in
// the tray.
//
// A service is the service manager's: systemd on Linux (the user's own manager, which
// runs from boot on once it lingers, or the system's), launchd on macOS, the service
// manager on Windows. Starting at login is the desktop's: an autostart entry, a launch
// agent, a value of the registry's Run key.
//
// Nothing here runs in the background. Installing what is installed already changes
// nothing.
package service
