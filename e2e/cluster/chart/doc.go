// Package chart renders a Helm chart without Helm, for tests: it knows the functions of
// templates that our own chart uses, and installs nothing.
package chart
