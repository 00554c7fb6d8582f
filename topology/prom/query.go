package prom

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// join puts selectors together.
func join(selectors ...string) string {
	return "{" + strings.Join(slices.DeleteFunc(selectors, func(s string) bool { return s == "" }), ",") + "}"
}

// labels lists what the calls of f are summed by.
func (f *family) labels() []string {
	var list []string
	for _, p := range slices.Concat(f.caller, f.callee) {
		list = append(list, p.namespace, p.name)
	}
	list = append(list, f.rank)
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(l string) bool { return l == "" })
}

// since is the increase of each series in a window that ends now. It is exact where
// increase() is an extrapolation, and sums up over windows that tile. A series that fell
// was reset; one that the window does not begin with is left out.
func since(series string, window time.Duration) string {
	was := fmt.Sprintf("%s offset %dms", series, window.Milliseconds())
	return fmt.Sprintf("((%s - %s) >= 0 or (%s and %s))", series, was, series, was)
}

// sum sums by labels; of too many rows the largest remain.
func sum(labels []string, series string) string {
	return fmt.Sprintf("topk(%d, sum by (%s) (%s))", MaxRows, strings.Join(labels, ","), series)
}

// some is sum without what is 0.
func some(labels []string, series string) string { return sum(labels, series) + " > 0" }

// appeared asks for edges with series that the window does not begin with; without a
// window, for all.
func (f *family) appeared(window time.Duration) string {
	series := f.counter + join(f.selector)
	if window == 0 {
		return some(f.labels(), series)
	}
	return some(f.labels(), fmt.Sprintf("%s unless %s offset %dms", series, series, window.Milliseconds()))
}

// called asks for calls.
func (f *family) called(window time.Duration) string {
	return some(f.labels(), since(f.counter+join(f.selector), window))
}

// failing asks for failed calls; "" if they are not counted.
func (f *family) failing(window time.Duration) string {
	if f.failures != "" {
		return some(f.labels(), since(f.failures+join(f.selector), window))
	}
	var all []string
	for _, selector := range f.failed {
		all = append(all, since(f.counter+join(f.selector, selector), window))
	}
	if len(all) == 0 {
		return ""
	}
	return some(f.labels(), strings.Join(all, " or "))
}

// timing asks for calls by bucket, which are counted cumulatively and matter where they are
// 0 too; "" if there are none.
func (f *family) timing(window time.Duration) string {
	if f.buckets == "" {
		return ""
	}
	return sum(append(f.labels(), "le"), since(f.buckets+join(f.selector), window))
}

// scraped asks when the newest sample was taken.
func (f *family) scraped() string {
	return fmt.Sprintf("max(timestamp(%s))", f.counter+join(f.selector))
}
