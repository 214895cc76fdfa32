// Package torture is a test: it runs the real server, kills it at random moments while
// many publish and many are subscribed, starts it again, and in the end compares what was
// promised with what is there.
//
// "go test ./torture" kills it a few times, "make torture" a hundred times. These
// variables of the environment change what it does:
//
//	TIDEWIRE_TORTURE_KILLS  how often the server is killed
//	TIDEWIRE_TORTURE_SEED   the seed of a run, as a failed one has told it; what is
//	                        random is drawn alike, but no two runs are the same
//	TIDEWIRE_TORTURE_FLAGS  flags for "tidewire serve", separated by spaces; with
//	                        "--sync never" the test should fail
package torture
