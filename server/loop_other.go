//go:build !linux || portable || !(amd64 || arm64)

package server

func (s *Server) newLoop() loop { return nil }
