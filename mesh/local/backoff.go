package local

import "time"

// Back-off of children that die: at once or after firstPause, then doubling.
const (
	firstPause = 100 * time.Millisecond
	mostPause  = 5 * time.Second
	calmAfter  = 30 * time.Second // a child that lived so long begins anew
)

// backoff says how long to wait before a child is started again.
type backoff struct {
	eager bool // no pause the first time
	pause time.Duration
	tries int
}

// next returns the pause before the next start of a child that lived for lived.
func (b *backoff) next(lived time.Duration) time.Duration {
	if lived >= calmAfter {
		b.tries = 0
	}
	b.tries++
	switch {
	case b.tries == 1 && b.eager:
		b.pause = 0
	case b.pause == 0 || b.tries == 1:
		b.pause = firstPause
	default:
		b.pause = min(2*b.pause, mostPause)
	}
	return b.pause
}
