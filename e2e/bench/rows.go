package main

// benches lists what can be measured, in the order of the report.
func benches() []Bench {
	return []Bench{
		verdict(),
		makespan(),
		journalCommit(),
		simulation(),
	}
}
