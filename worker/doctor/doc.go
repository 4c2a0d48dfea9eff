// Package doctor looks for what keeps a worker from working: in its files, on the way to
// its studio, in the computer's graphics, engines and desktop. Each check says what it
// found and, when that is a problem, what mends it.
//
// A check that cannot say anything because an earlier one failed is skipped, so that one
// fault has one name. Nothing is changed, and no job is disturbed: the studio is asked
// questions that leave nothing behind.
package doctor
