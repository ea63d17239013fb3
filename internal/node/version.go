package node

import "runtime/debug"

// version is the release that this tree leads to.
const version = "0.1.0"

// Version is the release and, where the build recorded it, the revision.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return version + "+" + s.Value[:12]
		}
	}
	return version
}
