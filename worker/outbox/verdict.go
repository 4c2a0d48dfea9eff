package outbox

import "net/http"

// verdict says what to do with an entry after an answer of the studio.
type verdict string

const (
	verdictDelivered  verdict = "delivered"   // the studio has it
	verdictKeep       verdict = "keep"        // not now, perhaps when it offers the job again
	verdictDrop       verdict = "drop"        // nobody will ever want it
	verdictRefuse     verdict = "refuse"      // it will never take this one: a person must look
	verdictPark       verdict = "park"        // no use to send anything until the session is up again
	verdictMissing    verdict = "missing"     // retry this entry, for a day
	verdictRetry      verdict = "retry"       // retry this entry, others may go first
	verdictStudioDown verdict = "studio_down" // retry, and send nothing else before
)

// judge is the one place that decides what an answer to `complete` means
// (reliability guide §3.2). html says that the body claims to be a web page: no
// studio answers so, but captive portals and proxies do.
func judge(status int, html bool) verdict {
	switch {
	case html && (status < 300 || status == http.StatusGone):
		return verdictStudioDown // the two answers that end an entry must be the studio's own
	case status >= 200 && status < 300:
		return verdictDelivered
	}
	switch status {
	case http.StatusConflict: // 409: not claimed by us now; the answer to an earlier try may have been lost
		return verdictKeep
	case http.StatusGone: // 410: the job was removed
		return verdictDrop
	case http.StatusBadRequest, // 400: our request makes no sense to the studio
		http.StatusRequestEntityTooLarge, // 413: larger than it ever takes
		http.StatusUnprocessableEntity:   // 422: the bytes do not have their hash
		return verdictRefuse
	case http.StatusUnauthorized, // 401: the token was revoked; registration mends it
		http.StatusForbidden: // 403: this worker may not
		return verdictPark
	case http.StatusNotFound: // 404: perhaps restored from a backup, and the job comes back
		return verdictMissing
	case http.StatusRequestTimeout, // 408: our line was too slow
		http.StatusTooEarly,           // 425: asked to come again
		http.StatusTooManyRequests,    // 429: too fast
		http.StatusBadGateway,         // 502: a proxy without a studio behind it
		http.StatusServiceUnavailable, // 503: it restarts or sheds load
		http.StatusGatewayTimeout:     // 504: a proxy that lost patience
		return verdictStudioDown
	}
	// Another 5xx may be this entry's own, so the others go on. So may any other
	// 4xx: 405, 407 or 451 come from something in between, and no one of them
	// says that the result is bad. A redirect that we do not follow ends here.
	return verdictRetry
}
