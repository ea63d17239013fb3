//go:build race

package search

// raceDetector makes everything slower.
const raceDetector = true
