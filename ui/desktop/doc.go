// Package desktop puts the window of package ui on a screen: it owns the Fyne
// application, its life cycle and the tray icon. It is the only package that
// imports Fyne's driver, and with the build tag headless it is empty. [Run]
// blocks on the main goroutine, as Fyne needs it.
package desktop
