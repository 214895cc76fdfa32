// Package auth says who may publish and subscribe to what: by tokens (JWT), publisher keys,
// tickets for a browser's EventSource, and by asking the application.
package auth
