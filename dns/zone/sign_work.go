package zone

import (
	"runtime"
	"slices"
	"sync"

	miekg "github.com/miekg/dns"
)

// work makes the signatures of all jobs, on all processors, and puts them into
// the zone.
func (s *signer) work() error {
	s.sortJobs()
	sets := make([][]miekg.RR, len(s.jobs))
	for i, j := range s.jobs {
		n := s.e.node(j.name, j.hashes)
		if n == nil || n.data(j.typ) == nil {
			return errVanished
		}
		sets[i] = n.data(j.typ).records(false)
	}
	errs := make([]error, len(sets))
	workers := min(runtime.GOMAXPROCS(0), len(sets))
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := w; i < len(sets); i += workers {
				var sigs []miekg.RR
				if sigs, errs[i] = s.Sign(sets[i]); errs[i] != nil {
					return
				}
				sets[i] = append(slices.Clip(sets[i]), sigs...)
			}
		})
	}
	wait.Wait()
	for i, j := range s.jobs {
		if errs[i] != nil {
			return errs[i]
		}
		if err := s.e.put(j.name, j.hashes, j.typ, sets[i]); err != nil {
			return err
		}
		records := slices.IndexFunc(sets[i], isSig)
		due, _ := s.Good(j.typ, sets[i][records:])
		s.note(due)
	}
	return nil
}

// sortJobs orders the jobs and drops those that are there twice.
func (s *signer) sortJobs() {
	seen := make(map[job]bool, len(s.jobs))
	s.jobs = slices.DeleteFunc(s.jobs, func(j job) bool {
		twice := seen[j]
		seen[j] = true
		return twice
	})
}
