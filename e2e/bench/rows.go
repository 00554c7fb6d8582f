package main

// benches lists what can be measured, in the order of the report.
func benches() []Bench {
	return append([]Bench{
		ingest(),
		rebuild("graph_rebuild_5k", 0),
		rebuild("graph_rebuild_5k_cycles", reversedEdges),
		rebuildLarge(),
		groupOfSymptom(),
		verdict(),
		makespan(),
		journalCommit(),
		simulation(),
		pushSmall(),
		pushLarge(1000, 20, 5, 2),
		pushLarge(5000, 6, 3, 1),
		heapPerProxy(),
		envoy30(),
		gateAfterInFlight(),
		kernelShare(),
		makespanLive(),
	}, noticeStrong()...)
}
