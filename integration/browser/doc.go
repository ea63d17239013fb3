// Package browser has the tests of the lab's page in a real browser: Debian's
// Chromium, driven by chromedp. It is a module of its own, so that what they
// need is no part of the product's go.mod; they run the built program.
package browser
